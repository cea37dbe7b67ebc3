"""The memberships of a daemon as an operator wants to hear of them: what, why, how long.

Upstream prints each new ring in full and leaves it to the reader to find what is
different.  Here each change makes one line more, which names the cause, who was
lost and gained, and how long it took from the moment the old ring was given up; the
last of them are kept for status pages.

A change begins when the membership machine leaves OP and ends with the installation
of a ring.  A search for other daemons that nobody answers is not a change.  When the
token is lost while the leader merely searched, the loss is the cause.

Source of the states: ``docs/protocol/membership.md`` section 5.1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from txspread.config.model import Configuration
from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.wire.identifiers import MembershipId, ProcId, format_address

MAX_CHANGES: Final = 100
"""Changes that are kept."""


@frozen
class MembershipChange:
    """One installed ring, compared with the one before it."""

    time: int
    """When it was installed, in seconds since the epoch."""
    membership_id: MembershipId
    members: tuple[str, ...]
    """Names in configuration order."""
    lost: tuple[str, ...]
    gained: tuple[str, ...]
    cause: str
    seconds: float
    """From the moment the old ring was given up, or the search for others began."""
    attempts: int
    """Times that the token was lost on the way, the first loss included."""
    configured: int
    """Daemons in the configuration."""

    def __str__(self) -> str:
        attempts = f" and {self.attempts} attempts" if self.attempts > 1 else ""
        return (
            f"Membership changed: {self.cause}; "
            f"lost {', '.join(self.lost) or 'nobody'}, "
            f"gained {', '.join(self.gained) or 'nobody'}; "
            f"{len(self.members)} of {self.configured} daemons, "
            f"leader {self.members[0]}; took {self.seconds:.3f} s{attempts}"
        )


class RingHistory:
    """Follows the membership machine, tells and keeps its changes."""

    def __init__(self, configuration: Configuration, alarms: AlarmSink, now: float) -> None:
        self._alarms = alarms
        self._names: dict[ProcId, str] = {}
        self._configured = 0
        self._members: tuple[ProcId, ...] = ()
        self._began: float | None = now
        self._cause = "start"
        self._searching = False
        self._attempts = 0
        self.changes: deque[MembershipChange] = deque(maxlen=MAX_CHANGES)
        """The last changes, oldest first."""
        self.reconfigure(configuration)

    def reconfigure(self, configuration: Configuration) -> None:
        """Learn the names of another configuration; old ones stay known for once."""
        self._configured = len(configuration.daemons)
        present = {number: self.name(number) for number in self._members}
        self._names = present | {daemon.id: daemon.name for daemon in configuration.daemons}

    def name(self, proc_id: ProcId) -> str:
        """Name of a daemon, or its address."""
        return self._names.get(proc_id) or format_address(proc_id)

    @property
    def changing(self) -> bool:
        """Whether a change is under way."""
        return self._began is not None

    def begin(self, cause: str, now: float, *, token_lost: bool, searching: bool) -> None:
        """The machine left OP, or lost the token on its way back.

        The first cause counts; but a search for others, during which the old ring
        works on, is none if the token is lost meanwhile.
        """
        if self._began is None or (token_lost and self._searching):
            self._began = now
            self._cause = cause
            self._searching = searching
            self._attempts = 0
        if token_lost:
            self._attempts += 1

    def give_up(self) -> None:
        """The machine is in OP again without a new ring: nobody answered."""
        self._began = None

    def installed(
        self, members: Sequence[ProcId], membership_id: MembershipId, now: float, time: int
    ) -> MembershipChange:
        """A ring was installed: tell and keep the change.

        ``members`` are in configuration order, ``time`` is in seconds since the epoch.
        """
        old = self._members
        change = MembershipChange(
            time=time,
            membership_id=membership_id,
            members=tuple(map(self.name, members)),
            lost=tuple(self.name(one) for one in old if one not in members),
            gained=tuple(self.name(one) for one in members if one not in old),
            cause=self._cause,
            seconds=0.0 if self._began is None else max(0.0, now - self._began),
            attempts=self._attempts,
            configured=self._configured,
        )
        self._members = tuple(members)
        self._began = None
        self.changes.append(change)
        self._alarms.alarm(Category.PRINT, Priority.INFO, "%s", change)
        return change
