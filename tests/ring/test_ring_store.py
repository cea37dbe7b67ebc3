"""The store of packets does what a plain dictionary of them would."""

from __future__ import annotations

import random

import pytest

from txspread.engine.ring.packet_store import NO_FRAGMENTS, NO_HEAD, Body, PacketStore
from txspread.wire.constants import PacketType
from txspread.wire.identifiers import MembershipId
from txspread.wire.packet import encode_body, encode_packet, encode_rest, encode_run


def packet(number: int, pieces: int = 1) -> tuple[bytes, Body]:
    text = b"%05d" % number
    fragments = [(-1, text * (10 + piece)) for piece in range(pieces)]
    first = fragments[0][1]
    data = encode_body(fragments)
    run = encode_run(8, 1, 2, MembershipId(3, 4))
    return run + encode_rest(5, 6, len(data), -1, len(first)), first if pieces == 1 else fragments


class Model:
    """The same rules, number by number."""

    def __init__(self) -> None:
        self.held: dict[int, tuple[bytes, Body]] = {}
        self.my_aru = self.highest = self.discarded = 0

    def extend(self) -> None:
        while self.my_aru + 1 in self.held and self.my_aru < self.highest:
            self.my_aru += 1


def step(dice: random.Random, store: PacketStore, model: Model) -> None:
    number = model.my_aru + dice.choice((1, 1, 1, 2, 3, 9))
    what = dice.randrange(10)
    if what < 6:
        if number not in model.held:
            model.held[number] = packet(number, dice.choice((1, 1, 3)))
            store.put(number, *model.held[number])
            model.highest = store.highest_seq = max(model.highest, number)
    elif what < 8:
        last = min(model.my_aru, model.discarded + dice.randrange(5))
        gone = [held for held in model.held if held <= last]
        for held in gone:
            del model.held[held]
        assert store.discard(last) == len(gone)
        model.discarded = last
    elif what == 8:
        missing = [n for n in range(model.my_aru + 1, number) if n not in model.held]
        store.highest_seq = model.highest = max(model.highest, number)
        store.mark_holes(missing)
        model.held.update(dict.fromkeys(missing, (NO_HEAD, NO_FRAGMENTS)))
    elif dice.random() < 0.5:
        store.drop_holes()
        model.held = {held: one for held, one in model.held.items() if one[0]}
        store.recompute_my_aru()
        model.my_aru = model.discarded
    else:
        limit = model.my_aru - dice.randrange(3)
        store.forget_above(limit)
        store.highest_seq = model.highest = max(limit, model.discarded)
        model.held = {held: one for held, one in model.held.items() if held <= limit}
        store.recompute_my_aru()
        model.my_aru = model.discarded
    store.extend()
    model.extend()


@pytest.mark.parametrize("seed", range(60))
def test_it_holds_what_a_dictionary_would_hold(seed):
    dice = random.Random(seed)
    store, model = PacketStore(), Model()
    for _ in range(150):
        step(dice, store, model)
        assert store.held() == sorted(model.held)
        assert len(store) == len(model.held)
        assert (store.my_aru, store.last_discarded) == (model.my_aru, model.discarded)
        for number in range(model.discarded - 2, model.my_aru + 12):
            assert store.holds(number) == (number in model.held)
            assert store.get(number) == model.held.get(number, (NO_HEAD, NO_FRAGMENTS))
        bound = model.my_aru + 10
        missing = [n for n in range(model.my_aru + 1, bound + 1) if n not in model.held]
        assert store.missing(bound, 4) == missing[:4]


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_a_datagram_is_made_as_it_was_sent(pieces):
    store = PacketStore()
    head, body = packet(1, pieces)
    store.put(1, head, body)
    fragments = [(-1, body)] if isinstance(body, bytes) else body
    assert store.datagram(1) == encode_packet(
        int(PacketType.AGREED), 1, 2, MembershipId(3, 4), 1, 5, 6, fragments
    )
    assert store.datagram(2) == b""


def test_a_wild_line_costs_no_more_than_what_is_held():
    store = PacketStore()
    for number in (1, 2, 5):
        store.put(number, *packet(number))
    assert store.discard(2_000_000_000) == 3
    assert (len(store), store.last_discarded) == (0, 2_000_000_000)
