"""The seams between the layers of the engine.

Three layers call each other through these protocols and nothing else:

* the ordering layer (a ring of one, or the token ring) implements
  :class:`Ordering` and calls an :class:`OrderedDelivery`;
* the groups layer implements :class:`OrderedDelivery` and calls
  :class:`Ordering` and :class:`LocalSessions`;
* the sessions layer implements :class:`LocalSessions` and calls
  :class:`Ordering`.

Source of the contacts: ``docs/protocol/groups.md`` section 1.7,
``docs/protocol/ring-ordering.md`` section 12.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

from txspread.wire.constants import PacketType
from txspread.wire.identifiers import MembershipId, ProcId


class DownQueue(enum.Enum):
    """Which messages may be ordered now."""

    NORMAL = "normal"
    """Everything from sessions, daemon-made KILLs included."""
    GROUPS = "groups"
    """Only the state exchange between daemons."""


class DeliveryThreshold(enum.Enum):
    """What may be delivered before its turn or before it is stable."""

    NONE = "none"
    """Single-packet RELIABLE messages may be delivered as they arrive."""
    AGREED = "agreed"
    """Nothing overtakes."""
    BLOCK = "block"
    """Only what is known to be everywhere."""


class Ordering(Protocol):
    """The layer that gives messages their place in the total order."""

    def submit(self, message: bytes, packet_type: PacketType) -> None:
        """Append a message to the active down queue.

        ``message`` is the complete frame (48-byte header in this machine's
        writing order with its endian marker, group names, body), at most
        143 200 bytes.  It comes back through
        :meth:`OrderedDelivery.on_message`, never from inside this call if the
        call was itself made from inside a delivery.
        """

    def submit_many(self, messages: list[bytes], packet_type: PacketType) -> None:
        """Append several messages of one packet type, as if one by one.

        The caller sees to it that they are few enough: nothing stops it in between.
        """

    def switch_queue(self, queue: DownQueue) -> None:
        """Make the other down queue the active one."""

    def set_threshold(self, threshold: DeliveryThreshold) -> None:
        """Set what may be delivered early."""

    def queued(self) -> int:
        """Messages that wait in the active down queue."""


class OrderedDelivery(Protocol):
    """What the ordering layer calls, strictly in delivery order."""

    def on_message(self, message: bytes) -> None:
        """Deliver one message, as it was submitted somewhere.

        The header may be in the other byte order (its marker tells).  Must not
        raise, whatever the bytes.
        """

    def on_messages(self, messages: list[bytes]) -> None:
        """Deliver several messages, in their order; as if one by one."""

    def on_transitional(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        """The members of the old ring that come along; configuration order."""

    def on_regular(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        """The new ring is installed; configuration order."""


class LocalSession(Protocol):
    """A client session as the groups layer sees it."""

    @property
    def private_group(self) -> bytes:
        """``#session#daemon``, without padding, at most 31 bytes."""

    @property
    def wants_membership(self) -> bool:
        """Whether the client asked for membership messages when it connected."""


class LocalSessions(Protocol):
    """The client sessions of this daemon."""

    def find(self, private_group: bytes) -> LocalSession | None:
        """The session of that name whose KILL has not been delivered yet.

        A session that has disconnected is still found until then; writing to it
        does nothing.
        """

    def write(self, session: LocalSession, frame: bytes) -> None:
        """Queue one complete frame for a client.

        May end the session when its queue is full, which submits a KILL to the
        ordering layer.
        """

    def write_many(self, session: LocalSession, frames: list[bytes]) -> None:
        """Queue several frames for a client, in their order; as if one by one."""

    def killed(self, private_group: bytes) -> None:
        """The KILL of that session was delivered: its name is free again."""

    def block(self) -> None:
        """Stop reading clients and accepting connections (state exchange)."""

    def unblock(self) -> None:
        """Serve clients again."""


class ClientGate(Protocol):
    """How the ordering layer holds clients back while its down queue is full.

    Independent of :meth:`LocalSessions.block`: clients are served only while
    neither layer has stopped them.
    """

    def stop_clients(self) -> None:
        """Stop reading clients and accepting connections (water mark reached)."""

    def serve_clients(self) -> None:
        """The queue is below the water mark again."""


class StreamTransport(Protocol):
    """One accepted client connection, as the sessions layer uses it."""

    def flush(self) -> None:
        """Write as much of the session's output queue as the kernel takes now."""

    def close(self) -> None:
        """Drop what is queued and close the connection.

        The shell makes no further call about this connection to the engine.
        """

    def pause(self) -> None:
        """Stop reading from this connection."""

    def resume(self) -> None:
        """Read from this connection again."""
