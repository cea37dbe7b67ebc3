"""A ring of upstream daemons on record: ours takes the part of each of them in turn.

Every datagram that the recorded daemon received is given to a TokenRing, and
what that sends must be what upstream sent: packets, retransmissions, tokens,
their order and their destinations.  Where the recording dropped a packet on
purpose shows in the requests that followed.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from recorded import VECTORS
from ring_cluster import Cluster, Member

from txspread.config import Configuration, parse
from txspread.engine.interfaces import DeliveryThreshold
from txspread.engine.ring_interfaces import MembershipState, RingView, Timer
from txspread.wire.datagram import ROUTED
from txspread.wire.identifiers import format_address
from txspread.wire.message import packet_type_of
from txspread.wire.packet import PacketHeader, read_fragments
from txspread.wire.token import Token


class Event:
    """One recorded datagram."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.time: float = record["t"]
        self.kind: str = record["kind"]
        self.raw = bytes.fromhex(record["hex"])
        self.address: str = record["dst"].split(":")[0]
        header = record["fields"]["header"]
        self.sender: int = header["transmiter_id"]
        self.origin: int = header["proc_id"]
        self.seq: int = header["seq"]
        self.type: int = header["type"]
        self.requested: tuple[int, ...] = tuple(
            number for entry in record["fields"].get("rtr", ()) for number in entry["seqs"]
        )


def events_of(name: str, start: float, end: float) -> tuple[Configuration, list[Event]]:
    recorded = json.loads((VECTORS / "daemon" / f"{name}.json").read_text())
    configuration = parse(recorded["conf"])
    assert configuration.hash == recorded["conf_hash"]
    events = [Event(record) for record in recorded["datagrams"]]
    return configuration, [
        event
        for event in events
        if start <= event.time < end and event.kind in ("token", "data", "hurry")
    ]


