"""View synchrony in one group: when a change is asked for, agreed and installed.

The daemon tells of membership changes; this layer does not let the program see one
before every member has said (FLUSH_OK) that it will send nothing more in the old view.

* The installed *view* V is what the program knows.  Changes that the daemon told of
  and that are not installed wait in ``pending``; the first of them is ``current``.
* ``still`` of a view or change are the members not known to have left.
* A change whose FLUSH_OK can no longer come, because a member left before saying it, is
  dropped, and the change that swallows it is shown as caused by the network.
* After installing, members tell each other so (FLUSH_RECV); until all have, FIFO and
  weaker messages could overtake the installation at a slower member, so they carry
  the view's id (VULNERABLE) and are held there.

========== ======================== ========================================= ==========
vstate     event                    action                                    next
========== ======================== ========================================= ==========
STEADY     new current change       deliver FLUSH_REQ                         AUTHORIZE
VERIFY     new current change       deliver FLUSH_REQ                         AUTHORIZE
AUTHORIZE  new current change       none (asked already)                      AUTHORIZE
AGREE      new current change       send FLUSH_OK                             AGREE
AUTHORIZE  program flushes          send FLUSH_OK                             AGREE
AGREE      FLUSH_OK of all members  deliver view; send FLUSH_RECV             VERIFY
AGREE      the same, more pending   deliver view, then FLUSH_REQ              AUTHORIZE
VERIFY     FLUSH_RECV of all        none                                      STEADY
========== ======================== ========================================= ==========

Source: ``docs/protocol/client-session.md`` sections 8.3 to 8.5; upstream ``fl.c``, whose
crash on network changes is not reproduced.
"""

from __future__ import annotations

import enum
from typing import Final, Protocol

from attrs import Factory, define, frozen

from txspread.client.messages import DataMessage, MembershipMessage, SelfLeave
from txspread.wire.constants import ServiceType
from txspread.wire.identifiers import GroupId

MAX_AGE: Final = 200
"""Membership events after which FLUSH_OKs for a change never told of are forgotten."""
MAX_HELD: Final = 10_000
"""Most messages held for the next view; more would mean that a member does not flush
while another floods the group."""
_NOBODY: Final = GroupId(0, 0, 0)


@frozen
class FlushRequest:
    """Membership is about to change: call ``flush`` when nothing more is to be sent."""

    service_type: ServiceType
    group: str


@frozen
class FlushTransition:
    """A member of the installed view is gone: guarantees for SAFE messages weaken."""

    service_type: ServiceType
    group: str


@frozen
class View:
    """A new view is installed; every member has flushed the previous one."""

    service_type: ServiceType
    """``REG_MEMB_MESS`` and a ``CAUSED_BY`` bit."""
    group: str
    members: tuple[str, ...]
    index: int
    """Position of this connection in :attr:`members`."""
    group_id: GroupId
    vs_set: tuple[str, ...]
    """Who joined, left or disconnected (one name); for ``CAUSED_BY_NETWORK`` the
    members of the previous view that came along."""


FlushEvent = FlushRequest | FlushTransition | View | DataMessage | SelfLeave


class MemberState(enum.Enum):
    """What this connection is to the group."""

    JOINING = "joining"
    JOINED = "joined"
    LEAVING = "leaving"


class ViewState(enum.Enum):
    """How far the next view is."""

    STEADY = "steady"
    AUTHORIZE = "authorize"
    AGREE = "agree"
    VERIFY = "verify"


class FlushOutput(Protocol):
    """Where a group's results go."""

    def deliver(self, event: FlushEvent) -> None:
        """Queue something for the program."""

    def send_flush_ok(self, group: str, group_id: GroupId) -> None:
        """Tell the group that nothing more will be sent in the old view."""

    def send_flush_recv(self, group: str, group_id: GroupId) -> None:
        """Tell the group that the view is installed."""


@define(eq=False)
class Change:
    """A membership that the daemon told of, or that others already flushed for."""

    group_id: GroupId
    members: tuple[str, ...] = ()
    cause: ServiceType = ServiceType.CAUSED_BY_NETWORK
    still: list[str] = Factory(list)
    trans: bool = False
    changed_member: str = ""
    got_membership: bool = False
    age: int = 0
    oks: set[str] = Factory(set)

    def remove(self, left: set[str]) -> bool:
        """Note that members left; whether one was there."""
        before = len(self.still)
        self.still = [name for name in self.still if name not in left]
        return len(self.still) < before


