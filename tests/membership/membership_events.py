"""A membership machine that is put into a state, and what can happen to it."""

from __future__ import annotations

from membership_alone import Bench
from membership_world import configuration_of

from txspread.engine.membership.tables import Event
from txspread.engine.ring_interfaces import MembershipState
from txspread.wire import datagram
from txspread.wire.identifiers import MembershipId
from txspread.wire.membership import (
    Form1,
    Form2,
    Join,
    Representative,
    RepresentativeType,
    RingBlock,
    encode_alive,
    encode_refer,
)
from txspread.wire.packet import PacketHeader, encode_packet

OP, SEG, REPRESENTED, GATHER, FORM, EVS = MembershipState
POTENTIAL, SEG_REP, RING_REP = RepresentativeType
TWO = configuration_of((3, 2))
A, B, C, D, E = (daemon.id for daemon in TWO.daemons)
ONE = configuration_of((4,))
RING = MembershipId(A, 1_650_000_000)
ATTEMPT = MembershipId(D, 1_700_000_123)
BLOCKING_EVENTS = (
    Event.ALIVE,
    Event.JOIN,
    Event.REFER,
    Event.FOREIGN,
    Event.FORM1,
    Event.FORM2,
)


def bench(state, me=A, members=(), configuration=TWO, **more):
    made = Bench(configuration, configuration.by_id[me])
    made.put(state, members=members, ring_id=more.pop("ring_id", None), **more)
    return made


def rep(proc_id, kind=SEG_REP, configuration=TWO):
    return Representative(proc_id, kind, configuration.by_id[proc_id].segment)


def send_alive(to, sender):
    data = encode_alive(sender, to.configuration.hash, [sender])
    to.membership.alive(data, PacketHeader.decode(data), 0.0)


def send_join(to, sender, kind=SEG_REP, others=(), members=None):
    reps = (rep(sender, kind, to.configuration), *others)
    members = (sender,) if members is None else members
    data = Join(members, reps).encode(sender, to.configuration.hash)
    to.membership.join(data, PacketHeader.decode(data), 0.0)


def send_refer(to, sender, who, kind):
    data = encode_refer(sender, to.configuration.hash, Representative(who, kind, 0))
    to.membership.refer(data, PacketHeader.decode(data), 0.0)


def foreign_packet(sender, conf_hash=TWO.hash):
    return encode_packet(
        datagram.AGREED, sender, sender, MembershipId(E, 5), 7, 0, conf_hash, [(-1, bytes(48))]
    )


def send_foreign(to, sender):
    to.membership.foreign(foreign_packet(sender), sender)


def form1(members, pending=(), reps=(), rings=None, attempt=ATTEMPT):
    if rings is None:
        rings = (RingBlock(MembershipId(D, -1), 0, 0, 0, (), (D,), 1),)
    return Form1(
        transmiter_id=D,
        proc_id=D,
        attempt=attempt,
        seq=3333,
        conf_hash=TWO.hash,
        members=tuple(members),
        pending=tuple(pending),
        reps=tuple(reps),
        rep_index=min(1, len(reps)),
        rings=rings,
    )


def form2(members, pending, rings, attempt=ATTEMPT, future=None):
    return Form2(
        transmiter_id=D,
        proc_id=D,
        attempt=attempt,
        seq=3433,
        conf_hash=TWO.hash,
        members=tuple(members),
        pending=tuple(pending),
        future_memb_id=future or MembershipId(0, 0),
        rings=tuple(rings),
    )


def sent_types(made):
    return [(data[1] << 8 | data[0] & 0x7F, to) for data, to in made.take_sent()]


def data_port(proc_id):
    daemon = TWO.by_id[proc_id]
    return daemon.address, daemon.port


def token_port(proc_id):
    daemon = TWO.by_id[proc_id]
    return daemon.address, daemon.port + 1


OWN_SEGMENT = (TWO.segments[0].address, TWO.segments[0].port)
