"""Turns what happens in a virtual network into a trace for the checker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from txspread.testing.trace import (
    ClientDelivery,
    ClientHistory,
    Configuration,
    DaemonHistory,
    Delivery,
    Left,
    Sent,
    Trace,
    Transition,
    View,
)
from txspread.testing.virtual_client import Received, VirtualClient
from txspread.testing.virtual_network import VirtualDaemon, VirtualNetwork
from txspread.wire.constants import (
    GROUPS_MESS,
    JOIN_MESS,
    KILL_MESS,
    LEAVE_MESS,
    MESSAGE_HEADER_SIZE,
    REGULAR_MESS,
)
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.message import MessageHeader

_NOT_DATA = JOIN_MESS | LEAVE_MESS | KILL_MESS | GROUPS_MESS


class _DaemonSink:
    """The trace sink of one incarnation."""

    def __init__(self, history: DaemonHistory) -> None:
        self._history = history
        self._events = history.events

    def event(self, kind: str, **fields: object) -> None:
        """Keep what the checker looks at, up to the moment of a crash."""
        if self._history.crashed:
            return
        if kind == "message":
            message = cast(bytes, fields["message"])
            header = MessageHeader.decode(message)
            if not header.type & _NOT_DATA:
                body = message[MESSAGE_HEADER_SIZE + 32 * header.num_groups :]
                self._events.append(Delivery(body, header.type & REGULAR_MESS))
        elif kind in ("regular", "transitional"):
            self._events.append(
                Configuration(
                    kind == "regular",
                    cast(MembershipId, fields["membership_id"]),
                    cast("tuple[ProcId, ...]", fields["members"]),
                )
            )


class Recorder:
    """Follows the daemons of a network and the clients made through it."""

    def __init__(
        self,
        network: VirtualNetwork,
        on_delivery: Callable[[VirtualClient], None] | None = None,
    ) -> None:
        self.trace = Trace()
        self.problems: list[str] = []
        """Clients that were cut off although they did nothing wrong."""
        self._on_delivery = on_delivery
        self._lazy: set[VirtualClient] = set()
        self._clients: dict[VirtualClient, ClientHistory] = {}
        self._gone: set[VirtualClient] = set()
        network.trace_for = self._sink
        for daemon in network.daemons.values():
            daemon.on_crash.append(self._crashed)

    # What a scenario does through the recorder.

    def connected(self) -> list[VirtualClient]:
        """Clients that are accepted and still there."""
        return [
            client
            for client in self._clients
            if client.private_group and not client.closed and client not in self._gone
        ]

    def connect(self, daemon: VirtualDaemon, name: bytes) -> VirtualClient:
        """Start a client."""
        client = VirtualClient(daemon, name, self._received, self._ended)
        history = ClientHistory(b"#" + name + b"#" + daemon.daemon.name_bytes, daemon.daemon.id)
        self.trace.clients.append(history)
        self._clients[client] = history
        return client

    def multicast(
        self, client: VirtualClient, service: int, groups: Sequence[bytes], body: bytes
    ) -> None:
        """Send a message whose body is unique in the run."""
        history = self._clients[client]
        if client.closed or not client.private_group:
            return
        history.sent.append(Sent(body, int(service), tuple(groups), len(history.received)))
        client.multicast(service, groups, body)

    def leave(self, client: VirtualClient, group: bytes) -> None:
        """Leave a group."""
        self._clients[client].left.add(group)
        client.leave(group)

    def vanish(self, client: VirtualClient, *, politely: bool) -> None:
        """Disconnect, or just drop the connection."""
        self._clients[client].alive = False
        self._gone.add(client)
        if politely:
            client.disconnect()
        else:
            client.drop()

    def stop_reading(self, client: VirtualClient) -> None:
        """Let a client take nothing; its daemon may end it for that."""
        self._lazy.add(client)
        client.stop_reading()

    def sees(self, client: VirtualClient, members: int) -> bool:
        """Whether a client's last view has that many members."""
        views = [event for event in self._clients[client].received if isinstance(event, View)]
        return bool(views) and len(views[-1].members) == members

    # What the network tells.

    def _sink(self, daemon: VirtualDaemon) -> _DaemonSink:
        history = DaemonHistory(daemon.daemon.id, daemon.incarnation)
        self.trace.daemons.append(history)
        return _DaemonSink(history)

    def _crashed(self, daemon: VirtualDaemon) -> None:
        for history in self.trace.daemons:
            if history.proc_id == daemon.daemon.id and history.incarnation == daemon.incarnation:
                history.crashed = True
        for client, told in self._clients.items():
            if client.daemon is daemon and client not in self._gone:
                client.closed = True
                told.alive = False
                self._gone.add(client)

    def _ended(self, client: VirtualClient) -> None:
        """The daemon has ended a client."""
        self._clients[client].alive = False
        if client not in self._lazy and client not in self._gone:
            self.problems.append(f"{client.private_group or client.name!r} was cut off")
        self._gone.add(client)

    def _received(self, client: VirtualClient, received: Received) -> None:
        events = self._clients[client].received
        if received.view is not None:
            body = received.view
            own = next((s for s in body.vs_sets if client.private_group in s), ())
            events.append(
                View(
                    received.sender,
                    body.group_id,
                    received.groups,
                    own,
                    body.vs_sets,
                    received.type,
                )
            )
        elif received.is_transition:
            events.append(Transition(received.sender))
        elif received.is_membership:
            events.append(Left(received.sender))
        else:
            events.append(
                ClientDelivery(
                    received.body,
                    received.type & REGULAR_MESS,
                    received.sender,
                    received.groups,
                )
            )
            if self._on_delivery is not None:
                self._on_delivery(client)
