"""Token headers and the retransmission requests of a regular token.

Source: ``docs/protocol/daemon-datagrams.md`` sections 7 and 17.
"""

from __future__ import annotations

from typing import Final

import construct
from construct import this

from txspread.wire.layouts.fields import Declaration, Integers, declare, membership_id


def _token_header(integers: Integers, length: Declaration) -> Declaration:
    """40 bytes."""
    return construct.Struct(
        "type" / integers.u32,
        "transmiter_id" / integers.u32,
        "proc_id" / integers.u32,
        "memb_id" / membership_id(integers),
        "seq" / integers.i32,
        "aru" / integers.i32,
        "aru_last_id" / integers.u32,
        "flow_control" / integers.i16,
        "rtr_len" / length,
        "conf_hash" / integers.u32,
    )


def _token_header_4_4(integers: Integers) -> Declaration:
    return _token_header(integers, integers.i16)


def _token_header_5_0(integers: Integers) -> Declaration:
    return _token_header(integers, integers.u16)


def _token_header_4_3(integers: Integers) -> Declaration:
    """32 bytes."""
    return construct.Struct(
        "type" / integers.u32,
        "transmiter_id" / integers.u32,
        "seq" / integers.i32,
        "proc_id" / integers.u32,
        "aru" / integers.i32,
        "aru_last_id" / integers.u32,
        "flow_control" / integers.i16,
        "rtr_len" / integers.i16,
        "conf_hash" / integers.u32,
    )


def _request_header(integers: Integers) -> Declaration:
    """16 bytes."""
    return construct.Struct(
        "memb_id" / membership_id(integers),
        "proc_id" / integers.u32,
        "seg_index" / integers.i16,
        "num_seq" / integers.i16,
    )


def _requests(integers: Integers) -> Declaration:
    """The body of a regular token."""
    request = construct.Struct(
        "header" / _request_header(integers),
        "seqs" / construct.Array(this.header.num_seq, integers.i32),
    )
    return construct.Struct("requests" / construct.GreedyRange(request), construct.Terminated)


TOKEN_HEADER_4_4: Final = declare(_token_header_4_4)
TOKEN_HEADER_5_0: Final = declare(_token_header_5_0)
TOKEN_HEADER_4_3: Final = declare(_token_header_4_3)
REQUEST_HEADER: Final = declare(_request_header)
REQUESTS: Final = declare(_requests)
