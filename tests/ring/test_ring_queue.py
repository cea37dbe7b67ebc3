"""The face towards the layers above: submitting, the water mark, a ring of one."""

from __future__ import annotations

from ring_cluster import Cluster, make_configuration, message
from ring_probe import Probe

from txspread.engine.interfaces import DownQueue
from txspread.engine.ring_interfaces import MembershipState, Timer
from txspread.wire.constants import PacketType


def test_clients_are_stopped_at_500_messages_and_served_again_below():
    probe = Probe(1)
    for number in range(499):
        probe.me.submit(f"m{number}", 1300)
    assert probe.me.gate.calls == []
    probe.me.submit("the last")
    probe.me.submit("one more")
    assert probe.me.gate.calls == ["stop"]
    assert probe.ring.queued() == 501
    probe.pass_token(flow_control=180)
    assert probe.me.gate.calls == ["stop"]
    probe.pass_token(flow_control=179)
    assert probe.me.gate.calls == ["stop"]
    probe.pass_token(flow_control=178)
    assert probe.me.gate.calls == ["stop", "serve"]


def test_serving_clients_may_fill_the_queue_again_at_once():
    probe = Probe(1)
    for number in range(500):
        probe.me.submit(f"m{number}", 1300)

    def serve() -> None:
        probe.me.gate.calls.append("serve")
        while probe.ring.queued() < 500:
            probe.me.submit("again", 1300)

    probe.me.gate.serve_clients = serve  # type: ignore[method-assign]
    probe.pass_token()
    assert probe.me.gate.calls == ["stop", "serve", "stop"]
    assert probe.ring.queued() == 500


def test_a_message_that_cannot_travel_is_refused():
    probe = Probe(1)
    probe.ring.submit(bytes(143_201), PacketType.AGREED)
    probe.ring.submit(bytes(47), PacketType.AGREED)
    assert probe.ring.queued() == 0
    assert probe.counters.refused_messages == 2
    probe.ring.submit(bytes(143_200), PacketType.AGREED)
    assert probe.ring.queued() == 1


def test_messages_wait_in_their_queue_while_the_other_one_is_served():
    probe = Probe(1)
    probe.me.submit("normal")
    probe.ring.switch_queue(DownQueue.GROUPS)
    assert probe.ring.queued() == 0
    probe.me.submit("groups", kind=PacketType.RELIABLE)
    probe.pass_token()
    assert probe.texts == ["groups"]
    probe.ring.switch_queue(DownQueue.NORMAL)
    probe.pass_token(seq=1, aru=1)
    assert probe.texts == ["groups", "normal"]


def _alone() -> Cluster:
    cluster = Cluster([1, 1])
    cluster.members[0].submit("early")
    cluster.form(cluster.members[:1], lose_first_token=True)
    return cluster


def test_a_ring_of_one_installs_and_delivers_without_a_datagram():
    cluster = _alone()
    me = cluster.members[0]
    assert me.upper.events == []
    cluster.fire(me)
    kinds = [kind for kind, _value in me.upper.events]
    assert kinds == ["transitional", "regular", "message"]
    assert me.membership.state is MembershipState.OP
    me.submit("safe", kind=PacketType.SAFE)
    me.submit("long", 100_000)
    assert me.upper.texts == ["early", "safe", "long"]
    assert me.sent == []
    assert Timer.LOSS not in me.timers.deadlines
    assert Timer.HURRY not in me.timers.deadlines
    assert me.ring.aru == me.ring.highest_seq == 3


def test_a_ring_of_one_never_delivers_inside_a_delivery():
    cluster = _alone()
    me = cluster.members[0]
    cluster.fire(me)
    depth: list[int] = []

    def hook(_frame: bytes) -> None:
        if len(me.upper.texts) < 4:
            me.submit(f"reply{len(me.upper.texts)}")
            depth.append(me.ring.queued())

    me.upper.hook = hook
    me.submit("start")
    cluster.run(lambda: me.ring.queued() == 0)
    assert me.upper.texts == ["early", "start", "reply2", "reply3"]
    assert depth == [1, 1]


