"""What FORM1 and FORM2 carry, and how each visit changes them: pure functions.

FORM1 goes from its creator through the creator's pending members, then to each
further representative and through that one's members.  Each stop appends the view
of its old ring; a representative appends its members.  The last stop sorts the
members and turns the token into FORM2, which goes round the members in
configuration order and tells each of them the result.

What a ring's entry means after the FORM1 pass:

* *aru*: the highest number that some visited member knew every member of the old
  ring to have;
* *holes*: the numbers up to *highest_seq* that no visited member of that ring has;
* *commit list*: first the visited members of that ring (the transitional members),
  then whoever one of them knew from an earlier attempt that passed its commit point.

The entry of a ring moves to the end of the list with each of its members visited.
The fixed arrays on the token are changed in place by everybody, so what lies
behind the counted entries is handed on as it came.

Source: ``docs/protocol/membership.md`` section 6; upstream ``membership.c``,
Create_form1, Fill_form1, Read_form2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from attrs import evolve, frozen

from txspread.engine.membership.roster import Roster
from txspread.engine.ring_interfaces import OldRingState
from txspread.wire.constants import MAX_PROCS_RING
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.membership import (
    MAX_FORM_REPS,
    Form1,
    Form2,
    Representative,
    RingBlock,
    placeholder_memb_id,
)

SEQUENCE_GAP: Final = 3333
"""Added to the highest number of any old ring: the number at which recovery is complete."""
_ID: Final = 4
"""Bytes of an id in the members array."""


@frozen
class MyRing:
    """What this daemon tells of the ring that it comes from."""

    me: ProcId
    id: MembershipId
    state: OldRingState
    commit: tuple[ProcId, ...]
    """Commit set in order; contains the daemon itself."""

    @property
    def sequence_floor(self) -> int:
        """What the token's ``seq`` must be at least."""
        return self.state.highest_seq + SEQUENCE_GAP


def distinct(proc_ids: Iterable[ProcId]) -> tuple[ProcId, ...]:
    """Drop repeated ids, keep the first of each."""
    return tuple(dict.fromkeys(proc_ids))


def first_entry(ring: MyRing) -> RingBlock:
    """The entry of a ring none of whose other members has been visited yet."""
    return RingBlock(
        memb_id=ring.id,
        trans_time=0,
        aru=ring.state.aru,
        highest_seq=ring.state.highest_seq,
        holes=ring.state.missing,
        commit=distinct((ring.me, *ring.commit)),
        num_trans=1,
    )


def merged_entry(entry: RingBlock, ring: MyRing) -> RingBlock:
    """The entry of my ring, with me as one more visited member."""
    state = ring.state
    mine_missing = frozenset(state.missing)
    # Below its own range a daemon has everything; above its highest number nothing.
    holes = [n for n in entry.holes if n in mine_missing or n > state.highest_seq]
    holes.extend(n for n in state.missing if n > entry.highest_seq)
    return RingBlock(
        memb_id=entry.memb_id,
        trans_time=entry.trans_time,
        aru=max(entry.aru, state.aru),
        highest_seq=max(entry.highest_seq, state.highest_seq),
        holes=tuple(holes),
        commit=distinct(
            (
                *entry.commit[: entry.num_trans],
                ring.me,
                *entry.commit[entry.num_trans :],
                *ring.commit,
            )
        ),
        num_trans=entry.num_trans + 1,
    )


def is_transitional(rings: Iterable[RingBlock], ring: MyRing) -> bool:
    """Tell whether my ring's entry says already that I was visited."""
    for entry in rings:
        if entry.memb_id == ring.id:
            return ring.me in entry.commit[: entry.num_trans]
    return False


def with_my_ring(rings: Sequence[RingBlock], ring: MyRing) -> tuple[RingBlock, ...] | None:
    """The ring list after my visit: my ring's entry moved to, or appended at, the end.

    None when that would be the 21st entry.
    """
    others = tuple(entry for entry in rings if entry.memb_id != ring.id)
    for entry in rings:
        if entry.memb_id == ring.id:
            return (*others, merged_entry(entry, ring))
    if len(rings) >= MAX_FORM_REPS:
        return None
    return (*others, first_entry(ring))


def cleaned(members: Iterable[ProcId], me: ProcId, drop: Collection[ProcId]) -> tuple[ProcId, ...]:
    """Myself first, then those of ``members`` that are neither me nor to be dropped."""
    return (me, *(member for member in members if member != me and member not in drop))


