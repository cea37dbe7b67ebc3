"""Reloads, partition commands, ids, and log lines, as membership sees them."""

from __future__ import annotations

from attrs import evolve
from membership_alone import Bench, NotedTimers
from membership_world import EPOCH, LAN, World, configuration_of

from txspread.engine.alarms import Category, Priority
from txspread.engine.membership.identifiers import IdClock, signed32
from txspread.engine.membership.lines import membership_block, membership_line
from txspread.engine.ring_interfaces import MembershipState, Timer
from txspread.engine.routing_partition import PARTITION_TIMEOUT, PartitionCommands
from txspread.wire.identifiers import MembershipId
from txspread.wire.monitor import encode_partition
from txspread.wire.packet import PacketHeader

OP, SEG, REPRESENTED, GATHER, FORM, EVS = MembershipState


# Reload.


def test_what_waits_for_op_runs_at_once_there():
    made = Bench(configuration_of((2, 1)), configuration_of((2, 1)).daemons[0])
    made.put(OP)
    ran = []
    made.membership.when_in_op(lambda: ran.append(1))
    assert ran == [1]


def test_what_waits_for_op_runs_once_by_a_timer_when_op_is_reached():
    made = Bench(configuration_of((2, 1)), configuration_of((2, 1)).daemons[0])
    made.put(EVS)
    ran = []
    made.membership.when_in_op(lambda: ran.append(1))
    made.membership.when_in_op(lambda: ran.append(2))
    assert ran == []
    made.membership.install_future()
    assert ran == []
    assert made.timers.set[Timer.RELOAD] == 0.0
    made.membership.timer(Timer.RELOAD, 0.0)
    made.membership.timer(Timer.RELOAD, 0.0)
    assert ran == [2]


def test_a_reload_waits_on_if_op_is_left_before_its_timer_fires():
    made = Bench(configuration_of((2, 1)), configuration_of((2, 1)).daemons[0])
    made.put(EVS)
    ran = []
    made.membership.when_in_op(lambda: ran.append(1))
    made.membership.install_future()
    made.membership.token_loss()
    made.membership.timer(Timer.RELOAD, 0.0)
    assert ran == []
    made.put(EVS)
    made.membership.install_future()
    made.membership.timer(Timer.RELOAD, 0.0)
    assert ran == [1]


def reload_all(world, configuration, isolate):
    world.configuration = configuration
    for node in world.nodes:
        me = configuration.by_name[node.daemon.name]
        node.daemon = me
        node.membership.when_in_op(
            lambda node=node, me=me: (
                node.routing.reconfigure(me, configuration),
                node.membership.reconfigure(me, configuration, isolate),
            )
        )


def test_a_reload_of_all_forms_the_ring_anew_in_seg_plus_gather():
    world = World((1, 2))
    world.start()
    world.run(3.0)
    before = world.one_ring()
    reload_all(world, evolve(world.configuration, hash=99), isolate=False)
    world.run(1.7)
    assert not world.rings()
    world.run(0.2)
    assert world.one_ring().members == before.members
    # All come along: nobody but the daemons notices.
    assert all(set(n.installed[-1][1]) == set(before.members) for n in world.nodes)


def test_a_reload_that_changes_an_identity_goes_through_rings_of_one():
    world = World((1, 1, 1))
    world.start()
    world.run(3.0)
    reload_all(world, evolve(world.configuration, hash=99), isolate=True)
    world.run(1.85)
    assert all(len(node.installed[-1][2].members) == 1 for node in world.nodes)
    assert not any(node.routing.isolated for node in world.nodes)
    world.run(1.3)
    assert len(world.one_ring().members) == 3


def test_a_daemon_that_reloads_alone_is_a_stranger_to_the_others():
    world = World((1, 1, 1))
    world.start()
    world.run(3.0)
    node = world.nodes[2]
    changed = evolve(world.configuration, hash=99)
    node.routing.reconfigure(node.daemon, changed)
    node.membership.reconfigure(node.daemon, changed, False)
    world.run(4.0)
    assert sorted(map(len, world.rings().values())) == [1, 2]


def test_a_reload_changes_the_timeouts_and_drops_a_member_that_is_gone():
    configuration = configuration_of((1, 1, 1))
    a, b, c = configuration.daemons
    made = Bench(configuration, a)
    made.put(OP, members=(a.id, b.id, c.id))
    fewer = configuration_of((1, 1), timeouts=evolve(LAN, seg=7.0))
    made.routing.reconfigure(fewer.daemons[0], fewer)
    made.membership.reconfigure(fewer.daemons[0], fewer, False)
    assert made.membership.state is SEG
    assert made.timers.set[Timer.SEG] == 7.0
    assert [rep.proc_id for rep in made.membership.gathering.ask] == [b.id]
    assert not made.membership.wide_area


# Partition commands.


class Commands:
    def __init__(self, dangerous=True):
        self.configuration = evolve(configuration_of((1, 1, 1)), dangerous_monitor=dangerous)
        self.me, self.other, _ = self.configuration.daemons
        self.bench = Bench(self.configuration, self.me)
        self.bench.leave = self.leave
        self.left = []
        self.lines = []
        self.timers = NotedTimers()
        self.commands = PartitionCommands(
            self.me, self.configuration, self.bench.routing, self.timers, self.bench, self
        )

    def leave(self, reason):
        self.left.append(reason)

    def wants(self, category, priority):
        return True

    def alarm(self, category, priority, text, *args):
        self.lines.append((category, priority, text % args))

    def send(self, components, monitor=None, cut=0):
        data = encode_partition(components, monitor or self.other.id, 6543)
        data = data[: len(data) - cut]
        header = self.bench.routing.receive_packet(data)
        self.commands.command(header, data)


