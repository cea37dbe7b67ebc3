"""Which local sessions get a regular message.

A name that begins with ``#`` is always a private group, whatever groups exist;
any other is a group, whose local members all receive.  A session receives once,
however often it is named.  Unknown and malformed names select nobody.

The usual message names one existing group by a field padded with NULs: that is
one look-up in :attr:`GroupTable.fan_out` and no work here.  For lists of groups
the receivers are kept per list until the next change of any local member; lists
with a private group are resolved each time, because sessions come and go without
an event of this layer.

Upstream misreads lists of 44 and more names; they are read right here.

Source: ``docs/protocol/groups.md`` section 5.
"""

from __future__ import annotations

import struct
from typing import Final

from txspread.engine.groups.state import GroupTable
from txspread.engine.interfaces import LocalSession, LocalSessions
from txspread.wire.constants import MAX_GROUP_NAME
from txspread.wire.derive import flatten
from txspread.wire.layouts import message as layouts
from txspread.wire.message import field_name

_HASH: Final = ord("#")
_MAX_LISTS: Final = 1024
"""Group lists whose receivers are kept, at most 3200 bytes each."""

_ROUTED_BY: Final = ("type", "num_groups", "data_len")
ROUTING_HEADER: Final = struct.Struct(
    "<"
    + "".join(
        code if name in _ROUTED_BY else f"{struct.calcsize('<' + code)}x"
        for name, code in flatten(layouts.HEADER.little)
    )
)
"""A little-endian message header of which only what routing looks at is read:
type, num_groups, data_len."""


class Router:
    """Finds the receivers of regular messages at this daemon."""

    def __init__(self, table: GroupTable, sessions: LocalSessions) -> None:
        self._table = table
        self._sessions = sessions

    def one(self, name_field: bytes) -> tuple[LocalSession, ...]:
        """Receivers of a message to one name."""
        if name_field[0] == _HASH:
            session = self._private_session(name_field)
            return () if session is None else (session,)
        group = self._table.groups.get(field_name(name_field))
        if group is None:
            return ()
        targets = self._table.fan_out[group.name_field] = group.fan_out
        return targets

    def many(self, fields: bytes) -> tuple[LocalSession, ...]:
        """Receivers of a message to the names of a whole group array, each once."""
        lists = self._table.fan_out_of_lists
        kept = lists.get(fields)
        if kept is not None:
            return kept
        chosen: dict[int, LocalSession] = {}
        private = False
        for at in range(0, len(fields), MAX_GROUP_NAME):
            field = fields[at : at + MAX_GROUP_NAME]
            private = private or field[0] == _HASH
            for session in self.one(field):
                chosen[id(session)] = session
        targets = tuple(chosen.values())
        if not private:
            if len(lists) >= _MAX_LISTS:
                lists.clear()
            lists[fields] = targets
        return targets

    def names_group(self, fields: bytes) -> bool:
        """Tell whether a group array names an existing group."""
        groups = self._table.groups
        return any(
            fields[at] != _HASH and field_name(fields[at : at + MAX_GROUP_NAME]) in groups
            for at in range(0, len(fields), MAX_GROUP_NAME)
        )

    def _private_session(self, name_field: bytes) -> LocalSession | None:
        """The session of this daemon that a private group names."""
        # Sessions here have legal names of this daemon, so no other is found.
        return self._sessions.find(field_name(name_field))
