"""Writing membership messages to the local members that asked for them.

A message is built once for all its receivers, and not at all when nobody here
would get it.  Sessions without membership messages are members like others and
hear nothing.

Source: ``docs/protocol/groups.md`` sections 4.2 and 4.3.
"""

from __future__ import annotations

from txspread.engine.groups import notifications
from txspread.engine.groups.state import Group
from txspread.engine.interfaces import LocalSessions
from txspread.wire.identifiers import ProcId


class Teller:
    """Tells the sessions of one daemon what becomes of their groups."""

    def __init__(self, me: ProcId, sessions: LocalSessions) -> None:
        self._me = me
        self._write = sessions.write

    def joined(self, group: Group, who: bytes) -> None:
        """One has joined; to a changed group that is a network change with a joiner."""
        if not group.told:
            return
        if group.changed:
            self.network(group, who)
            self._tell(group, notifications.transition(group))
        else:
            self._tell(group, notifications.caused_by_one(notifications.JOINED, group, who))

    def departed(self, group: Group, who: bytes, cause: int) -> None:
        """One has left or was disconnected, as ``cause`` says, unless the group is changed."""
        if not group.told:
            return
        if group.changed:
            self.network(group)
            self._tell(group, notifications.transition(group))
        else:
            self._tell(group, notifications.caused_by_one(cause, group, who))

    def self_leave(self, group: Group, who: bytes) -> None:
        """Confirm to a member of this daemon that it leaves."""
        session = group.local.get(who)
        if session is not None and session.wants_membership:
            self._write(session, notifications.self_leave(group.name))

    def transition(self, group: Group) -> None:
        """Some members may be lost; the id is still the one that clients know."""
        if group.told:
            self._tell(group, notifications.transition(group))

    def network(self, group: Group, joiner: bytes | None = None) -> None:
        """The group has another membership."""
        if not group.told:
            return
        frame, own_frame = notifications.caused_by_network(group, self._me, joiner)
        write = self._write
        for session in group.told:
            write(session, own_frame if session.private_group == joiner else frame)

    def _tell(self, group: Group, frame: bytes) -> None:
        write = self._write
        for session in group.told:
            write(session, frame)
