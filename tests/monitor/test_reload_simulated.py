"""Reloads of simulated daemons: rings, clients, and messages under way."""

from __future__ import annotations

import pytest
from monitor_bench import Alone, SimulatedRing

from txspread.config import ConfigurationError, parse
from txspread.config.reloading import compare
from txspread.wire.constants import ServiceType

REGULAR = "DangerousMonitor = true\nAcceleratedRing = false\n"


def file_of(*segments: str, options: str = REGULAR) -> str:
    """A file with a segment for each argument; daemons are named after a letter."""
    text = options
    for number, names in enumerate(segments):
        daemons = "".join(f" {name} 10.0.0.{ord(name) - 96}\n" for name in names)
        text += f"Spread_Segment 10.0.{number}.255:4803 {{\n{daemons}}}\n"
    return text


def ring_of(*segments: str, options: str = REGULAR) -> SimulatedRing:
    ring = SimulatedRing(file_of(*segments, options=options))
    ring.run(5.0)
    ring.connect(*"".join(segments))
    ring.run(1.0)
    return ring


def transitions(ring: SimulatedRing, name: str) -> int:
    return sum(1 for m in ring.clients[name].received if m.is_transition)


def test_clients_notice_nothing_when_all_reload_an_unchanged_file():
    ring = ring_of("ab", "c")
    seen = {name: len(ring.clients[name].received) for name in "abc"}
    ring.reload("a", "b", "c")
    ring.run(4.0)
    assert ring.rings() == {("a", "b", "c")}
    assert {name: len(ring.clients[name].received) for name in "abc"} == seen
    assert all(ring.node(name).reloads == 1 for name in "abc")
    for name in "abc":
        assert ring.logs[name].starting("Reload: ") == ["Reload: nothing changed"]
        change = ring.node(name).history.changes[-1]
        assert change.cause == "the configuration was reloaded"
        assert (change.lost, change.gained) == ((), ())
        assert 1.5 < change.seconds < 2.5


def test_an_added_daemon_joins_and_no_client_is_disturbed():
    ring = ring_of("ab")
    seen = len(ring.clients["a"].received)
    ring.write(file_of("ab", "c"))
    ring.reload("a", "b")
    ring.run(4.0)
    assert len(ring.clients["a"].received) == seen
    ring.network.start(["c"])
    ring.run(40.0)
    assert ring.rings() == {("a", "b", "c")}
    ring.connect("c")
    ring.run(1.0)
    assert ring.views("a")[-1] == (b"#ca#a", b"#cb#b", b"#cc#c")
    ring.say("c", "a")
    ring.run(1.0)
    assert sorted(ring.bodies("b")) == [b"a 1", b"c 1"]
    assert ring.logs["a"].starting("Conf_reload_initiate: Config Added daemon at 10.0.0.3 ")
    assert not any(ring.clients[name].closed for name in "abc")


def test_a_removed_daemon_is_lost_to_the_clients_of_the_others():
    ring = ring_of("ab", "c", "d")
    ring.write(file_of("ab", "c"))
    ring.reload("a", "b", "c")
    ring.run(4.0)
    assert ring.rings() == {("a", "b", "c"), ("d",)}
    assert ring.node("a").history.changes[-1].lost == ("d",)
    assert ring.views("a")[-1] == (b"#ca#a", b"#cb#b", b"#cc#c")
    assert transitions(ring, "a") == 1
    ring.say("a")
    ring.run(1.0)
    assert ring.bodies("c") == [b"a 1"]
    assert ring.bodies("d") == []


def test_another_order_of_daemons_gives_another_leader_and_order_of_members():
    ring = ring_of("a", "b", "c")
    text = file_of("c", "a", "b").replace("10.0.0.255", "10.0.2.256")
    for new, old in (("10.0.1.255", "10.0.0.255"), ("10.0.2.255", "10.0.1.255")):
        text = text.replace(new, old)
    ring.write(text.replace("10.0.2.256", "10.0.2.255"))
    ring.reload("a", "b", "c")
    ring.run(4.0)
    assert ring.rings() == {("c", "a", "b")}
    ring.clients["a"].leave(b"room")
    ring.run(1.0)
    ring.clients["a"].join(b"room")
    ring.run(1.0)
    assert ring.views("b")[-1] == (b"#cc#c", b"#ca#a", b"#cb#b")


