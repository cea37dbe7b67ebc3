"""Whatever a peer puts into tokens, packets and FORM2 entries, nothing raises and nothing grows."""

from __future__ import annotations

import random

import pytest
from ring_cluster import formed, message
from ring_probe import HASH, Probe

from txspread.engine.ring_interfaces import MembershipState, OldRingResult, Timer
from txspread.wire.constants import PacketType
from txspread.wire.identifiers import MembershipId
from txspread.wire.packet import PacketHeader, encode_packet
from txspread.wire.token import NOBODY, RetransmissionRequest, Token

NUMBERS = (
    -(2**31), -1, 0, 1, 2, 3, 5, 100, 1600, 1601, 8190, 8191, 8192, 2**30, 2**30 + 1, 2**31 - 1
)  # fmt: skip


def awkward(source: random.Random, near: int) -> int:
    if source.random() < 0.6:
        return max(-(2**31), min(2**31 - 1, near + source.randrange(-4, 5)))
    return source.choice(NUMBERS)


def any_token(probe: Probe, source: random.Random) -> Token:
    store = probe.ring._store
    ids = [member.id for member in probe.members] + [NOBODY, 0x7F0000EE]
    rings = [probe.ring_id, probe.ring_id, MembershipId(1, 2)]
    requests = tuple(
        RetransmissionRequest(
            source.choice(rings),
            source.choice(ids),
            source.choice([-1, 0, 1, 2, 3, 100, -5, 32767]),
            tuple(awkward(source, store.aru) for _n in range(source.randrange(6))),
        )
        for _entry in range(source.choice([0, 0, 1, 2]))
    )
    token = probe.make_token(
        seq=awkward(source, store.highest_seq),
        aru=awkward(source, store.my_aru),
        aru_last_id=source.choice(ids),
        flow_control=source.choice([0, 10, 160, 180, -1, 32767, -32768]),
        requests=requests,
    )
    token.type |= source.choice([0, 0, 0, 1, 2, 15]) << 20
    return token


def any_packet(probe: Probe, source: random.Random) -> bytes:
    frame = message("x", source.choice([0, 100, 1300]))[0]
    fragments = [(source.choice([-1, -1, -1, 1, 2, -2, 0, 100, -101]), frame)]
    while source.random() < 0.3 and len(fragments) < 4:
        fragments.append((source.choice([-1, 5]), message("y")[0]))
    if sum(len(data) + 8 for _index, data in fragments) > 1432:
        fragments = fragments[:1]
    origin = source.choice([member.id for member in probe.members] + [0x7F0000EE])
    packet = encode_packet(
        source.choice([1, 2, 4, 8, 16, 31]),
        source.choice([member.id for member in probe.members]),
        origin,
        source.choice([probe.ring_id, probe.ring_id, MembershipId(4, 4)]),
        awkward(source, probe.ring._store.my_aru + 1),
        awkward(source, 5),
        HASH,
        fragments,
        source.choice(["<", "<", ">"]),
    )
    if source.random() < 0.1:
        raw = bytearray(packet)
        for at in source.sample(range(34, len(raw)), 2):
            raw[at] = source.randrange(256)
        packet = bytes(raw)
    return packet


@pytest.mark.parametrize("seed", range(12))
def test_nothing_that_arrives_raises_or_breaks_an_invariant(seed):
    source = random.Random(seed)
    probe = Probe(seed % 3, accelerated_ring=bool(seed & 4))
    store = probe.ring._store
    for _step in range(400):
        what = source.random()
        before = store.aru
        if what < 0.45:
            probe.me.take_token(any_token(probe, source).encode())
            probe.arq = probe.ring._machine._last_arq
        elif what < 0.9:
            probe.me.take_data(any_packet(probe, source))
        elif what < 0.95:
            probe.me.submit("own", 1300, source.choice(list(PacketType)))
        else:
            probe.cluster.fire(probe.me)
            probe.ring.timer(source.choice([Timer.HURRY, Timer.DELIVERY]), 0.0)
        assert len(store) <= 8192
        assert store.aru >= before
        assert store.last_discarded <= store.aru <= store.my_aru <= store.highest_seq
        assert store.last_discarded <= store.last_delivered <= store.my_aru
        for token in probe.tokens:
            assert len(token.encode()) <= 40 + 32767
        probe.me.sent.clear()
    assert probe.counters.invariant_breaches == 0
    assert probe.me.membership.losses == 0


@pytest.mark.parametrize("seed", range(10))
def test_a_form2_with_numbers_that_cannot_be_ends_in_an_installation_or_a_token_loss(seed):
    source = random.Random(seed)
    for _attempt in range(20):
        cluster = formed([1, 1])
        me = cluster.members[0]
        for number in range(source.randrange(5)):
            me.submit(f"m{number}", 1300)
        cluster.settle()
        before = len(me.upper.texts)
        me.ring.on_form1()
        me.membership.state = MembershipState.FORM
        members = me.membership.installed.members
        me.ring.on_form2(
            awkward(source, 3333),
            OldRingResult(
                awkward(source, me.ring.aru),
                awkward(source, me.ring.highest_seq),
                tuple(awkward(source, 3) for _hole in range(source.randrange(4))),
                members,
                source.choice([1, 2]),
            ),
            False,
        )
        me.membership.state = MembershipState.EVS
        state = me.ring.describe()
        assert len(state.missing) + len(state.held) <= 8192
        me.ring.on_token_loss()
        assert len(me.ring.describe().missing) <= 8192
        assert len(me.upper.texts) == before


def test_bytes_at_random_are_never_a_token():
    source = random.Random(1)
    probe = Probe(1)
    accepted = probe.counters.tokens_accepted
    for _try in range(2000):
        probe.me.take_token(source.randbytes(source.choice([0, 3, 39, 40, 41, 56, 200])))
    assert probe.me.sent == []
    assert probe.counters.tokens_accepted == accepted


def test_a_header_that_lies_is_caught_when_the_fragments_are_read():
    probe = Probe(1)
    packet = probe.packet(1)
    header = PacketHeader.decode(packet)
    for cut in range(40, len(packet)):
        probe.ring.data_packet(packet[:cut], header, 0.0)
    assert probe.ring.highest_seq == 0
    assert probe.counters.malformed_packets == len(packet) - 40
