"""The ring of one keeps the ordering contract without a network."""

from __future__ import annotations

from collections.abc import Sequence

from txspread.engine.interfaces import DownQueue
from txspread.engine.local_ring import LocalRing
from txspread.wire.constants import PacketType
from txspread.wire.identifiers import MembershipId, ProcId

ME = 0x7F000001


class Recorder:
    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []
        self.on_delivery: dict[bytes, list[bytes]] = {}
        self.ring: LocalRing | None = None
        self.depth = 0

    def on_message(self, message: bytes) -> None:
        assert self.depth == 0, "a delivery inside a delivery"
        self.depth += 1
        self.calls.append(("message", message))
        assert self.ring is not None
        for answer in self.on_delivery.get(message, []):
            self.ring.submit(answer, PacketType.SAFE)
        self.depth -= 1

    def on_messages(self, messages: list[bytes]) -> None:
        for message in messages:
            self.on_message(message)

    def on_transitional(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        self.calls.append(("transitional", (tuple(members), membership_id)))

    def on_regular(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        self.calls.append(("regular", (tuple(members), membership_id)))


def make() -> tuple[Recorder, LocalRing]:
    recorder = Recorder()
    ring = LocalRing(ME, recorder)
    recorder.ring = ring
    return recorder, ring


def test_the_first_membership_comes_before_messages_submitted_before_it() -> None:
    recorder, ring = make()
    ring.submit(b"early", PacketType.AGREED)
    assert recorder.calls == []
    ring.start(1000)
    assert recorder.calls == [
        ("transitional", ((ME,), MembershipId(ME, 999))),
        ("regular", ((ME,), MembershipId(ME, 1000))),
        ("message", b"early"),
    ]
    assert ring.membership_id == MembershipId(ME, 1000)


def test_messages_keep_the_order_of_submission() -> None:
    recorder, ring = make()
    ring.start(1000)
    del recorder.calls[:]
    for number in range(50):
        ring.submit(b"%d" % number, PacketType.RELIABLE)
    assert recorder.calls == [("message", b"%d" % number) for number in range(50)]
    assert ring.queued() == 0
    assert ring.messages_delivered == 50


def test_a_message_submitted_from_a_delivery_is_delivered_after_it() -> None:
    recorder, ring = make()
    ring.start(1000)
    del recorder.calls[:]
    recorder.on_delivery = {b"a": [b"b", b"c"], b"b": [b"d"]}
    ring.submit(b"a", PacketType.AGREED)
    assert [message for _, message in recorder.calls] == [b"a", b"b", b"c", b"d"]


def test_only_the_active_queue_is_served() -> None:
    recorder, ring = make()
    ring.start(1000)
    del recorder.calls[:]
    ring.switch_queue(DownQueue.GROUPS)
    ring.submit(b"exchange", PacketType.AGREED)
    ring.switch_queue(DownQueue.NORMAL)
    ring.submit(b"client", PacketType.AGREED)
    assert [message for _, message in recorder.calls] == [b"exchange", b"client"]


def test_a_delivery_that_raises_leaves_the_ring_usable() -> None:
    recorder, ring = make()
    ring.start(1000)
    failing = LocalRing(ME, recorder)

    class Broken(Recorder):
        def on_message(self, message: bytes) -> None:
            raise RuntimeError(message)

    failing = LocalRing(ME, Broken())
    failing.start(1000)
    for _ in range(2):
        try:
            failing.submit(b"x", PacketType.AGREED)
        except RuntimeError:
            continue
        raise AssertionError("the error was lost")
    assert failing.queued() == 0
