"""Lists of representatives: who may be inserted, who is smallest, in which order.

A representative negotiates for others: a SEG_REP for itself and the daemons of
its segment that it heard, a RING_REP (the leader of a working ring) for all its
members; a POTENTIAL one is only a guess where to send JOINs.

Order: SEG_REPs before RING_REPs, so that a daemon without a ring always leads the
formation when it meets a working ring; then by segment, then by position in the
segment.  POTENTIAL ones come last.  (Upstream does not order two SEG_REPs of one
segment, so that each takes itself for the smallest and whichever timer fires
first wins.  Here the position decides; peers cannot tell.)

Source: ``docs/protocol/membership.md`` sections 4.2 and 4.4; upstream
``membership.c``, Smallest_rep, Insert_rep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from txspread.engine.membership.roster import Roster
from txspread.wire.identifiers import ProcId
from txspread.wire.membership import MAX_REPS, Representative, RepresentativeType

_POTENTIAL: Final = RepresentativeType.POTENTIAL
_RANK: Final[dict[RepresentativeType, int]] = {
    RepresentativeType.SEG_REP: 0,
    RepresentativeType.RING_REP: 1,
    RepresentativeType.POTENTIAL: 2,
}


def rank(rep: Representative, roster: Roster) -> tuple[int, int, int]:
    """Key that sorts representatives; the smallest one makes FORM1."""
    daemon = roster.find(rep.proc_id)
    return (_RANK[rep.type], rep.seg_index, 0 if daemon is None else daemon.index)


def smallest_rep(reps: Sequence[Representative], roster: Roster) -> Representative:
    """The representative that has to make FORM1; the first of equals.

    ``reps`` is not empty.
    """
    best = reps[0]
    best_rank = rank(best, roster)
    for rep in reps[1:]:
        its_rank = rank(rep, roster)
        if its_rank < best_rank:
            best, best_rank = rep, its_rank
    return best


def sort_reps(reps: Iterable[Representative], roster: Roster) -> list[Representative]:
    """Put representatives into the order in which FORM1 visits them."""
    return sorted(reps, key=lambda rep: rank(rep, roster))


def insert_rep(reps: list[Representative], new: Representative, roster: Roster) -> bool:
    """Insert into a list that keeps, in general, one entry for each daemon.

    ``new.proc_id`` is configured.  Within its segment:

    * a POTENTIAL one is inserted only if nobody of the segment is there;
    * any other takes the place of a POTENTIAL one of the segment, or of its own
      entry with another type (the segment index of the replaced entry stays), and
      is not inserted a second time.

    Returns False when the list was full (25) and the entry was refused.
    """
    segment = roster.segment_of(new.proc_id)
    for place, rep in enumerate(reps):
        if rep.seg_index != segment:
            continue
        if new.type is _POTENTIAL:
            return True
        if rep.type is not _POTENTIAL and rep.proc_id != new.proc_id:
            continue
        if rep.type is not new.type:
            reps[place] = Representative(new.proc_id, new.type, rep.seg_index)
        return True
    if len(reps) >= MAX_REPS:
        return False
    reps.append(new)
    return True


def insert_potential(reps: list[Representative], proc_id: ProcId, roster: Roster) -> None:
    """Insert a guess where to send JOINs, unless its segment is covered already."""
    insert_rep(reps, Representative(proc_id, _POTENTIAL, roster.segment_of(proc_id)), roster)