def test_a_renamed_daemon_is_left_and_met_again():
    ring = ring_of("a", "b", "c")
    # c was renamed: it has to be restarted, and the others form rings of one first.
    text = file_of("a", "b", "c").replace(" c 10", " z 10")
    ring.network.daemons["c"].crash()
    ring.write(text)
    ring.reload("a", "b")
    ring.network.start(["z"])
    ring.run(8.0)
    ring.run(35.0)
    assert ring.rings() == {("a", "b", "z")}
    members = [change.members for change in ring.node("a").history.changes]
    assert ("a",) in members
    assert transitions(ring, "a") >= 1
    ring.say("a", "b")
    ring.run(1.0)
    assert ring.bodies("a") == ring.bodies("b")
    assert sorted(ring.bodies("a")) == [b"a 1", b"b 1"]


def test_a_daemon_gets_its_first_peer_without_losing_a_client():
    ring = ring_of("a")
    assert ring.node("a").ring is None
    ring.clients["a"].multicast(ServiceType.SAFE_MESS, [b"room"], b"alone")
    ring.run(0.1)
    ring.write(file_of("a", "b"))
    ring.network.start(["b"])
    ring.connect("b")
    ring.run(0.001)
    ring.reload("a")
    ring.run(0.1)
    ring.say("a")  # while the first ring forms
    ring.run(5.0)
    assert ring.rings() == {("a", "b")}
    assert ring.views("b")[-1] == (b"#ca#a", b"#cb#b")
    assert ring.bodies("a") == [b"alone", b"a 1"]
    ring.say("b", "a")
    ring.run(1.0)
    assert sorted(ring.bodies("b")[-2:]) == [b"a 2", b"b 1"]
    assert not ring.clients["a"].closed
    assert ring.node("a").faults == 0
    status = ring.node("a").status(ring.now)
    assert (status.num_procs, status.leader_id) == (2, 0x0A000001)


def test_a_daemon_goes_on_alone_when_its_last_peer_is_removed_and_takes_it_back():
    ring = ring_of("a", "b")
    ring.write(file_of("a"))
    ring.reload("a")
    ring.run(4.0)
    assert ring.node("a").history.changes[-1].members == ("a",)
    assert ring.views("a")[-1] == (b"#ca#a",)
    ring.say("a")
    ring.run(0.5)
    assert ring.bodies("a") == [b"a 1"]
    ring.write(file_of("a", "b"))
    ring.reload("a")
    ring.run(40.0)
    assert ring.rings() == {("a", "b")}
    assert ring.views("a")[-1] == (b"#ca#a", b"#cb#b")
    assert not ring.clients["a"].closed


def test_an_unstated_accelerated_ring_comes_on_at_the_first_reload():
    ring = ring_of("ab", options="")
    before = ring.node("a").configuration.hash
    assert ring.node("a").status(ring.now).accelerated_ring == 0
    ring.write(file_of("ab", options=""))
    ring.reload("a")
    ring.run(0.5)
    assert ring.node("a").configuration.hash != before
    assert any("hash changed from" in line for line in ring.logs["a"].starting("Reload: "))
    ring.reload("b")
    ring.run(6.0)
    assert ring.rings() == {("a", "b")}
    assert all(ring.node(name).status(ring.now).accelerated_ring == 1 for name in "ab")


def test_a_daemon_that_has_not_reloaded_is_named_in_the_log_and_left_out():
    ring = ring_of("a", "b")
    ring.write(file_of("a", "b", options="AcceleratedRing = true\n"))
    ring.reload("a")
    ring.run(10.0)
    (line,) = ring.logs["a"].starting("Daemon 10.0.0.2 has a different configuration")
    assert str(ring.node("b").configuration.hash) in line
    assert str(ring.node("a").configuration.hash) in line
    assert ring.rings() == {("a",), ("b",)}
    ring.reload("b")
    ring.run(40.0)
    assert ring.rings() == {("a", "b")}


