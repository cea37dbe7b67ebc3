"""Emulated partitions: which configured daemons this one is willing to hear.

Each configured daemon has a component number; all are 0 at start.  A datagram is
dropped on reception when its transmitter's number differs from the receiver's;
sending is unchanged.  A reload that changed the identity of a daemon puts everybody
into a component of its own until the receiver has formed a ring of one; a
monitor's values are ignored meanwhile.

Source: ``docs/protocol/daemon-datagrams.md`` section 12,
``docs/protocol/membership.md`` section 9.2; upstream ``network.c``.
"""

from __future__ import annotations

from collections.abc import Sequence

from txspread.config.model import Daemon
from txspread.engine.membership.roster import Roster


class Components:
    """Component numbers by position in the configuration."""

    def __init__(self, roster: Roster, me: Daemon) -> None:
        self._me = me
        self._daemons = roster.daemons
        self._place = _places(roster)
        self._values: list[int] = [0] * len(roster.daemons)
        self.isolated = False
        """Whether a reload keeps everybody apart."""

    @property
    def values(self) -> tuple[int, ...]:
        """One number for each configured daemon, in configuration order."""
        return tuple(self._values)

    def of(self, daemon: Daemon) -> int:
        """Component of one daemon."""
        return self._values[self._place[daemon.segment, daemon.index]]

    def set(self, values: Sequence[int]) -> bool:
        """Take a monitor's values, unless isolated or there are too few of them."""
        if self.isolated or len(values) < len(self._values):
            return False
        self._values = list(values[: len(self._values)])
        return True

    def clear(self) -> None:
        """Put everybody together, unless isolated."""
        if not self.isolated:
            self._values = [0] * len(self._values)

    def isolate(self) -> None:
        """Put everybody alone."""
        self.isolated = True
        self._values = list(range(len(self._values)))

    def rejoin(self) -> None:
        """Put everybody together."""
        self.isolated = False
        self.clear()

    def reconfigure(self, roster: Roster, me: Daemon) -> None:
        """Follow a new configuration: daemons keep their numbers, new ones get mine."""
        mine = self.of(self._me)
        old = {daemon.id: self.of(daemon) for daemon in self._daemons}
        self._me = me
        self._daemons = roster.daemons
        self._place = _places(roster)
        self._values = [old.get(daemon.id, mine) for daemon in roster.daemons]
        if self.isolated:
            self.isolate()


def _places(roster: Roster) -> dict[tuple[int, int], int]:
    """Place in configuration order by segment and position in it."""
    return {(daemon.segment, daemon.index): number for number, daemon in enumerate(roster.daemons)}
