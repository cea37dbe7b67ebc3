"""ALIVE and JOIN bodies, and the bodies of form tokens.

Source: ``docs/protocol/daemon-datagrams.md`` sections 8 and 9.
"""

from __future__ import annotations

from typing import Final

import construct
from construct import this

from txspread.wire.constants import MAX_PROCS_RING
from txspread.wire.layouts.fields import Declaration, Integers, declare, membership_id

MAX_REPS: Final = 25
"""Size of the array of representatives on a form token."""


def _counts(integers: Integers) -> Declaration:
    """4 bytes."""
    return construct.Struct("num_members" / integers.i16, "num_pending" / integers.i16)


def _rep_counts(integers: Integers) -> Declaration:
    """4 bytes."""
    return construct.Struct("num_reps" / integers.i16, "rep_index" / integers.i16)


def _rep(integers: Integers) -> Declaration:
    """8 bytes."""
    return construct.Struct(
        "proc_id" / integers.u32, "type" / integers.i16, "seg_index" / integers.i16
    )


def _members(integers: Integers) -> list[Declaration]:
    """A list of members as long as it says."""
    return [
        "counts" / _counts(integers),
        "members" / construct.Array(this.counts.num_members, integers.u32),
    ]


def _alive(integers: Integers) -> Declaration:
    return construct.Struct(*_members(integers), construct.Terminated)


def _join(integers: Integers) -> Declaration:
    return construct.Struct(
        *_members(integers),
        "rep_counts" / _rep_counts(integers),
        "reps" / construct.Array(this.rep_counts.num_reps, _rep(integers)),
        construct.Terminated,
    )


def _member_array(integers: Integers) -> list[Declaration]:
    """516 bytes: the unused end of the array is kept as it is."""
    return [
        "counts" / _counts(integers),
        "members"
        / construct.Array(this.counts.num_members + this.counts.num_pending, integers.u32),
        "unused_members"
        / construct.Bytes(4 * (MAX_PROCS_RING - this.counts.num_members - this.counts.num_pending)),
    ]


def _rep_array(integers: Integers) -> list[Declaration]:
    """204 bytes."""
    return [
        "rep_counts" / _rep_counts(integers),
        "reps" / construct.Array(this.rep_counts.num_reps, _rep(integers)),
        "unused_reps" / construct.Bytes(8 * (MAX_REPS - this.rep_counts.num_reps)),
    ]


def _ring_start(integers: Integers) -> Declaration:
    """28 bytes."""
    return construct.Struct(
        "memb_id" / membership_id(integers),
        "trans_time" / integers.i32,
        "aru" / integers.i32,
        "highest_seq" / integers.i32,
        "num_holes" / integers.i32,
        "num_commit" / integers.i16,
        "num_trans" / integers.i16,
    )


def _rings(integers: Integers) -> list[Declaration]:
    block = construct.Struct(
        "start" / _ring_start(integers),
        "holes" / construct.Array(this.start.num_holes, integers.i32),
        "commit" / construct.Array(this.start.num_commit, integers.u32),
    )
    return ["num_rings" / integers.i32, "rings" / construct.Array(this.num_rings, block)]


def _form1(integers: Integers) -> Declaration:
    return construct.Struct(
        *_member_array(integers), *_rep_array(integers), *_rings(integers), construct.Terminated
    )


def _form2(integers: Integers) -> Declaration:
    return construct.Struct(
        *_member_array(integers),
        "future_memb_id" / membership_id(integers),
        *_rings(integers),
        construct.Terminated,
    )


COUNTS: Final = declare(_counts)
REP_COUNTS: Final = declare(_rep_counts)
REP: Final = declare(_rep)
RING_START: Final = declare(_ring_start)
FUTURE_MEMB_ID: Final = declare(membership_id)
NUM_RINGS: Final = declare(lambda integers: construct.Struct("num_rings" / integers.i32))
ALIVE: Final = declare(_alive)
"""Body of an ALIVE."""
JOIN: Final = declare(_join)
"""Body of a JOIN."""
FORM1: Final = declare(_form1)
"""What follows the token header of a FORM1."""
FORM2: Final = declare(_form2)
"""What follows the token header of a FORM2."""
