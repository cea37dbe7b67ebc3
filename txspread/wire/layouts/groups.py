"""The state exchange message of the groups layer.

Source: ``docs/protocol/groups.md`` section 2.3.
"""

from __future__ import annotations

from typing import Final

import construct
from construct import this

from txspread.wire.layouts.fields import (
    NAME,
    Declaration,
    Integers,
    declare,
    group_id,
    membership_id,
)


def _header(integers: Integers) -> Declaration:
    """48 bytes: a message header whose sender field is divided in two."""
    return construct.Struct(
        "type" / integers.u32,
        "representative" / construct.Bytes(28),
        "set_size" / integers.u32,
        "num_groups" / integers.i32,
        "hint" / integers.u32,
        "data_len" / integers.i32,
    )


def _preamble(integers: Integers) -> Declaration:
    """9 bytes."""
    return construct.Struct("memb_id" / membership_id(integers), "flag" / construct.Byte)


def _set_size(integers: Integers) -> Declaration:
    return construct.Struct("size" / integers.u32)


def _group_start(integers: Integers) -> Declaration:
    """48 bytes."""
    return construct.Struct(
        "name" / NAME,
        "group_id" / group_id(integers),
        "changed" / integers.u16,
        "num_daemons" / integers.u16,
    )


def _daemon_start(integers: Integers) -> Declaration:
    """14 bytes."""
    return construct.Struct(
        "proc_id" / integers.u32,
        "memb_id" / membership_id(integers),
        "num_members" / integers.u16,
    )


def _groups_message(integers: Integers) -> Declaration:
    daemon = construct.Struct(
        "start" / _daemon_start(integers),
        "members" / construct.Array(this.start.num_members, NAME),
    )
    group = construct.Struct(
        "start" / _group_start(integers),
        "daemons" / construct.Array(this.start.num_daemons, daemon),
    )
    synced_set = construct.Struct(
        "size" / integers.u32, "daemons" / construct.Array(this.size, integers.u32)
    )
    return construct.Struct(
        "header" / _header(integers),
        "preamble" / _preamble(integers),
        "synced_set" / construct.If(this.preamble.flag == 1, synced_set),
        "groups" / construct.GreedyRange(group),
        construct.Terminated,
    )


GROUPS_HEADER: Final = declare(_header)
PREAMBLE: Final = declare(_preamble)
SET_SIZE: Final = declare(_set_size)
GROUP_START: Final = declare(_group_start)
DAEMON_START: Final = declare(_daemon_start)
GROUPS_MESSAGE: Final = declare(_groups_message)
