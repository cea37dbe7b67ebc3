"""Recorded conversations with several daemons: sessions and groups on a common order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from session_fakes import FakeHost, FakeTransport, RecordingAlarms
from session_replay import load

from txspread.config import Configuration, parse
from txspread.engine.groups import Groups
from txspread.engine.handshake import PeerAddress
from txspread.engine.interfaces import DeliveryThreshold, DownQueue
from txspread.engine.sessions import Sessions
from txspread.engine.sessions_state import Session
from txspread.wire.constants import PacketType
from txspread.wire.identifiers import MembershipId


class VirtualDaemon:
    """Sessions and groups of one daemon; its own ordering layer, driven from outside."""

    def __init__(self, configuration: Configuration, name: str) -> None:
        me = configuration.by_name[name]
        self.id = me.id
        self.queues: dict[DownQueue, deque[bytes]] = {queue: deque() for queue in DownQueue}
        self.active = DownQueue.NORMAL
        alarms = RecordingAlarms()
        self.sessions = Sessions(
            me.name_bytes, configuration, self, alarms, lambda: 0.5, FakeHost()
        )
        self.groups = Groups(me, configuration, self, self.sessions, alarms)

    def submit(self, message: bytes, packet_type: PacketType) -> None:
        self.queues[self.active].append(message)

    def submit_many(self, messages: list[bytes], packet_type: PacketType) -> None:
        for message in messages:
            self.submit(message, packet_type)

    def switch_queue(self, queue: DownQueue) -> None:
        self.active = queue

    def set_threshold(self, threshold: DeliveryThreshold) -> None:
        pass

    def queued(self) -> int:
        return len(self.queues[self.active])


class Network:
    """Several virtual daemons, and who is connected to which."""

    def __init__(self, name: str) -> None:
        vector = load(name)
        self.events = vector["events"]
        self.configuration = parse(vector["conf"])
        self.daemons = {
            daemon.name: VirtualDaemon(self.configuration, daemon.name)
            for daemon in self.configuration.daemons
        }
        self.rings: list[list[str]] = []
        self.homes = {
            event["conn"]: event["fields"]["private_group"].split("#")[2]
            for event in self.events
            if event["what"] == "private group"
        }
        self.clients: dict[str, tuple[VirtualDaemon, Session, FakeTransport]] = {}
        self.frozen = False

    def turn(self) -> None:
        """Order and deliver everything that can be, then let all sessions write."""
        while not self.frozen:
            busy = False
            for ring in self.rings:
                members = [self.daemons[name] for name in ring]
                for daemon in members:
                    if daemon.queued():
                        message = daemon.queues[daemon.active].popleft()
                        busy = True
                        for receiver in members:
                            receiver.groups.on_message(message)
            for daemon in self.daemons.values():
                daemon.sessions.flush()
            if not busy:
                return
        for daemon in self.daemons.values():
            daemon.sessions.flush()

    def regular(self, ring: Sequence[str], leader: str, time: int) -> None:
        """Install a ring; each part that comes along together has been named before."""
        self.rings = [[name for name in other if name not in ring] for other in self.rings]
        self.rings.append(list(ring))
        members = tuple(self.daemons[name].id for name in ring)
        for name in ring:
            self.daemons[name].groups.on_regular(
                members, MembershipId(self.daemons[leader].id, time)
            )

    def transitional(self, part: Sequence[str], time: int) -> None:
        members = tuple(self.daemons[name].id for name in part)
        for name in part:
            self.daemons[name].groups.on_transitional(members, MembershipId(members[0], time))

    def change(self, parts: Iterable[Sequence[str]], time: int) -> None:
        ring: list[str] = []
        for part in parts:
            self.transitional(part, time - 1)
            ring.extend(part)
        self.regular(ring, ring[0], time)

    def client(self, conn: str) -> tuple[VirtualDaemon, Session, FakeTransport]:
        if conn not in self.clients:
            daemon = self.daemons[self.homes[conn]]
            transport = FakeTransport()
            session = daemon.sessions.opened(transport, PeerAddress(0x7F000001, 9), 0.0)
            transport.output = session.output
            self.clients[conn] = daemon, session, transport
        return self.clients[conn]

    def play(self, script: dict[str, object]) -> None:
        for number, event in enumerate(self.events):
            data = bytes.fromhex(event["hex"])
            if event["dir"] == "note":
                action = script.pop(event["what"])
                assert callable(action)
                action()
                self.turn()
            elif event["dir"] == "c2d":
                daemon, session, _ = self.client(event["conn"])
                daemon.sessions.received(session, data, 0.0)
                self.turn()
            elif "closed" in event["what"]:
                assert self.client(event["conn"])[2].closed
            else:
                _, _, transport = self.client(event["conn"])
                taken = transport.written[: len(data)]
                transport.written = transport.written[len(data) :]
                assert taken.hex() == event["hex"], f"event {number}: {event['what']}"
        assert not script
        for _, _, transport in self.clients.values():
            assert transport.written == b""


def test_daemon_dies_and_comes_back() -> None:
    network = Network("network-daemon-dies")
    network.change([["d1"], ["d2"], ["d3"]], 1795466273)

    def die() -> None:
        for daemon, _, transport in network.clients.values():
            if daemon is network.daemons["d3"]:
                transport.close()
        network.daemons["d3"] = VirtualDaemon(network.configuration, "d3")
        network.change([["d1", "d2"]], 1795466289)

    def come_back() -> None:
        network.change([["d1", "d2"], ["d3"]], 1795466299)

    network.play(
        {
            "daemon d3 is killed": die,
            "daemon d3 is started again with no clients; group g has no members there, "
            "so nothing is delivered": come_back,
        }
    )


def test_partitions_and_merges() -> None:
    network = Network("network-partition-merge")
    everybody = ["d1", "d2", "d3", "d4"]
    network.change([[name] for name in everybody], 1795466304)
    healed = iter(
        [
            ([["d1", "d2"], ["d3", "d4"]], 1795466329),
            ([[name] for name in everybody], 1795466351),
        ]
    )

    def heal() -> None:
        network.change(*next(healed))

    def split_in_two() -> None:
        network.change([["d1", "d2"]], 1795466319)
        network.change([["d3", "d4"]], 1795466319)

    def split_in_four() -> None:
        for name in everybody:
            network.change([[name]], 1795466341)

    first = {
        "ring is split into {d1,d2} and {d3,d4}": split_in_two,
        "ring is split into {d1},{d2},{d3},{d4}": split_in_four,
    }
    # One note stands for both merges: the second finds it there again.
    network.events = [
        {**event, "what": f"{event['what']} {number}"} if "healed" in event["what"] else event
        for number, event in enumerate(network.events)
    ]
    notes = [event["what"] for event in network.events if "healed" in event["what"]]
    network.play({**first, **dict.fromkeys(notes, heal)})


def test_changes_inside_a_transitional_period() -> None:
    network = Network("network-transitional-changes")
    network.change([["d1"], ["d2"], ["d3"]], 1795466364)
    late: list[bytes] = []

    def pause() -> None:
        network.frozen = True

    def lose_d3() -> None:
        network.frozen = False
        late.extend(network.daemons["d2"].queues[DownQueue.NORMAL])
        network.daemons["d2"].queues[DownQueue.NORMAL].clear()
        *others, reliable = late
        # RELIABLE in one packet: at its own daemon it does not wait for its turn.
        network.daemons["d2"].groups.on_message(reliable)
        network.transitional(["d1", "d2"], 1795466373)
        for message in others:
            network.daemons["d1"].groups.on_message(message)
            network.daemons["d2"].groups.on_message(message)
        network.daemons["d1"].groups.on_message(reliable)
        network.regular(["d1", "d2"], "d1", 1795466374)

    def merge() -> None:
        network.transitional(["d3"], 1795466381)
        for message in late:
            network.daemons["d3"].groups.on_message(message)
        network.transitional(["d1", "d2"], 1795466380)
        network.regular(["d1", "d2", "d3"], "d1", 1795466381)

    network.play({"d1 paused": pause, "d3 paused, d1 resumed": lose_d3, "d3 resumed": merge})
