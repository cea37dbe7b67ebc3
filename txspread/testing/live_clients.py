"""Many clients of real daemons in one thread, recorded for the checker.

A :class:`Crowd` runs all clients on one selector.  Each request goes out at
once; :meth:`Crowd.run_until` receives until a condition holds.  What clients
send and get becomes the client part of a trace, so
:func:`txspread.testing.client_checker.check_clients` judges real daemons,
upstream's included, by the same rules as simulated ones.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Sequence

from attrs import define, field

from txspread.client.errors import SpreadError
from txspread.client.messages import (
    DataMessage,
    MembershipMessage,
    Message,
    TransitionMessage,
    name_bytes,
)
from txspread.client.protocol import ClientSession, SessionState
from txspread.testing.trace import (
    ClientDelivery,
    ClientHistory,
    Sent,
    Trace,
    Transition,
    View,
)
from txspread.wire.constants import REGULAR_MESS


@define(eq=False)
class LiveClient:
    """One client of a real daemon."""

    crowd: Crowd = field(repr=False)
    session: ClientSession
    socket: socket.socket
    history: ClientHistory
    messages: list[Message] = field(factory=list)
    """Everything it got, in order."""
    closed: bool = False
    _unsent: bytearray = field(init=False, factory=bytearray)

    @property
    def private_group(self) -> str:
        """Set once the daemon has accepted the client."""
        return self.session.private_group

    @property
    def views(self) -> list[MembershipMessage]:
        """The views it was given."""
        return [message for message in self.messages if isinstance(message, MembershipMessage)]

    @property
    def data(self) -> list[DataMessage]:
        """The data messages it got."""
        return [message for message in self.messages if isinstance(message, DataMessage)]

    def members(self, group: str) -> tuple[str, ...]:
        """Members of the last view of a group."""
        for view in reversed(self.views):
            if view.group == group:
                return view.members
        return ()

    def join(self, group: str) -> None:
        """Ask to become a member."""
        self.history.asked.add(name_bytes(group))
        self.send(self.session.join(group))

    def leave(self, group: str) -> None:
        """Ask to leave."""
        self.history.left.add(name_bytes(group))
        self.send(self.session.leave(group))

    def multicast(self, service: int, groups: Sequence[str], body: bytes) -> None:
        """Send a message; the checker wants bodies that are unique in the run."""
        targets = tuple(name_bytes(group) for group in groups)
        self.history.sent.append(Sent(body, int(service), targets, len(self.history.received)))
        self.send(self.session.multicast(service, list(groups), body))

    def disconnect(self) -> None:
        """Leave politely."""
        if self.session.state is SessionState.OPEN:
            self.send(self.session.disconnect())
        self.drop()

    def drop(self) -> None:
        """Close the connection without a word."""
        self.history.alive = False
        self.crowd.forget(self)

    def send(self, data: bytes) -> None:
        """Send raw bytes as far as the kernel takes them now, the rest later."""
        if not self.closed:
            self._unsent += data
            self.push()

    def push(self) -> None:
        """Send what waits."""
        try:
            while self._unsent:
                count = self.socket.send(self._unsent[:262144])
                del self._unsent[:count]
        except BlockingIOError:
            pass
        except OSError:
            self._lost()
            return
        self.crowd.watch(self, bool(self._unsent))

    def pull(self) -> None:
        """Receive what is there."""
        try:
            data = self.socket.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        try:
            messages = self.session.receive(data)
        except SpreadError as error:
            self.crowd.problems.append(f"{self.private_group}: {error}")
            self._lost()
            return
        answer = self.session.data_to_send()
        if answer:
            self.send(answer)
        if not self.history.private_group:
            self.history.private_group = name_bytes(self.private_group)
        for message in messages:
            self.messages.append(message)
            self._record(message)

    def _lost(self) -> None:
        self.history.alive = False
        self.session.lost()
        self.crowd.forget(self)

    def _record(self, message: Message) -> None:
        received = self.history.received
        if isinstance(message, DataMessage):
            received.append(
                ClientDelivery(
                    message.body,
                    int(message.service_type) & REGULAR_MESS,
                    name_bytes(message.sender),
                    tuple(name_bytes(group) for group in message.groups),
                )
            )
        elif isinstance(message, MembershipMessage):
            received.append(
                View(
                    name_bytes(message.group),
                    message.group_id,
                    tuple(name_bytes(member) for member in message.members),
                    tuple(name_bytes(member) for member in message.vs_set),
                    tuple(
                        tuple(name_bytes(member) for member in vs_set) for vs_set in message.vs_sets
                    ),
                    int(message.service_type),
                )
            )
        elif isinstance(message, TransitionMessage):
            received.append(Transition(name_bytes(message.group)))


class Crowd:
    """All clients of a run."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.clients: list[LiveClient] = []
        self.problems: list[str] = []
        """Streams that could not be understood."""
        self._selector = selectors.DefaultSelector()

    def connect(
        self, address: str, port: int, name: str = "", proc_id: int = 0, limit: float = 30.0
    ) -> LiveClient:
        """Connect a client and wait until it is accepted.

        Raises:
            OSError: the daemon does not listen, or refuses, or does not answer.

        """
        connection = socket.create_connection((address, port), limit)
        connection.setblocking(False)
        history = ClientHistory(b"", proc_id)
        client = LiveClient(self, ClientSession(name), connection, history)
        self._selector.register(connection, selectors.EVENT_READ, client)
        client.send(client.session.data_to_send())
        if not self.run_until(lambda: bool(client.private_group) or client.closed, limit):
            client.drop()
            raise TimeoutError(f"no answer from {port}@{address}")
        if client.closed:
            raise ConnectionError(f"refused by {port}@{address}: {self.problems[-1:]}")
        self.trace.clients.append(history)
        self.clients.append(client)
        return client

    def connected(self) -> list[LiveClient]:
        """Clients that are still there."""
        return [client for client in self.clients if not client.closed]

    def run(self, seconds: float) -> None:
        """Receive for a while."""
        self.run_until(lambda: False, seconds)

    def run_until(self, condition: Callable[[], bool], limit: float = 60.0) -> bool:
        """Receive until ``condition()`` holds; whether it did within ``limit`` seconds."""
        end = time.monotonic() + limit
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                return False
            for key, mask in self._selector.select(min(left, 0.1)):
                client: LiveClient = key.data
                if mask & selectors.EVENT_WRITE:
                    client.push()
                if mask & selectors.EVENT_READ and not client.closed:
                    client.pull()
        return True

    def watch(self, client: LiveClient, writing: bool) -> None:
        """Wait for room in the client's socket as well, or no longer."""
        if not client.closed:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
            self._selector.modify(client.socket, events, client)

    def forget(self, client: LiveClient) -> None:
        """Close a client's connection."""
        if not client.closed:
            client.closed = True
            self._selector.unregister(client.socket)
            client.socket.close()

    def close(self) -> None:
        """Close everything."""
        for client in list(self.clients):
            self.forget(client)
        self._selector.close()
