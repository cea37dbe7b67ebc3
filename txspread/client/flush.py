"""The flush layer for Twisted: view synchrony, wire-compatible with upstream's.

For example::

    connection = await connect_flush("4803", "worker")
    connection.join("jobs")
    async for event in connection:
        if isinstance(event, FlushRequest):
            connection.flush(event.group)
        elif isinstance(event, View):
            ...

Every message is delivered in the view it was sent in.  A membership change is announced
by a :class:`FlushRequest`; the program may go on sending in the old view until it calls
:meth:`FlushConnection.flush`, after that not before the :class:`View`.  All members of
a group must use this layer: a plain member holds up every view.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final, Unpack

from twisted.internet.defer import Deferred, inlineCallbacks

from txspread.client.connecting import ConnectOptions, connect
from txspread.client.connection import Connection
from txspread.client.errors import IllegalSession
from txspread.client.events import EventQueue
from txspread.client.flush_group import FlushEvent, FlushRequest, FlushTransition, View
from txspread.client.flush_session import FlushSession
from txspread.client.messages import Message, Name, RejectMessage, joined_body

EVENT_LIMIT: Final = 10_000
"""Events that wait for the program before the connection stops reading."""

__all__ = [
    "FlushConnection",
    "FlushRequest",
    "FlushTransition",
    "View",
    "connect_flush",
]


class FlushConnection:
    """View synchrony over a :class:`~txspread.client.connection.Connection`.

    :param connection: one that wants membership messages and that nothing else
        receives from.
    :param event_limit: events that may wait before the connection stops reading.
    """

    def __init__(self, connection: Connection, event_limit: int = EVENT_LIMIT) -> None:
        if not connection.membership:
            raise ValueError("the flush layer needs a connection with membership messages")
        self.connection = connection
        self._session = FlushSession(connection.private_group)
        self._events: EventQueue[FlushEvent | RejectMessage] = EventQueue(
            event_limit, connection.pauseProducing, connection.resumeProducing
        )
        connection.when_closed().addCallback(self._events.end)
        connection.deliver_batches_to(self._take)

    @property
    def private_group(self) -> str:
        """The session's own name."""
        return self.connection.private_group

    @property
    def waiting(self) -> int:
        """Events that wait for the program."""
        return len(self._events)

    def join(self, group: Name) -> None:
        """Ask to become a member; the first :class:`View` tells when it is done.

        :raises IllegalGroup: the name is not legal, or the group is known already.
        """
        self._session.check_join(group)
        self.connection.join(group)

    def leave(self, group: Name) -> None:
        """Ask to be a member no longer.

        :raises IllegalGroup: unless a member.
        """
        self._session.leave(group)
        self.connection.leave(group)

    def flush(self, group: Name) -> None:
        """Answer a :class:`FlushRequest`: nothing more is sent before the next view.

        :raises IllegalGroup: not a member.
        :raises IllegalState: no flush was asked for.
        """
        self._session.flush(group)
        self._send()

    def multicast(
        self,
        service_type: int,
        target: Name,
        body: bytes | bytearray | memoryview | Sequence[bytes],
        mess_type: int = 0,
    ) -> int:
        """Send to all members of a group, or to a private group; return the body bytes.

        :raises IllegalState: between flush and view nothing may be sent.
        :raises SpreadError: as :meth:`FlushSession.multicast` and
            :meth:`Connection.multicast`.
        """
        data = joined_body(body)
        self._session.multicast(service_type, target, data, mess_type)
        self._send(urgent=False)
        return len(data)

    def subgroupcast(
        self,
        service_type: int,
        target: Name,
        receivers: Sequence[Name],
        body: bytes | bytearray | memoryview | Sequence[bytes],
        mess_type: int = 0,
    ) -> int:
        """Send to some members of a group's view; return the body bytes.

        They receive it with the group's name behind theirs in ``groups``.

        :raises IllegalReceivers: one is not in the view.
        :raises SpreadError: as :meth:`multicast`.
        """
        data = joined_body(body)
        self._session.subgroupcast(service_type, target, receivers, data, mess_type)
        self._send(urgent=False)
        return len(data)

    def drained(self) -> Deferred[None]:
        """See :meth:`Connection.drained`."""
        return self.connection.drained()

    def receive(self) -> Deferred[FlushEvent | RejectMessage]:
        """Fire with the next event; fail with the connection's reason when it has ended."""
        return self._events.get()

    def __aiter__(self) -> FlushConnection:
        """Iterate over events; ends after :meth:`disconnect`."""
        return self

    async def __anext__(self) -> FlushEvent | RejectMessage:
        try:
            return await self.receive()
        except IllegalSession:
            raise StopAsyncIteration from None

    def disconnect(self) -> Deferred[None]:
        """End the session, see :meth:`Connection.disconnect`."""
        return self.connection.disconnect()

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            self._session.receive(message)
        self._send()
        while self._session.events:
            self._events.put(self._session.events.popleft())

    def _send(self, urgent: bool = True) -> None:
        """Hand on what the layer wants to send; its own messages must not be lost."""
        outgoing = self._session.outgoing
        while outgoing:
            message = outgoing.popleft()
            self.connection.multicast(
                message.service_type,
                message.groups,
                message.body,
                message.mess_type,
                urgent=urgent,
            )


@inlineCallbacks
def connect_flush(
    name: str | None = None, private_name: Name = "", **options: Unpack[ConnectOptions]
) -> Generator[Deferred[Any], Any, FlushConnection]:
    """Connect as :func:`txspread.client.connect` does, with view synchrony.

    :param options: those of :func:`txspread.client.connect`, without ``membership``.
    """
    connection: Connection = yield connect(name, private_name, membership=True, **options)
    return FlushConnection(connection)
