"""What a daemon collects while there is no ring, and whom it asks.

Three lists, under upstream's names:

* F_members (:attr:`Gathering.heard`): the daemons I would represent, myself first;
* F_reps (:attr:`Gathering.reps`): the representatives whose JOIN I received, myself first;
* Potential_reps (:attr:`Gathering.ask`): where JOINs go by unicast.

All are bounded by the configuration and by the sizes of their arrays on the wire.

Source: ``docs/protocol/membership.md`` sections 2, 4 and 5.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from txspread.config.model import Daemon
from txspread.engine.membership.representatives import (
    insert_potential,
    insert_rep,
    smallest_rep,
    sort_reps,
)
from txspread.engine.membership.roster import Roster
from txspread.wire.constants import MAX_PROCS_RING
from txspread.wire.identifiers import ProcId
from txspread.wire.membership import Representative, RepresentativeType


class Gathering:
    """The three lists and their rules."""

    def __init__(self, me: Daemon, roster: Roster) -> None:
        self._me = me
        self._roster = roster
        self.heard: list[ProcId] = [me.id]
        self.reps: list[Representative] = []
        self.ask: list[Representative] = []
        self.rep_index = 0
        """What a JOIN says of FORM1's rep index: 1 once this process has made a FORM1.
        Without meaning there; upstream leaves it behind."""

    def reconfigure(self, me: Daemon, roster: Roster) -> None:
        """Go on with another configuration."""
        self._me = me
        self._roster = roster

    # Those heard in my segment.

    def hear_only_myself(self) -> None:
        """Start anew: I represent myself."""
        self.heard = [self._me.id]

    def hear_nobody(self) -> None:
        """A leader's JOINs carry no members: it speaks for its ring."""
        self.heard = []

    def hear(self, sender: ProcId) -> bool:
        """Count a daemon of my segment as alive; False when the list is full.

        A daemon of another segment is not counted: it cannot be visited as a member
        of mine.  (Upstream counts it when its JOIN arrives in EVS, and is then
        represented by a daemon that cannot represent it.)
        """
        if sender in self.heard or self._roster.segment_of(sender) != self._me.segment:
            return True
        if len(self.heard) >= MAX_PROCS_RING:
            return False
        self.heard.append(sender)
        return True

    def smallest_heard(self) -> ProcId:
        """First in configuration order of those heard; at least myself."""
        return self._roster.in_order((*self.heard, self._me.id))[0]

    # Representatives.

    def start(self, my_type: RepresentativeType) -> None:
        """Forget other representatives."""
        self.reps = [Representative(self._me.id, my_type, self._me.segment)]

    def count(self, sender: Representative, named: Iterable[Representative]) -> bool:
        """Take a JOIN in: its sender is heard, whom it names may be asked.

        False when a list was full and something was left out.
        """
        complete = insert_rep(self.reps, sender, self._roster)
        for rep in named:
            complete = insert_rep(self.ask, rep, self._roster) and complete
        return complete

    def note(self, rep: Representative) -> bool:
        """Remember a representative to ask; False when the list is full."""
        return insert_rep(self.ask, rep, self._roster)

    def smallest_rep(self) -> Representative:
        """Who has to make FORM1, of those heard and me."""
        return smallest_rep(self.reps, self._roster)

    def visiting_order(self) -> list[Representative]:
        """Those heard and me, in the order in which FORM1 visits."""
        return sort_reps(self.reps, self._roster)

    # Whom to ask.

    def ask_nobody(self) -> None:
        """Only those are asked who will be heard of."""
        self.ask = []

    def ask_only(self, rep: Representative) -> None:
        """Answer one JOIN."""
        self.ask = [rep]

    def ask_others_heard(self) -> None:
        """Keep the representatives heard, with their types; they come after me in the list."""
        self.ask = []
        for rep in self.reps[1:]:
            insert_rep(self.ask, rep, self._roster)

    def ask_segments_of(self, reps: Iterable[Representative]) -> None:
        """Ask one daemon of each other segment that an attempt has a representative of."""
        self.ask = []
        for rep in reps:
            if self._roster.segment_of(rep.proc_id) != self._me.segment:
                insert_potential(self.ask, rep.proc_id, self._roster)

    def ask_every_other_segment(self, members: Sequence[ProcId]) -> None:
        """Add one guess for each other segment that is not covered yet.

        The guess is the segment's first daemon among ``members`` (configuration
        order), or its first configured one.
        """
        for segment in self._roster.segments:
            if segment.index == self._me.segment:
                continue
            guess = self._roster.first_in_segment(segment.index, members)
            if guess is None:
                guess = segment.daemons[0].id
            insert_potential(self.ask, guess, self._roster)