class Part:
    """Plays one daemon of a recording."""

    def __init__(self, configuration: Configuration, events: list[Event], index: int) -> None:
        self.configuration = configuration
        self.events = events
        self.me: Member = Cluster((), configuration=configuration).members[index]
        self.id = self.me.id
        ids = tuple(daemon.id for daemon in configuration.daemons)
        token = next(event for event in events if event.kind == "token")
        first = Token.decode(token.raw)
        assert (first.aru, first.requests, first.flow_control) == (first.seq, (), 0)
        view = RingView(first.memb_id, ids, ids[0], ids[index - 1], ids[(index + 1) % len(ids)])
        membership = self.me.membership
        membership.installed = membership.future = view
        membership.state = MembershipState.OP
        membership.token_alive = True
        ring = self.me.ring
        ring._identity.see(view)
        ring.set_threshold(DeliveryThreshold.NONE)
        store = ring._store
        store.highest_seq = store.my_aru = store.aru = first.seq
        store.last_delivered = store.last_discarded = first.seq
        machine = ring._machine
        machine._last_arq = first.arq if index == 0 else (first.arq - 1) & 15
        machine._last_aru = machine._last_seq = first.seq
        machine._last = Token(
            0,
            self.id,
            self.id,
            first.memb_id,
            first.seq,
            first.aru,
            self.id,
            0,
            configuration.hash,
        )
        machine.quiet = 5
        self.rounds_known = False
        self.compared = 0

    # What the recording says about this daemon.

    def reaches_me(self, event: Event) -> bool:
        daemon = self.me.daemon
        if event.sender == self.id:
            return False
        if event.kind == "token":
            return event.address == daemon.address
        segment = self.configuration.segments[daemon.segment]
        return event.address in (daemon.address, segment.address)

    def lost(self, position: int) -> bool:
        """Whether I asked for this packet before another copy came."""
        seq = self.events[position].seq
        for event in self.events[position + 1 :]:
            if event.kind == "token" and event.sender == self.id:
                if seq in event.requested:
                    return True
            elif event.kind == "data" and event.seq == seq and self.reaches_me(event):
                return False
        return False

    def sent_by_me(self) -> dict[int, list[Event]]:
        """What I sent, by the position of the token or HURRY that came before it."""
        forwards: list[int] = []
        found: dict[int, list[Event]] = {}
        last = -1
        for position, event in enumerate(self.events):
            if self.reaches_me(event):
                if event.kind != "data":
                    last = position
                elif event.type & ROUTED:
                    forwards.append(event.seq)
            elif event.sender == self.id and event.kind != "hurry":
                if event.kind == "data" and event.seq in forwards:
                    forwards.remove(event.seq)
                    continue
                found.setdefault(last, []).append(event)
        return found

    # Playing.

    def play(self) -> None:
        theirs = self.sent_by_me()
        self.release(theirs.get(-1, []))
        for position, event in enumerate(self.events):
            if not self.reaches_me(event):
                continue
            self.me.cluster.now = event.time
            if event.kind == "data":
                if not self.lost(position):
                    self.me.take_data(event.raw)
                    self.me.cluster.fire(self.me)
                continue
            expected = theirs.get(position, [])
            if not expected and not any(later > position for later in theirs):
                continue
            self.queue_messages_of(expected)
            if event.kind == "hurry":
                self.me.take_data(event.raw)
            else:
                self.me.take_token(event.raw)
            if self.me.sent and not expected and event.kind == "token":
                # The recording leaves the answer out, or has it behind later input.
                break
            self.release(expected)
            # A released token may have left when the next HURRY was on its way.
            assert self.me.sent == [] or event.kind == "hurry"

    def queue_messages_of(self, expected: list[Event]) -> None:
        partial = b""
        for event in expected:
            if event.kind != "data" or event.origin != self.id:
                continue
            if event.seq <= self.me.ring.highest_seq or event.address != self.one_address(expected):
                continue
            header = PacketHeader.decode(event.raw)
            if not self.rounds_known:
                self.rounds_known = True
                behind = any(e.kind == "token" for e in expected[: expected.index(event)])
                self.me.ring._machine.token_rounds = header.token_round - behind
            for index, piece in read_fragments(event.raw, header):
                partial += piece
                if index > 0:
                    continue
                kind = packet_type_of(int.from_bytes(partial[:4], "little"))
                if partial[2] & 0x08:
                    kind = None
                self.me.ring._queues.normal.append(
                    (int(kind) if kind is not None else header.type & 0x1F, partial)
                )
                partial = b""
        assert partial == b""

    def one_address(self, expected: list[Event]) -> str:
        """One of the addresses that every new packet went to."""
        return next(e.address for e in expected if e.kind == "data" and e.origin == self.id)

    def release(self, expected: list[Event]) -> None:
        """Compare what we sent with what they did; the hurry timer is theirs to fire."""
        for event in expected:
            if event.kind == "token" and not self.me.sent:
                self.let_go(event)
            if not self.me.sent:
                pytest.fail(f"at {event.time} upstream sent a {event.kind} and we nothing")
            self.compare(event)

    def let_go(self, token: Event) -> None:
        """The leader released its token: for a message of its own, or by the timer."""
        after = self.events[self.events.index(token) + 1 :]
        for event in after:
            if event.sender == self.id and event.kind == "token":
                break
            if event.sender == self.id and event.origin == self.id:
                self.me.ring._machine.hurry(self.id)
                return
        self.me.ring.timer(Timer.HURRY, token.time)

    def compare(self, event: Event) -> None:
        how, to, datagram = self.me.sent[0]
        self.compared += 1
        if event.kind == "token":
            assert how == "token"
            assert Token.decode(datagram) == Token.decode(event.raw), event.time
            assert datagram == event.raw
            self.me.sent.pop(0)
            return
        assert how != "token", f"at {event.time} a packet was due before the token"
        ours, theirs = PacketHeader.decode(datagram), PacketHeader.decode(event.raw)
        assert read_fragments(datagram, ours) == read_fragments(event.raw, theirs)
        addresses = self.addresses(how, to)
        assert (event.address, bool(theirs.type & ROUTED)) in addresses
        theirs.type &= ~ROUTED
        ours.type &= ~ROUTED
        assert ours == theirs, event.time
        addresses.remove((event.address, bool(event.type & ROUTED)))
        if addresses:
            self.me.sent[0] = ("rest", addresses, datagram)
        else:
            self.me.sent.pop(0)

    def addresses(self, how: str, to: Any) -> list[tuple[str, bool]]:
        """Where the network below sends this, and whether ROUTED."""
        if how == "rest":
            return list(to)
        if how == "daemon":
            return [(format_address(to), False)]
        segments = self.configuration.segments
        mine = self.me.daemon.segment
        wanted = segments if how == "all" else [segments[to]]
        found = [(s.daemons[0].address, True) for s in wanted if s.index != mine]
        if segments[mine] in wanted and len(segments[mine].daemons) > 1:
            found.append((segments[mine].address, False))
        return found


def scenes_of(name: str, until: float) -> tuple[Configuration, list[list[Event]]]:
    """A recording, cut where the leader let the token of an idle ring go."""
    configuration, events = events_of(name, 0.0, until)
    scenes: list[list[Event]] = []
    arq = -1
    for event in events:
        if event.kind == "token":
            token = Token.decode(event.raw)
            leads = event.sender == configuration.daemons[0].id
            settled = token.aru == token.seq and not token.flow_control and not token.requests
            if leads and token.retrans == 1 and settled and token.arq != arq:
                scenes.append([])
            arq = token.arq
        if scenes and (scenes[-1] or event.kind == "token"):
            scenes[-1].append(event)
    return configuration, [scene for scene in scenes if len(scene) > 3]


@pytest.mark.parametrize(
    ("name", "until", "least"),
    [
        ("packing_rules", 99.0, 136),
        ("data_three_segments", 99.0, 241),
        ("accelerated_ring", 99.0, 95),
        ("retransmissions_two_segments", 9.68, 183),
        ("accelerated_retransmissions", 99.0, 32),
    ],
)
def test_each_daemon_of_a_recording_can_be_played(name, until, least):
    configuration, scenes = scenes_of(name, until)
    compared = 0
    for scene in scenes:
        for index in range(len(configuration.daemons)):
            part = Part(configuration, scene, index)
            part.play()
            compared += part.compared
            assert part.me.membership.losses == 0
    assert compared >= least, compared