class FlushGroup:
    """The state of one group at one connection, from the own join to the own leave."""

    def __init__(self, name: str, me: str, output: FlushOutput) -> None:
        self.name = name
        self.member_state = MemberState.JOINING
        self.view_state = ViewState.AGREE
        self.view = Change(_NOBODY, (me,), still=[me], trans=True)
        self._me = me
        self._output = output
        self._last = self.view
        self._pending: list[Change] = []
        self._known: dict[GroupId, Change] = {}
        self._current: Change | None = None
        self._held: list[DataMessage] = []
        self._received = 0

    @property
    def vulnerable(self) -> bool:
        """Whether FIFO and weaker messages must carry the view's id."""
        return self.view_state in (ViewState.AUTHORIZE, ViewState.VERIFY)

    def membership(self, message: MembershipMessage) -> None:
        """Take a membership that the daemon tells of."""
        change = self._known.setdefault(message.group_id, Change(message.group_id))
        change.got_membership = True
        change.members = message.members
        change.still = list(message.members)
        change.cause = message.cause
        change.changed_member = message.changed_member or ""
        left = self._who_left(message)
        shrunk = self.view.remove(left)
        self._age()
        self._collapse(left, change)
        self._pending.append(change)
        self._last = change
        if self._pending[0] is not self._current:
            self._held.clear()
            self._start_next()
        if shrunk and not self.view.trans:
            self._transition()

    def transition(self) -> None:
        """Take the daemon's transition message."""
        self._last.trans = True
        if not self.view.trans:
            self._transition()

    def flush(self) -> bool:
        """The program sends nothing more in this view; whether that was asked for."""
        if self.view_state is not ViewState.AUTHORIZE or self._current is None:
            return False
        self.view_state = ViewState.AGREE
        self._output.send_flush_ok(self.name, self._current.group_id)
        return True

    def flush_ok(self, group_id: GroupId, sender: str) -> None:
        """Take another member's, or the own, FLUSH_OK."""
        change = self._known.get(group_id)
        if change is None:
            change = self._known[group_id] = Change(group_id)
        change.oks.add(sender)
        if (
            self.view_state is ViewState.AGREE
            and change is self._current
            and change.oks.issuperset(change.members)
        ):
            self._install(change)

    def flush_recv(self, group_id: GroupId) -> None:
        """Take a member's FLUSH_RECV."""
        if self.view_state is ViewState.VERIFY and group_id == self.view.group_id:
            self._received += 1
            if self._received >= len(self.view.members):
                self.view_state = ViewState.STEADY
        elif (
            self.view_state is ViewState.AGREE
            and self._current is not None
            and group_id == self._current.group_id
        ):
            self._received += 1

    def data(self, message: DataMessage, vulnerable_in: GroupId | None) -> None:
        """Take a data message; ``vulnerable_in`` is the view it says it was sent in."""
        current = self._current
        if (
            self.view_state is ViewState.AGREE
            and vulnerable_in is not None
            and current is not None
            and vulnerable_in == current.group_id
        ):
            if message.sender in current.still and len(self._held) < MAX_HELD:
                self._held.append(message)
        elif message.sender in self.view.still:
            self._output.deliver(message)

    def _who_left(self, message: MembershipMessage) -> set[str]:
        if message.service_type & ServiceType.CAUSED_BY_JOIN:
            return set()
        if message.caused_by_network:
            return set(self._last.members).difference(message.vs_set)
        return {message.changed_member or ""}

    def _age(self) -> None:
        for group_id, change in list(self._known.items()):
            if not change.got_membership:
                change.age += 1
                if change.age > MAX_AGE:
                    del self._known[group_id]

    def _collapse(self, left: set[str], change: Change) -> None:
        """Drop pending changes that can no longer be agreed on."""
        if not left:
            return
        broken = False
        for pending in list(self._pending):
            if any(name in left and name not in pending.oks for name in pending.still):
                self._pending.remove(pending)
                del self._known[pending.group_id]
                broken = True
                continue
            pending.remove(left)
            if broken:
                pending.cause = ServiceType.CAUSED_BY_NETWORK
                broken = False
        if broken:
            change.cause = ServiceType.CAUSED_BY_NETWORK

    def _start_next(self) -> None:
        self._current = self._pending[0]
        self._received = 0
        if self.view_state in (ViewState.STEADY, ViewState.VERIFY):
            self.view_state = ViewState.AUTHORIZE
            self._output.deliver(FlushRequest(ServiceType.FLUSH_REQ_MESS, self.name))
        elif self.view_state is ViewState.AGREE and self.member_state is not MemberState.LEAVING:
            self._output.send_flush_ok(self.name, self._current.group_id)

    def _install(self, change: Change) -> None:
        if change.cause is ServiceType.CAUSED_BY_NETWORK:
            vs_set = tuple(self.view.still)
        else:
            vs_set = (change.changed_member,)
        service = ServiceType.REG_MEMB_MESS | change.cause
        index = change.members.index(self._me) if self._me in change.members else -1
        self._output.deliver(
            View(service, self.name, change.members, index, change.group_id, vs_set)
        )
        if self.member_state is MemberState.JOINING:
            self.member_state = MemberState.JOINED
        self.view_state = ViewState.VERIFY
        self.view = change
        self._pending.remove(change)
        del self._known[change.group_id]
        self._current = None
        if self._pending:
            self._start_next()
        else:
            self._output.send_flush_recv(self.name, change.group_id)
        if len(change.still) < len(change.members):
            self._transition()
        held, self._held = self._held, []
        for message in held:
            self._output.deliver(message)

    def _transition(self) -> None:
        self.view.trans = True
        self._output.deliver(FlushTransition(ServiceType.TRANSITION_MESS, self.name))