def test_a_ring_of_one_hands_nothing_up_once_its_state_is_told_and_goes_on_in_the_next():
    cluster = _alone()
    me, other = cluster.members
    cluster.fire(me)
    cluster.form([other], lose_first_token=True)
    cluster.fire(other)
    me.ring.on_form1()
    me.membership.state = MembershipState.FORM
    me.membership.token_alive = False
    me.submit("while forming")
    cluster.fire(me)
    assert me.upper.texts == ["early"]
    cluster.form(cluster.members)
    cluster.run(lambda: "while forming" in other.upper.texts)
    assert me.upper.texts == ["early", "while forming"]
    kinds = [kind for kind, _value in me.upper.events]
    assert kinds == ["transitional", "regular", "message", "transitional", "regular", "message"]


def test_a_ring_of_one_starts_its_numbers_again_at_the_wrap_limit():
    cluster = _alone()
    me = cluster.members[0]
    cluster.fire(me)
    store = me.ring._store
    store.highest_seq = store.my_aru = store.aru = 2**30
    store.last_delivered = store.last_discarded = 2**30
    me.submit("over")
    assert me.upper.texts == ["early", "over"]
    assert me.ring.highest_seq == 1


def test_a_ring_of_one_takes_no_token():
    cluster = _alone()
    me = cluster.members[0]
    cluster.fire(me)
    probe = Probe(1)
    token = probe.make_token(transmiter_id=me.id, memb_id=me.membership.installed.id, type=1 << 16)
    me.take_token(token.encode())
    assert me.ring.counters.foreign_tokens == 1
    assert me.sent == []


def test_before_the_first_installation_messages_only_wait():
    cluster = Cluster([1, 1])
    me = cluster.members[0]
    me.membership.state = MembershipState.OP
    me.membership.token_alive = True
    me.submit("x")
    cluster.fire(me)
    me.ring.timer(Timer.DELIVERY, 0.0)
    assert me.upper.events == []
    assert me.ring.queued() == 1


def test_a_reload_takes_new_windows_and_shows_the_default_of_the_accelerated_ring():
    probe = Probe(1)
    assert not probe.ring.flow.accelerated
    probe.ring.reload(probe.cluster.configuration)
    assert probe.ring.flow.accelerated
    probe.ring.reload(
        make_configuration([1, 1, 1], hash=99, window=50, personal_window=3, accelerated_ring=False)
    )
    flow = probe.ring.flow
    assert (flow.window, flow.personal_window, flow.accelerated) == (50, 3, False)
    assert probe.pass_token() is None
    assert probe.counters.foreign_hash_tokens == 1
    for number in range(9):
        probe.me.submit(f"m{number}", 1300)
    probe.pass_token(conf_hash=99)
    assert probe.counters.packet_sent == 3
    datagram = next(data for how, _to, data in probe.me.sent if how == "all")
    assert int.from_bytes(datagram[28:32], "little") == 99


def test_a_monitor_sets_the_windows_and_minus_one_changes_nothing():
    probe = Probe(1)
    flow = probe.ring.flow
    flow.set_windows(-1, 2, -1)
    assert (flow.window, flow.personal_window, flow.accelerated_window) == (160, 2, 15)
    for number in range(9):
        probe.me.submit(f"m{number}", 1300)
    probe.pass_token()
    assert probe.counters.packet_sent == 2
    flow.set_windows(window=0)
    probe.pass_token()
    assert probe.counters.packet_sent == 2


def test_the_message_that_comes_back_is_the_one_submitted():
    probe = Probe(1)
    frames: list[bytes] = []
    probe.me.upper.hook = frames.append
    frame, kind = message("exact", 5000)
    probe.ring.submit(frame, kind)
    probe.pass_token()
    assert frames == [frame]
