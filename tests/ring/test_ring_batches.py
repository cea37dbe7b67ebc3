"""A batch or train of datagrams has the effect that each by itself would have."""

from __future__ import annotations

import random

import pytest
from ring_cluster import message
from ring_probe import HASH, Probe

from txspread.wire.constants import PacketType
from txspread.wire.datagram import CONTROL, HURRY, MEMBERSHIP, REGULAR, ROUTED
from txspread.wire.identifiers import MembershipId
from txspread.wire.packet import PacketHeader, cut_train, encode_packet

NOT_DATA = CONTROL | MEMBERSHIP | HURRY
KINDS = (PacketType.AGREED, PacketType.AGREED, PacketType.SAFE, PacketType.RELIABLE)


def datagrams(dice: random.Random, probe: Probe, change: float = 1.0) -> list[bytes]:
    """Packets of two members, mostly in order and in runs, some of them odd in one way.

    ``change`` is how likely the next is of another kind and size, and not as usual.
    """
    made: list[bytes] = []
    sender = 0
    kind, size = KINDS[0], 600
    for place in range(1, 60):
        number = place
        if dice.random() < 0.2 * change:
            sender = 2 - sender
        if dice.random() < change:
            kind, size = dice.choice(KINDS), dice.choice((0, 0, 600))
        origin = probe.members[sender].id
        ring, hash_, token_round = probe.ring_id, HASH, 0
        fragments = [(-1, message(f"m{number}", size)[0])]
        oddity = dice.randrange(round(30 / change))
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


def take_batch(probe: Probe, batch: list[bytes]) -> int:
    """What the layer above does with a batch; how many were taken as usual ones."""
    heard = {probe.members[0].id, probe.members[2].id}
    position = taken = 0
    while position < len(batch):
        start = position
        position = probe.ring.data_packets(batch, position, 1.0, heard, NOT_DATA)
        taken += position - start
        if position < len(batch):
            take_one(probe, batch[position])
            position += 1
    return taken


def take_train(probe: Probe, train: bytes | memoryview, size: int) -> int:
    """What the layer above does with a train; how many were taken as one."""
    heard = {probe.members[0].id, probe.members[2].id}
    taken = probe.ring.data_train(train, size, 1.0, heard, NOT_DATA)
    take_batch(probe, cut_train(train[taken * size :], size))
    return taken


def take_one(probe: Probe, datagram: bytes) -> None:
    header = examined(probe, datagram)
    if header is not None:
        probe.ring.data_packet(datagram, header, 1.0)


def trains(batch: list[bytes]) -> list[tuple[bytes, int]]:
    """The datagrams as trains, such that each ends with its first shorter one."""
    found: list[tuple[bytes, int]] = []
    group: list[bytes] = []
    for datagram in batch:
        if group and (len(datagram) > len(group[0]) or len(group[-1]) < len(group[0])):
            found.append((b"".join(group), len(group[0])))
            group = []
        if datagram:
            group.append(datagram)
    if group:
        found.append((b"".join(group), len(group[0])))
    return found


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_a_batch_is_as_good_as_its_datagrams_one_by_one(seed, accelerated):
    dice = random.Random(seed)
    batched, single = (Probe(1, accelerated_ring=accelerated) for _ in range(2))
    batch = datagrams(dice, batched)
    taken = take_batch(batched, batch)
    for datagram in batch:
        take_one(single, datagram)
    for probe in (batched, single):
        probe.cluster.fire(probe.me)
    assert taken > 10, "this is about batches"
    assert state(batched) == state(single)


@pytest.mark.parametrize("accelerated", [False, True])
def test_trains_are_as_good_as_their_datagrams_one_by_one(accelerated):
    taken = 0
    for seed in range(60):
        whole, single = (Probe(1, accelerated_ring=accelerated) for _ in range(2))
        batch = datagrams(random.Random(seed), whole, 0.15)
        for train, size in trains(batch):
            taken += take_train(whole, memoryview(train), size)
        for datagram in batch:
            take_one(single, datagram)
        for probe in (whole, single):
            probe.cluster.fire(probe.me)
        assert state(whole) == state(single), f"seed {seed}"
    assert taken > 200, "this is about trains"


CONTENTS = {
    "messages": lambda number: [(-1, message(f"m{number}", 600)[0])],
    "packed messages": lambda number: [(-1, message(f"m{number}.{k}", 90)[0]) for k in range(5)],
    "fragments of one index": lambda number: [(-3, bytes(90))],
    "no message": lambda number: [(-1, bytes(47))],
    "no index": lambda number: [(0, bytes(90))],
}


@pytest.mark.parametrize("kind", [PacketType.AGREED, PacketType.SAFE, PacketType.RELIABLE])
@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("spoilt", [None, 0, 3, 19])
def test_any_byte_of_any_packet_of_a_train_may_be_wrong(kind, content, spoilt):
    dice = random.Random(f"{kind} {content} {spoilt}")
    for _ in range(1 if spoilt is None else 8):
        whole, single = (Probe(1) for _ in range(2))
        batch = [
            whole.packet(number, kind=kind, sender=0, fragments=CONTENTS[content](number))
            for number in range(1, 21)
        ]
        if spoilt is not None:
            damaged = bytearray(batch[spoilt])
            damaged[dice.randrange(60)] ^= 1 << dice.randrange(8)
            batch[spoilt] = bytes(damaged)
        taken = take_train(whole, b"".join(batch), len(batch[0]))
        for datagram in batch:
            take_one(single, datagram)
        for probe in (whole, single):
            probe.cluster.fire(probe.me)
        assert state(whole) == state(single)
        if spoilt is None:
            assert taken == (0 if content.startswith("no ") else 20)


def test_a_train_behind_a_gap_or_seen_before_is_cut():
    probe = Probe(1)
    batch = [probe.packet(number) for number in range(1, 10)]
    size = len(batch[0])
    assert take_train(probe, b"".join(batch[2:6]), size) == 0
    assert probe.ring._store.held() == [3, 4, 5, 6]
    assert take_train(probe, b"".join(batch[:2]), size) == 0, "the gap is filled by this"
    assert probe.ring.my_aru == 6
    assert take_train(probe, b"".join(batch), size) == 0
    assert counted(probe) == (9, 6)
    probe.cluster.fire(probe.me)
    assert probe.texts == [f"m{number}" for number in range(1, 10)]


def counted(probe: Probe) -> tuple[int, int]:
    return probe.counters.packet_recv, probe.counters.duplicate_packets


def test_nothing_of_a_train_is_kept_but_copies():
    probe = Probe(1)
    train = bytearray(b"".join(probe.packet(number) for number in range(1, 10)))
    assert take_train(probe, memoryview(train), len(train) // 9) == 9
    train[:] = bytes(len(train))
    probe.cluster.fire(probe.me)
    assert probe.texts == [f"m{number}" for number in range(1, 10)]
    assert probe.ring._store.datagram(5) == probe.packet(5)
