"""Giving packets their numbers, and sending them.

Packets of one whole message each, of one type and size, are numbered, joined and sent
as one train; each other packet by itself.  What is held of a packet is not what is
sent: it shares its head with its neighbours and its body is the message itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from txspread.engine.ring.identity import Identity
from txspread.engine.ring.packet_store import Body, PacketStore
from txspread.engine.ring_interfaces import Network
from txspread.wire.packet import (
    PACKET_HEADER_SIZE,
    RUN_SIZE,
    encode_body,
    encode_head,
    train_layout,
    with_head,
)


class Sending:
    """Sends the packets of this daemon."""

    def __init__(self, identity: Identity, store: PacketStore, network: Network) -> None:
        self._identity = identity
        self._store = store
        self._network = network

    def send(
        self, made: list[tuple[int, Body]], before: int, token_round: int, after: list[bytes]
    ) -> None:
        """Number and hold all, and send the first ``before`` of them.

        Args:
            made: (packet type, body) in sending order.
            before: how many leave before the token.
            token_round: rounds handled before the one of this token.
            after: gets the packets that leave behind the token.

        """
        count = len(made)
        position = 0
        while position < before:
            packet_type, body = made[position]
            end = position + 1
            if isinstance(body, bytes):
                size = len(body)
                while end < before:
                    next_type, following = made[end]
                    if (
                        next_type != packet_type
                        or not isinstance(following, bytes)
                        or len(following) != size
                    ):
                        break
                    end += 1
            if end - position > 1:
                self._send_train(
                    packet_type, [made[at][1] for at in range(position, end)], token_round
                )
            else:
                self._send_one(packet_type, body, token_round, self._network.send_to_all)
            position = end
        while position < count:
            packet_type, body = made[position]
            self._send_one(packet_type, body, token_round + 1, after.append)
            position += 1

    def _send_one(
        self, packet_type: int, body: Body, token_round: int, send: Callable[[bytes], None]
    ) -> None:
        store = self._store
        number = store.highest_seq + 1
        if isinstance(body, bytes):
            data = body
            index, length = -1, len(body)
        else:
            data = encode_body(body)
            index, length = body[0][0], len(body[0][1])
        head = self._head(packet_type, token_round, len(data), index, length)
        store.put(number, head, body)
        store.highest_seq = number
        send(with_head(head, number, data))

    def _send_train(self, packet_type: int, bodies: list[Body], token_round: int) -> None:
        store = self._store
        number = store.highest_seq + 1
        count = len(bodies)
        length = len(bodies[0])
        head = self._head(packet_type, token_round, length, -1, length)
        parts: list[Any] = [head[:RUN_SIZE], 0, head[RUN_SIZE:], b""] * count
        parts[1::4] = range(number, number + count)
        parts[3::4] = bodies
        size = length + PACKET_HEADER_SIZE
        if store.highest_seq == store.last_discarded + len(store.bodies):
            store.put_train(head, bodies)
        else:
            for at in range(count):
                store.put(number + at, head, bodies[at])
        store.highest_seq = number + count - 1
        train = bytearray(size * count)
        train_layout(size, count).pack_into(train, 0, *parts)
        self._network.send_train_to_all(train, size)

    def _head(
        self, packet_type: int, token_round: int, data_len: int, index: int, length: int
    ) -> bytes:
        identity = self._identity
        me = identity.me
        return encode_head(
            packet_type,
            me,
            me,
            identity.installed_id,
            token_round,
            identity.conf_hash,
            data_len,
            index,
            length,
        )
