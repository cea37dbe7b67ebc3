"""Bodies of the monitor's datagrams.

Source: ``docs/protocol/daemon-datagrams.md`` section 10,
``docs/protocol/monitoring-and-tools.md`` sections 1.4 to 1.6.
"""

from __future__ import annotations

from typing import Final

import construct

from txspread.wire.constants import MAX_PROCS_RING
from txspread.wire.layouts.fields import Declaration, Integers, declare


def _counters(integers: Integers) -> list[Declaration]:
    """The first 82 bytes of a status body, the same in every dialect."""
    return [
        "sec" / integers.i32,
        "state" / integers.i32,
        "gstate" / integers.i32,
        "packet_sent" / integers.i32,
        "packet_recv" / integers.i32,
        "packet_delivered" / integers.i32,
        "retrans" / integers.i32,
        "u_retrans" / integers.i32,
        "s_retrans" / integers.i32,
        "b_retrans" / integers.i32,
        "aru" / integers.i32,
        "my_aru" / integers.i32,
        "highest_seq" / integers.i32,
        "token_hurry" / integers.i32,
        "token_rounds" / integers.i32,
        "my_id" / integers.u32,
        "leader_id" / integers.u32,
        "message_delivered" / integers.i32,
        "membership_changes" / integers.i16,
        "num_procs" / integers.i16,
        "num_segments" / integers.i16,
        "window" / integers.i16,
        "personal_window" / integers.i16,
    ]


def _clients_and_version(integers: Integers) -> list[Declaration]:
    return [
        "num_sessions" / integers.i16,
        "num_groups" / integers.i16,
        "major_version" / integers.i16,
        "minor_version" / integers.i16,
        "patch_version" / integers.i16,
    ]


def _status_4_4(integers: Integers) -> Declaration:
    """96 bytes."""
    return construct.Struct(
        *_counters(integers),
        "accelerated_ring" / integers.i16,
        "accelerated_window" / integers.i16,
        *_clients_and_version(integers),
    )


def _status_4_3(integers: Integers) -> Declaration:
    """92 bytes."""
    return construct.Struct(*_counters(integers), *_clients_and_version(integers))


def _partition(integers: Integers) -> Declaration:
    """256 bytes: a component number for each daemon of the configuration."""
    return construct.Struct("components" / construct.Array(MAX_PROCS_RING, integers.i16))


def _flow_control_4_4(integers: Integers) -> Declaration:
    """512 bytes."""
    row = construct.Struct("personal_window" / integers.i16, "accelerated_window" / integers.i16)
    return construct.Struct("rows" / construct.Array(MAX_PROCS_RING, row))


def _flow_control_4_3(integers: Integers) -> Declaration:
    """256 bytes."""
    return construct.Struct("windows" / construct.Array(MAX_PROCS_RING, integers.i16))


STATUS_4_4: Final = declare(_status_4_4)
STATUS_4_3: Final = declare(_status_4_3)
PARTITION: Final = declare(_partition)
FLOW_CONTROL_4_4: Final = declare(_flow_control_4_4)
FLOW_CONTROL_4_3: Final = declare(_flow_control_4_3)