def test_a_reload_waits_until_the_ring_works_and_only_the_last_one_counts():
    ring = ring_of("a", "b")
    ring.network.daemons["b"].crash()
    ring.run(1.5)
    assert ring.node("a").membership_state.value != 1
    ring.write(file_of("a", "b", options=REGULAR + "Window = 30\n"))
    ring.reload("a")
    ring.run(0.01)
    ring.write(file_of("a", "b", "c", options=REGULAR + "Window = 40\n"))
    ring.reload("a")
    ring.run(0.01)
    assert ring.node("a").reloads == 0
    ring.run(6.0)
    assert ring.node("a").reloads == 1
    assert ring.node("a").status(ring.now).window == 40
    assert [daemon.name for daemon in ring.node("a").configuration.daemons] == ["a", "b", "c"]
    assert any("10.0.0.3 added" in line for line in ring.logs["a"].starting("Reload: "))


@pytest.mark.parametrize(
    "text",
    [
        file_of("b"),
        file_of("ab").replace(" a 10", " z 10"),
        file_of("ab").replace("10.0.0.255", "10.0.0.254"),
        file_of("ab").replace(":4803", ":4804"),
    ],
    ids=["gone", "renamed", "moved", "other port"],
)
def test_a_file_that_changes_what_the_daemon_is_is_refused(text):
    alone = Alone(file_of("ab"), "a")
    before = alone.node.configuration
    with pytest.raises(ConfigurationError, match="reload refused"):
        compare(before, parse(text, previous=before), alone.node.me)


def test_windows_and_session_limits_follow_the_file():
    alone = Alone(file_of("a"), "a")
    changed = REGULAR + "Window = 70\nPersonalWindow = 30\nMaxSessionMessages = 5\n"
    alone.reload(file_of("a", options=changed))
    status = alone.node.status(alone.now)
    assert (status.window, status.personal_window) == (70, 30)
    assert status.membership_changes == 2
    lines = alone.host.take_lines("Reload: ")
    assert "Reload: Window: 160 to 70" in lines
    assert "Reload: MaxSessionMessages: 1000 to 5" in lines


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("loss", [0.0, 0.02])
@pytest.mark.parametrize("change", ["nothing", "added", "removed"])
def test_a_reload_under_load_loses_and_repeats_nothing(seed, loss, change):
    ring = SimulatedRing(file_of("ab", "c", "d"), seed)
    ring.network.faults.loss = loss
    ring.network.faults.reordering = 2.5 * loss
    for _ in range(60):
        ring.run(1.0)
        if all(len(ring.node(name).membership) == 4 for name in "abcd"):
            break
    ring.run(5.0)
    ring.connect(*"abcd")
    ring.run(1.0)
    segments = {"nothing": ("ab", "c", "d"), "added": ("ab", "c", "d", "e"), "removed": ("ab", "c")}
    stay = "abc" if change == "removed" else "abcd"
    views = len(ring.views("a"))
    for turn in range(120):
        if turn == 30:
            ring.write(file_of(*segments[change]))
            ring.reload(*stay)
        for service in (ServiceType.AGREED_MESS, ServiceType.SAFE_MESS, ServiceType.FIFO_MESS):
            ring.say(*stay, service=service)
        ring.run(0.05)
    ring.run(20.0)
    for sender in stay:
        sent = [b"%s %d" % (sender.encode(), n) for n in range(1, ring.sent[sender] + 1)]
        for receiver in stay:
            got = [body for body in ring.bodies(receiver) if body.startswith(sender.encode())]
            assert got == sent, (sender, receiver)
    if change != "removed" and not loss:
        # Where tokens of the formation are lost or come late, a daemon may be left out
        # for a moment.
        assert len(ring.views("a")) == views
        assert all(transitions(ring, name) == 0 for name in stay)
    assert all(ring.node(name).faults == 0 for name in stay)