class MembersArray:
    """The members block of a FORM token while a visit changes it, in place as it is kept.

    128 ids of 4 bytes: first those visited, then those pending, then leftovers.
    """

    def __init__(self, members: Sequence[ProcId], pending: Sequence[ProcId], unused: bytes) -> None:
        self.visited = list(members)
        self.pending = list(pending)
        self._unused = unused

    @classmethod
    def empty(cls) -> MembersArray:
        """Nobody, and nothing left over."""
        return cls((), (), b"")

    def visit_next(self) -> None:
        """Move the first pending one to the visited ones."""
        self.visited.append(self.pending.pop(0))

    def append(self, group: Sequence[ProcId]) -> bool:
        """Add a representative (visited) and those it brings (pending).

        Only while nobody is pending.  False, and nothing changed, when more than
        128 would be named.
        """
        if len(self.visited) + len(group) > MAX_PROCS_RING:
            return False
        self._unused = self._unused[_ID * len(group) :]
        self.visited.append(group[0])
        self.pending.extend(group[1:])
        return True

    def leave(self, me: ProcId) -> None:
        """Take a visited one out; later entries move up, the last one stays as leftover."""
        named = [*self.visited, *self.pending]
        self.visited.remove(me)
        self._unused = (named[-1]).to_bytes(_ID, "little") + self._unused

    def restart(self, roster: Roster) -> None:
        """Make everybody pending, in configuration order: the start of FORM2."""
        self.pending = list(roster.in_order(self.visited))
        self.visited = []

    @property
    def unused(self) -> bytes:
        """The leftovers behind the counted entries."""
        return self._unused


def create_form1(
    ring: MyRing,
    attempt: MembershipId,
    conf_hash: int,
    members: Sequence[ProcId],
    reps: Sequence[Representative],
) -> Form1:
    """A FORM1 as its creator sends it.

    ``members`` are those the creator brings, itself first; ``reps`` are in visiting
    order, the creator first.
    """
    array = MembersArray.empty()
    array.append(members)
    return Form1(
        transmiter_id=ring.me,
        proc_id=ring.me,
        attempt=attempt,
        seq=ring.sequence_floor,
        conf_hash=conf_hash,
        members=tuple(array.visited),
        pending=tuple(array.pending),
        unused_members=array.unused,
        reps=tuple(reps),
        rep_index=1,
        rings=(first_entry(ring),),
    )


def filled(
    form1: Form1,
    array: MembersArray,
    rep_index: int,
    rings: tuple[RingBlock, ...],
    ring: MyRing,
    conf_hash: int,
) -> Form1:
    """A FORM1 as a stop sends it on."""
    return evolve(
        form1,
        transmiter_id=ring.me,
        proc_id=ring.me,
        seq=max(form1.seq, ring.sequence_floor),
        conf_hash=conf_hash,
        members=tuple(array.visited),
        pending=tuple(array.pending),
        unused_members=array.unused,
        rep_index=rep_index,
        rings=rings,
    )


def next_stop(form1: Form1) -> ProcId | None:
    """Who gets FORM1 next; None when everybody has been visited."""
    if form1.pending:
        return form1.pending[0]
    if form1.rep_index < len(form1.reps):
        return form1.reps[form1.rep_index].proc_id
    return None


def to_form2(form1: Form1, roster: Roster) -> Form2:
    """Turn a FORM1 that has visited everybody into the FORM2 for the first member.

    The place of the new ring's id holds the first 8 bytes of the representatives
    block, as upstream leaves it; the first member writes the id.
    """
    array = MembersArray(form1.members, form1.pending, form1.unused_members)
    array.restart(roster)
    return Form2(
        transmiter_id=form1.transmiter_id,
        proc_id=form1.proc_id,
        attempt=form1.attempt,
        seq=form1.seq,
        conf_hash=form1.conf_hash,
        members=(),
        pending=tuple(array.pending),
        unused_members=array.unused,
        future_memb_id=placeholder_memb_id(form1),
        rings=form1.rings,
    )


def entry_of(rings: Iterable[RingBlock], ring_id: MembershipId) -> RingBlock | None:
    """The entry of one old ring."""
    for entry in rings:
        if entry.memb_id == ring_id:
            return entry
    return None


def with_trans_time(
    rings: Iterable[RingBlock], ring_id: MembershipId, trans_time: int
) -> tuple[RingBlock, ...]:
    """The same entries, in the same places, with one ring's transitional time set."""
    return tuple(
        evolve(entry, trans_time=trans_time) if entry.memb_id == ring_id else entry
        for entry in rings
    )
