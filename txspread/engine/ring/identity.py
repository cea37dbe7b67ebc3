"""Who this daemon is, by its configuration and in its installed ring.

Shared by the parts of the ordering layer, so that none of them keeps a copy that
a reload or an installation would have to find.
"""

from __future__ import annotations

from txspread.config.model import Configuration, Daemon
from txspread.engine.ring_interfaces import RingView
from txspread.wire.identifiers import MembershipId, ProcId


class Identity:
    """What the hot paths need to know of configuration and membership."""

    __slots__ = (
        "conf_hash",
        "hurry_timeout",
        "installed_id",
        "me",
        "members",
        "position",
        "segment",
        "segments",
        "token_timeout",
    )

    def __init__(self, me: ProcId, segment: int) -> None:
        self.me = me
        self.segment = segment
        """Index of this daemon's segment."""
        self.conf_hash = 0
        self.segments = 0
        """How many segments are configured."""
        self.position: dict[ProcId, int] = {}
        """Configuration order of all daemons, from 0."""
        self.token_timeout = 0.0
        """Seconds."""
        self.hurry_timeout = 0.0
        """Seconds."""
        self.installed_id = MembershipId(0, -1)
        self.members: frozenset[ProcId] = frozenset()
        """Of the installed ring."""

    @classmethod
    def of(cls, me: Daemon, configuration: Configuration, installed: RingView) -> Identity:
        """Take everything from where it is known at the start."""
        identity = cls(me.id, me.segment)
        identity.take(configuration)
        identity.see(installed)
        return identity

    def take(self, configuration: Configuration) -> None:
        """Follow a configuration that was read (again)."""
        self.conf_hash = configuration.hash
        self.segments = len(configuration.segments)
        self.position = configuration.position
        mine = configuration.by_id.get(self.me)
        if mine is not None:
            self.segment = mine.segment
        self.token_timeout = configuration.timeouts.token
        self.hurry_timeout = configuration.timeouts.hurry

    def see(self, installed: RingView) -> None:
        """Follow the membership machine's installed ring."""
        self.installed_id = installed.id
        self.members = frozenset(installed.members)
