"""Recovery: old rings are closed alike everywhere, holes and all."""

from __future__ import annotations

import pytest
from ring_cluster import Cluster, Member, formed

from txspread.engine.ring_interfaces import MembershipState, Timer
from txspread.wire.constants import PacketType
from txspread.wire.packet import PacketHeader
from txspread.wire.token import Token


def seq_of(packet: bytes) -> int:
    return PacketHeader.decode(packet).seq


def all_op(members: list[Member]) -> bool:
    return all(m.membership.state is MembershipState.OP for m in members)


def since_regular(member: Member) -> list[tuple[str, object]]:
    """Events after the first regular membership; memberships without their ids."""
    kinds = [kind for kind, _value in member.upper.events]
    events = member.upper.events[kinds.index("regular") + 1 :]
    return [
        (kind, value if kind == "message" else value[0])  # type: ignore[index]
        for kind, value in events
    ]


def worked_example(missing: dict[str, set[int]]) -> tuple[Cluster, list[Member]]:
    """The messages of the worked examples; ``missing`` says what d1 and d2 never get."""
    cluster = formed([1, 1, 1])
    d1, d2, d3 = cluster.members
    for number in range(1, 8):
        d3.submit(f"early{number}", 1300)
    cluster.settle()
    assert d1.ring.aru == 7

    def drop(_source: Member, target: Member, packet: bytes) -> bool:
        return seq_of(packet) in missing[target.daemon.name]

    cluster.drop = drop
    safe, fifo, reliable = PacketType.SAFE, PacketType.FIFO, PacketType.RELIABLE

    def visit(sender: Member, *submits: tuple[str, PacketType]) -> None:
        """Give one member its messages and one visit of the token."""
        for text, kind in submits:
            sender.submit(text, 1300, kind)
        rounds = sender.ring.counters.tokens_accepted
        cluster.run(lambda: sender.ring.counters.tokens_accepted > rounds + 1)

    visit(d3, ("8", PacketType.AGREED), ("9", PacketType.AGREED))
    visit(d1, ("10", PacketType.AGREED))
    visit(d2, ("11", safe))
    visit(d3, ("12", PacketType.AGREED))
    visit(d1, ("13", fifo))
    visit(d2, ("14", reliable))
    assert d1.ring.highest_seq == 14
    d3.alive = False
    return cluster, [d1, d2]


def test_after_an_agreed_hole_only_packets_of_the_commit_set_are_delivered():
    cluster, rest = worked_example({"d1": {8}, "d2": {8}, "d3": set()})
    before = [len(since_regular(m)) for m in rest]
    cluster.form(rest)
    cluster.run(lambda: all_op(rest))
    ids = tuple(m.id for m in rest)
    for member, start in zip(rest, before, strict=True):
        events = since_regular(member)[start:]
        assert events == [
            ("transitional", ids),
            ("message", "10"),
            ("message", "11"),
            ("message", "13"),
            ("regular", ids),
        ]
        # The RELIABLE one overtook the gap while the ring still worked.
        assert since_regular(member)[:start].count(("message", "14")) == 1


def test_the_old_ring_lends_what_one_member_lacks_before_anyone_installs():
    lacking = {8, 9, 10, 12, 13}
    cluster, rest = worked_example({"d1": set(), "d2": lacking, "d3": set()})
    d1, d2 = rest
    before = [len(since_regular(m)) for m in rest]
    cluster.drop = None
    d1.sent.clear()
    d2.sent.clear()
    cluster.form(rest)
    cluster.run(lambda: all_op(rest))
    answers = [(how, to, seq_of(p)) for how, to, p in d1.sent if how in ("daemon", "all")]
    assert answers == [("daemon", d2.id, number) for number in sorted(lacking)]
    ids = tuple(m.id for m in rest)
    later = [
        ("transitional", ids),
        *[("message", text) for text in ("11", "12", "13")],
    ]
    assert since_regular(d1)[before[0] :] == [*later, ("message", "14"), ("regular", ids)]
    assert since_regular(d2)[before[1] :] == [
        *[("message", text) for text in ("8", "9", "10")],
        *later,
        ("regular", ids),
    ]
    requests = [r for how, _to, p in d2.sent if how == "token" for r in Token.decode(p).requests]
    assert requests[0].seqs == tuple(sorted(lacking))
    assert requests[0].proc_id == d2.id
    assert requests[0].seg_index == 1
    assert all(Token.decode(p).seq == 0 for how, _to, p in d2.sent[:3] if how == "token")


