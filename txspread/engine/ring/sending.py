"""Giving packets their numbers, and sending them.

Packets of one size, and a shorter one behind them, leave as one train.  What is held of
a packet is not what is sent: mostly it shares its head with its neighbours, and its
body is the message itself.
"""

from __future__ import annotations

from typing import Any

from txspread.engine.ring.identity import Identity
from txspread.engine.ring.packet_store import Body, PacketStore
from txspread.engine.ring_interfaces import Network
from txspread.wire.packet import (
    PACKET_HEADER_SIZE,
    encode_body,
    encode_rest,
    encode_run,
    join_header,
    train_layout,
)


class Sending:
    """Sends the packets of this daemon."""

    def __init__(self, identity: Identity, store: PacketStore, network: Network) -> None:
        self._identity = identity
        self._store = store
        self._network = network
        self._run_type = 0
        self._run_ring = identity.installed_id
        self._run_bytes = b""

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
                self._send_alike(
                    packet_type, [body for _type, body in made[position:end]], token_round
                )
            else:
                end = self._send_mixed(made, position, before, token_round)
            position = end
        for packet_type, body in made[before:]:
            parts: list[bytes] = []
            self._number(packet_type, body, token_round + 1, parts)
            after.append(b"".join(parts))

    def _send_alike(self, packet_type: int, bodies: list[Body], token_round: int) -> None:
        """Send whole messages of one size and type as a train."""
        store = self._store
        number = store.highest_seq + 1
        count = len(bodies)
        length = len(bodies[0])
        run = self._run(packet_type)
        rest = encode_rest(token_round, self._identity.conf_hash, length, -1, length)
        head = run + rest
        fields: list[Any] = [run, 0, rest, b""] * count
        fields[1::4] = range(number, number + count)
        fields[3::4] = bodies
        if store.highest_seq == store.last_discarded + len(store.bodies):
            store.put_train([head] * count, bodies)
        else:
            for at in range(count):
                store.put(number + at, head, bodies[at])
        store.highest_seq = number + count - 1
        size = length + PACKET_HEADER_SIZE
        train = bytearray(size * count)
        train_layout(size, count).pack_into(train, 0, *fields)
        self._network.send_train_to_all(train, size)

    def _send_mixed(
        self, made: list[tuple[int, Body]], start: int, before: int, token_round: int
    ) -> int:
        """Send a train of packets of one size, up to the first shorter one.

        Returns:
            The position of the first packet that is not in it.

        """
        parts: list[bytes] = []
        size = 0
        position = start
        while position < before:
            packet_type, body = made[position]
            if position > start and _size_of(body) > size:
                break
            length = self._number(packet_type, body, token_round, parts)
            position += 1
            if position == start + 1:
                size = length
            elif length < size:
                break
        if position - start > 1:
            self._network.send_train_to_all(bytearray().join(parts), size + PACKET_HEADER_SIZE)
        else:
            self._network.send_to_all(b"".join(parts))
        return position

    def _number(self, packet_type: int, body: Body, token_round: int, parts: list[bytes]) -> int:
        """Hold a packet and add its header and body to ``parts``; the body's length."""
        store = self._store
        number = store.highest_seq + 1
        if isinstance(body, bytes):
            data = body
            index = -1
            first_length = len(body)
        else:
            data = encode_body(body)
            index = body[0][0]
            first_length = len(body[0][1])
        run = self._run(packet_type)
        length = len(data)
        rest = encode_rest(token_round, self._identity.conf_hash, length, index, first_length)
        store.put(number, run + rest, body)
        store.highest_seq = number
        parts.append(join_header(run, number, rest))
        parts.append(data)
        return length

    def _run(self, packet_type: int) -> bytes:
        """The first part of the headers of this daemon's packets."""
        identity = self._identity
        memb_id = identity.installed_id
        if packet_type != self._run_type or memb_id != self._run_ring:
            self._run_type = packet_type
            self._run_ring = memb_id
            self._run_bytes = encode_run(packet_type, identity.me, identity.me, memb_id)
        return self._run_bytes


def _size_of(body: Body) -> int:
    """Bytes that a body takes in a packet."""
    if isinstance(body, bytes):
        return len(body)
    size = len(body[0][1])
    for _index, data in body[1:]:
        size = ((size + 3) & ~3) + 4 + len(data)
    return size