def test_a_partition_command_sets_components_for_sixty_seconds():
    made = Commands()
    made.send([4, 4, 5])
    assert made.bench.routing.components == (4, 4, 5)
    assert made.timers.set == {Timer.PARTITION: PARTITION_TIMEOUT} == {Timer.PARTITION: 60.0}
    assert made.lines == [
        (Category.PRINT, Priority.WARNING, "Net_recv: Got monitor message, component 4")
    ]
    made.bench.membership.timer(Timer.PARTITION, 0.0)
    assert made.bench.routing.components == (0, 0, 0)


def test_a_command_that_cancels_restarts_the_timer_too():
    made = Commands()
    made.send([0, 0, 0])
    assert made.timers.set == {Timer.PARTITION: 60.0}


def test_minus_one_ends_this_daemon_and_no_other():
    made = Commands()
    made.send([0, -1, 0])
    assert made.left == []
    made.send([-1, 0, 0])
    assert made.left == ["Net_recv: Instructed to exit by monitor"]


def test_a_partition_command_is_denied_where_monitors_are_not_dangerous():
    made = Commands(dangerous=False)
    made.send([-1, 1, 2])
    assert made.left == []
    assert made.bench.routing.components == (0, 0, 0)
    assert not made.timers.set
    assert made.commands.denied == 1
    assert made.lines[0][2] == (
        "Net_recv: Request to set partition or kill daemons from (10.0.1.1) denied. "
        "Monitor in safe mode"
    )


def test_a_partition_command_that_is_too_short_or_of_a_stranger_is_ignored():
    made = Commands()
    made.send([1, 2, 3], monitor=0x01020304)
    made.send([1, 2, 3], cut=251)
    data = bytearray(encode_partition([1, 2, 3], made.other.id, 6543))
    data[12] ^= 1
    made.commands.command(PacketHeader.decode(bytes(data)), bytes(data))
    assert made.commands.ignored == 3
    assert made.bench.routing.components == (0, 0, 0)
    assert not made.timers.set


def test_an_isolated_daemon_restarts_the_timer_but_keeps_to_itself():
    made = Commands()
    made.bench.routing.isolate()
    made.send([0, 0, 0])
    assert made.timers.set == {Timer.PARTITION: 60.0}
    assert made.bench.routing.components == (0, 1, 2)


# Ids.


def test_times_of_ids_follow_the_clock_and_never_repeat():
    now = [100]
    clock = IdClock(lambda: now[0])
    assert [clock.next(), clock.next(), clock.after()] == [100, 101, 102]
    now[0] = 50
    assert clock.next() == 103
    now[0] = 200
    assert clock.next() == 200
    assert clock.last_used == 200


def test_a_time_seen_in_use_is_stepped_over_unless_it_is_absurd():
    clock = IdClock(lambda: 1000)
    clock.seen(1500)
    assert clock.next() == 1501
    clock.seen(2_000_000_000)
    clock.seen(-1)
    assert clock.next() == 1502


def test_times_beyond_2038_wrap_and_are_never_zero():
    clock = IdClock(lambda: 0x7FFFFFFF)
    assert [clock.next(), clock.next()] == [0x7FFFFFFF, -0x80000000]
    clock = IdClock(lambda: 0xFFFFFFFF)
    assert [clock.next(), clock.next(), clock.after()] == [-1, 1, 2]
    assert signed32(0x1_0000_0005) == 5


def test_a_lower_bound_for_times_can_be_carried_over_a_restart():
    configuration = configuration_of((1, 1))
    made = Bench(configuration, configuration.daemons[0])
    assert made.membership.last_time_used == -1
    made.membership.clock.last_used = EPOCH + 500
    made.put(GATHER)
    made.membership.timer(Timer.GATHER, 0.0)
    assert made.membership.attempt.time == EPOCH + 501
    assert made.membership.last_time_used == EPOCH + 503


# Log lines.


def test_the_lines_of_a_new_ring_are_those_that_scripts_look_for():
    assert membership_line(MembershipId(0x7F000001, 1795464628)) == (
        "Membership id is ( 2130706433, 1795464628)"
    )
    assert membership_line(MembershipId(0xC0A80001, -1)) == "Membership id is ( -1062731775, -1)"
    configuration = configuration_of((2, 1))
    ids = [daemon.id for daemon in configuration.daemons]
    assert membership_block("d0a", configuration, [ids[0]]) == (
        "--------------------\n"
        "Configuration at d0a is:\n"
        "Num Segments 2\n"
        "\t1\t10.0.0.255        4803\n"
        "\t\td0a                 \t10.0.0.1        \n"
        "\t0\t10.0.1.255        4803\n"
        "====================\n"
    )


def test_a_token_loss_and_an_installation_are_told_to_the_log():
    class Lines(list):
        def wants(self, category, priority):
            return True

        def alarm(self, category, priority, text, *args):
            self.append((category, text % args))

    configuration = configuration_of((1, 1))
    lines = Lines()
    made = Bench(configuration, configuration.daemons[0])
    made.membership.alarms = lines
    made.put(EVS, ring_id=MembershipId(1, 2))
    made.membership.install_future()
    assert lines[0] == (Category.PRINT, "Membership id is ( 1, 2)")
    assert lines[1][0] is Category.PRINT
    lines.clear()
    made.membership.token_loss()
    assert lines == [
        (
            Category.MEMBERSHIP,
            "Memb_token_loss: ############### I lost my token, state was 1\n",
        )
    ]