@pytest.mark.parametrize("seed", range(8))
def test_a_crash_under_load_and_loss_leaves_the_same_deliveries_in_the_same_views(seed):
    cluster = formed([2, 2, 1], seed=seed, accelerated_ring=bool(seed % 2))
    cluster.loss, cluster.reordering = 0.08, 0.2
    kinds = [PacketType.AGREED, PacketType.FIFO, PacketType.SAFE]
    for round_ in range(50):
        for member in cluster.members:
            member.submit(
                f"{member.daemon.name}-{round_}",
                cluster.random.choice([0, 1000, 4000]),
                cluster.random.choice(kinds),
            )
    victim = cluster.members[cluster.random.randrange(5)]
    stop_at = cluster.random.randrange(5, 120)
    cluster.run(lambda: victim.ring.highest_seq >= stop_at)
    victim.alive = False
    rest = [m for m in cluster.members if m is not victim]
    for _step in range(4):
        cluster.step()
    cluster.form(rest)
    cluster.run(lambda: all_op(rest))
    cluster.settle()
    first = since_regular(rest[0])
    for member in rest:
        assert since_regular(member) == first
        for sender in rest:
            own = [t for t in member.upper.texts if t.startswith(sender.daemon.name + "-")]
            assert own == [f"{sender.daemon.name}-{n}" for n in range(50)]
    # What the victim delivered itself is a prefix of what the others did, up to
    # messages that only it can have seen (its own, unstable ones).
    seen = [t for t in victim.upper.texts if t in set(rest[0].upper.texts)]
    assert seen == rest[0].upper.texts[: len(seen)]


def test_two_rings_merge_and_each_closes_with_its_own_messages():
    cluster = Cluster([3, 2])
    a, b = cluster.members[:3], cluster.members[3:]
    cluster.form(a)
    cluster.run(lambda: all_op(a))
    cluster.form(b)
    cluster.run(lambda: all_op(b))
    a[1].submit("of a")
    b[1].submit("of b", kind=PacketType.SAFE)
    cluster.run(lambda: "of a" in a[0].upper.texts)
    cluster.form(cluster.members)
    cluster.run(lambda: all_op(cluster.members))
    for member in a:
        assert member.upper.texts == ["of a"]
        assert since_regular(member)[-2] == ("transitional", tuple(m.id for m in a))
    for member in b:
        assert member.upper.texts == ["of b"]
        assert since_regular(member)[-2] == ("transitional", tuple(m.id for m in b))
    for member in cluster.members:
        assert since_regular(member)[-1] == ("regular", tuple(m.id for m in cluster.members))


def test_a_half_sent_message_is_dropped_and_sent_whole_in_the_new_membership():
    cluster = formed([1, 1, 1], personal_window=2)
    d1, d2, d3 = cluster.members
    d1.submit("long", 10000)
    cluster.run(lambda: d1.ring.highest_seq >= 4)
    d3.alive = False
    cluster.form([d1, d2])
    cluster.run(lambda: all_op([d1, d2]) and "long" in d2.upper.texts)
    for member in (d1, d2):
        events = since_regular(member)
        assert [kind for kind, _ in events] == ["transitional", "regular", "message"]


