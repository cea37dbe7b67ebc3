"""The frame that clients, ring and members share, and membership message bodies.

Source: ``docs/protocol/client-session.md`` sections 3, 5 and 5.6.
"""

from __future__ import annotations

from typing import Final

import construct
from construct import this

from txspread.wire.layouts.fields import NAME, Declaration, Integers, declare, group_id


def _header(integers: Integers) -> Declaration:
    """48 bytes."""
    return construct.Struct(
        "type" / integers.u32,
        "sender" / NAME,
        "num_groups" / integers.i32,
        "hint" / integers.u32,
        "data_len" / integers.i32,
    )


def _message(integers: Integers) -> Declaration:
    return construct.Struct(
        "header" / _header(integers),
        "groups" / construct.Array(this.header.num_groups, NAME),
        "body" / construct.Bytes(this.header.data_len),
        construct.Terminated,
    )


def _reject(integers: Integers) -> Declaration:
    return construct.Struct(
        "header" / _header(integers),
        "old_type" / integers.u32,
        "groups" / construct.Array(this.header.num_groups, NAME),
        "body" / construct.Bytes(this.header.data_len),
        construct.Terminated,
    )


def _membership_start(integers: Integers) -> Declaration:
    """20 bytes."""
    return construct.Struct(
        "group_id" / group_id(integers),
        "num_vs_sets" / integers.u32,
        "local_vs_set_offset" / integers.u32,
    )


def _membership_body(integers: Integers) -> Declaration:
    vs_set = construct.Struct(
        "num_members" / integers.u32, "members" / construct.Array(this.num_members, NAME)
    )
    return construct.Struct(
        "start" / _membership_start(integers),
        "vs_sets" / construct.Array(this.start.num_vs_sets, vs_set),
        construct.Terminated,
    )


HEADER: Final = declare(_header)
MESSAGE: Final = declare(_message)
"""A whole message: header, group names, body."""
REJECT: Final = declare(_reject)
"""A reject message, which carries the refused type between header and groups."""
GROUP_ID: Final = declare(group_id)
MEMBERSHIP_START: Final = declare(_membership_start)
MEMBERSHIP_BODY: Final = declare(_membership_body)
OLD_TYPE: Final = declare(lambda integers: construct.Struct("old_type" / integers.u32))
COUNT: Final = declare(lambda integers: construct.Struct("count" / integers.u32))
"""Number of members of a vs set."""
