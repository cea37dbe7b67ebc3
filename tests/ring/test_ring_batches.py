"""A batch of datagrams taken at once has the effect that each by itself would have."""

from __future__ import annotations

import random

import pytest
from ring_cluster import message
from ring_probe import HASH, Probe

from txspread.wire.constants import PacketType
from txspread.wire.datagram import CONTROL, HURRY, MEMBERSHIP, REGULAR, ROUTED
from txspread.wire.identifiers import MembershipId
from txspread.wire.packet import PacketHeader, encode_packet

NOT_DATA = CONTROL | MEMBERSHIP | HURRY
KINDS = (PacketType.AGREED, PacketType.AGREED, PacketType.SAFE, PacketType.RELIABLE)


def datagrams(dice: random.Random, probe: Probe) -> list[bytes]:
    """Packets of two members, mostly in order and in runs, some of them odd in one way."""
    made: list[bytes] = []
    sender = 0
    for place in range(1, 60):
        number = place
        if dice.random() < 0.2:
            sender = 2 - sender
        origin = probe.members[sender].id
        kind, ring, hash_, token_round = dice.choice(KINDS), probe.ring_id, HASH, 0
        fragments = [(-1, message(f"m{number}", dice.choice((0, 0, 600)))[0])]
        oddity = dice.randrange(30)
        if oddity == 0:
            ring = MembershipId(ring.proc_id, ring.time + 1)
        elif oddity == 1:
            hash_ += 1
        elif oddity == 2:
            fragments.append((-1, message(f"p{number}")[0]))
        elif oddity == 3:
            fragments = [(dice.choice((0, 1, -1, -2, 101, -101)), b"x" * 60)]
        elif oddity == 4:
            fragments = [(-1, b"short")]
        elif oddity == 5:
            number += dice.choice((3, 9000))
        elif oddity == 6:
            token_round = 10_000
        order = ">" if oddity == 7 else "<"
        datagram = encode_packet(
            int(kind), origin, origin, ring, number, token_round, hash_, fragments, order
        )
        if oddity == 8:
            datagram = datagram[: dice.randrange(len(datagram))]
        elif oddity == 9:
            datagram += b"more"
        elif oddity == 10:
            datagram = bytes((datagram[0] | ROUTED,)) + datagram[1:]
        elif oddity == 11:
            position = dice.randrange(40)
            datagram = (
                datagram[:position]
                + bytes((datagram[position] ^ 1 << dice.randrange(8),))
                + datagram[position + 1 :]
            )
        made.append(datagram)
        if oddity == 12:
            made.append(datagram)
    if dice.random() < 0.5:
        position = dice.randrange(len(made) - 1)
        made[position], made[position + 1] = made[position + 1], made[position]
    return made


def examined(probe: Probe, datagram: bytes) -> PacketHeader | None:
    """The header of a datagram that passes the network's checks."""
    if len(datagram) < 40 or (datagram[0] ^ datagram[3]) & 0x80:
        return None
    header = PacketHeader.decode(datagram)
    known = {member.id for member in probe.members}
    if (
        header.conf_hash != HASH
        or header.transmiter_id not in known
        or header.transmiter_id == probe.me.id
        or header.data_len != len(datagram) - 40
        or header.type & NOT_DATA
        or not header.type & REGULAR
    ):
        return None
    return header


def state(probe: Probe) -> dict[str, object]:
    store = probe.ring._store
    return {
        "held": {number: (store.get(number), store.datagram(number)) for number in store.held()},
        "my_aru": store.my_aru,
        "highest_seq": store.highest_seq,
        "last_delivered": store.last_delivered,
        "delivered": list(probe.me.upper.events),
        "prefer_tokens": probe.ring.prefer_tokens,
        "counters": {
            name: getattr(probe.counters, name)
            for name in ("packet_recv", "duplicate_packets", "far_packets", "malformed_packets")
        },
    }


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_a_batch_is_as_good_as_its_datagrams_one_by_one(seed, accelerated):
    dice = random.Random(seed)
    batched, single = (Probe(1, accelerated_ring=accelerated) for _ in range(2))
    batch = datagrams(dice, batched)
    heard = {batched.members[0].id, batched.members[2].id}
    position = taken = 0
    while position < len(batch):
        start = position
        position = batched.ring.data_packets(batch, position, 1.0, heard, NOT_DATA)
        taken += position - start
        if position < len(batch):
            header = examined(batched, batch[position])
            if header is not None:
                batched.ring.data_packet(batch[position], header, 1.0)
            position += 1
    for datagram in batch:
        header = examined(single, datagram)
        if header is not None:
            single.ring.data_packet(datagram, header, 1.0)
    for probe in (batched, single):
        probe.cluster.fire(probe.me)
    assert taken > 10, "this is about batches"
    assert state(batched) == state(single)