def test_late_packets_after_form1_are_as_if_never_received():
    cluster = formed([1, 1, 1])
    d1, d2, d3 = cluster.members
    d3.submit("seen", 1300)
    cluster.settle()
    late: list[bytes] = []

    def drop(source: Member, _target: Member, packet: bytes) -> bool:
        late.append(packet)
        return source is d3

    cluster.drop = drop
    d3.submit("one", 1300)
    d3.submit("two", 1300)
    cluster.run(lambda: len(late) >= 4)
    d3.alive = False
    late = [p for p in late if PacketHeader.decode(p).proc_id == d3.id]
    cluster.drop = None
    cluster.form([d1, d2])
    # In EVS, and above the agreed highest number.
    for packet in late:
        d1.take_data(packet)
        d2.take_data(packet)
    cluster.run(lambda: all_op([d1, d2]))
    assert d1.ring.counters.late_packets + d2.ring.counters.late_packets > 0
    assert since_regular(d1) == since_regular(d2)
    assert "two" not in d1.upper.texts


def test_data_of_the_old_ring_is_ignored_between_form1_and_form2():
    cluster = formed([1, 1])
    d1, d2 = cluster.members
    packets: list[bytes] = []

    def drop(_source: Member, _target: Member, packet: bytes) -> bool:
        packets.append(packet)
        return True

    cluster.drop = drop
    d2.submit("x", 1300)
    cluster.run(lambda: bool(packets))
    d1.membership.state = MembershipState.FORM
    d1.membership.token_alive = False
    d1.take_data(packets[0])
    assert d1.ring.counters.late_packets == 1
    assert d1.ring.my_aru == 0


def test_a_recovery_that_cannot_end_is_given_up_and_can_be_tried_again():
    cluster, rest = worked_example({"d1": set(), "d2": {9}, "d3": set()})
    d1, d2 = rest
    before = len(since_regular(d2))
    cluster.form(rest)
    cluster.run(lambda: not d1.membership.token_alive and not d2.membership.token_alive)
    assert d1.ring.counters.recoveries_abandoned + d2.ring.counters.recoveries_abandoned >= 1
    assert since_regular(d2)[before:] == []
    cluster.drop = None
    cluster.form(rest)
    cluster.run(lambda: all_op(rest))
    ids = (d1.id, d2.id)
    assert since_regular(d2)[before:] == [
        ("message", "9"),
        ("message", "10"),
        ("transitional", ids),
        ("message", "11"),
        ("message", "12"),
        ("message", "13"),
        ("regular", ids),
    ]
    assert sorted(d1.upper.texts) == sorted(d2.upper.texts)


def test_a_commit_set_outlives_a_failed_recovery_and_saves_its_messages_after_a_hole():
    # d1 and d2 commit together; d2 then dies with d1 not yet installed.  d1 must
    # keep d2's packets behind a hole, since d2 may have installed.
    cluster, rest = worked_example({"d1": {8}, "d2": {8}, "d3": set()})
    d1, d2 = rest
    cluster.form(rest)
    cluster.run(lambda: d1.ring.my_aru > 3000)
    assert d1.membership.state is MembershipState.EVS
    assert d1.ring.commit_list()[0] == (d1.id, d2.id)
    d2.alive = False
    before = len(since_regular(d1))
    cluster.form([d1])
    cluster.run(lambda: all_op([d1]))
    events = since_regular(d1)[before:]
    assert events == [
        ("transitional", (d1.id,)),
        ("message", "10"),
        ("message", "11"),
        ("message", "13"),
        ("regular", (d1.id,)),
    ]
    assert d1.ring.commit_list() == ((d1.id,), 1)


def test_token_loss_in_recovery_makes_holes_missing_again():
    cluster, rest = worked_example({"d1": {8}, "d2": {8}, "d3": set()})
    d1, _d2 = rest
    cluster.form(rest)
    assert d1.membership.state is MembershipState.EVS
    d1.ring.timer(Timer.LOSS, cluster.now)
    assert d1.membership.losses >= 1
    state = d1.ring.describe()
    assert (state.aru, state.highest_seq, state.missing) == (7, 14, (8,))
    assert state.held == frozenset(range(9, 15))
