"""Who is configured, who counts as known, and in which order daemons stand.

Rules (``docs/protocol/membership.md`` section 1, ``docs/configuration.md``
section 4.1):

* a daemon is *known by* any address of its interface list, and by nothing else;
  of two daemons that list one address the first in the file is meant;
* the order of daemons is by segment, then by position in the segment; ids as
  numbers play no part in it.
"""

from __future__ import annotations

from collections.abc import Iterable

from txspread.config.model import Configuration, Daemon, address_id
from txspread.engine.ring_interfaces import RingView
from txspread.wire.identifiers import MembershipId, ProcId


class Roster:
    """Look-ups in one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        known: dict[ProcId, Daemon] = {}
        for daemon in configuration.daemons:
            for interface in daemon.interfaces:
                known.setdefault(address_id(interface.address), daemon)
        self.known = known
        """Every interface address of every daemon, as a number, with its daemon."""
        self.daemons = configuration.daemons
        self.segments = configuration.segments
        self.position: dict[ProcId, int] = {
            daemon.id: number
            for number, daemon in enumerate(configuration.daemons)
            if known.get(daemon.id) is daemon
        }
        """Place in configuration order, from 0, of each declared id that is known."""

    def find(self, proc_id: ProcId) -> Daemon | None:
        """The daemon that is known by this id, if any."""
        return self.known.get(proc_id)

    def all_known(self, proc_ids: Iterable[ProcId]) -> bool:
        """Tell whether every one of these ids is the declared id of a known daemon."""
        position = self.position
        return all(proc_id in position for proc_id in proc_ids)

    def in_order(self, proc_ids: Iterable[ProcId]) -> tuple[ProcId, ...]:
        """Sort declared ids into configuration order; unknown ones are left out."""
        position = self.position
        return tuple(sorted((p for p in proc_ids if p in position), key=position.__getitem__))

    def segment_of(self, proc_id: ProcId) -> int:
        """Segment index of a declared id, -1 for an unknown one."""
        number = self.position.get(proc_id)
        return -1 if number is None else self.daemons[number].segment

    def first_in_segment(self, segment: int, members: Iterable[ProcId]) -> ProcId | None:
        """First of these members, given in configuration order, that is in the segment."""
        for proc_id in members:
            if self.segment_of(proc_id) == segment:
                return proc_id
        return None

    def last_in_segment(self, segment: int, members: Iterable[ProcId]) -> ProcId | None:
        """Last of these members, given in configuration order, that is in the segment."""
        last = None
        for proc_id in members:
            if self.segment_of(proc_id) == segment:
                last = proc_id
        return last


def ring_of(me: ProcId, ring_id: MembershipId, members: tuple[ProcId, ...]) -> RingView:
    """View a ring from one of its members.

    ``members`` are in configuration order and contain ``me``.  The successor of
    the last member is the first, the leader; a lone member is its own neighbour.
    """
    place = members.index(me)
    return RingView(
        id=ring_id,
        members=members,
        leader=members[0],
        predecessor=members[place - 1],
        successor=members[(place + 1) % len(members)],
    )
