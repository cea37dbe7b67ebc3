"""View synchrony on random schedules of joins, leaves, losses and messages.

The daemon is simulated: one total order of events for everybody, which each member sees
with a delay of its own.
"""

import random
from collections import defaultdict

import pytest

from txspread.client.errors import IllegalGroup, IllegalState
from txspread.client.flush_group import FlushRequest, FlushTransition, View
from txspread.client.flush_session import FlushSession
from txspread.client.messages import (
    DataMessage,
    MembershipMessage,
    SelfLeave,
    TransitionMessage,
)
from txspread.wire.constants import ServiceType
from txspread.wire.identifiers import GroupId

JOIN = ServiceType.CAUSED_BY_JOIN
LEAVE = ServiceType.CAUSED_BY_LEAVE
DISCONNECT = ServiceType.CAUSED_BY_DISCONNECT
NETWORK = ServiceType.CAUSED_BY_NETWORK
SERVICES = [ServiceType.FIFO_MESS, ServiceType.AGREED_MESS, ServiceType.RELIABLE_MESS]


class Ring:
    """Orders everything; each member reads its own queue when the schedule says so."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.members = []
        self.programs = {}
        self.index = 0

    def view(self, cause, names, changed):
        self.index += 1
        members = tuple(sorted(self.members))
        sets = (members,) if cause is NETWORK else ((changed,),)
        return MembershipMessage(
            ServiceType.REG_MEMB_MESS | cause, "g", members, 0, GroupId(1, 1, self.index), sets, 0
        )

    def tell(self, message):
        for name in self.members:
            program = self.programs[name]
            copy = message
            if isinstance(message, MembershipMessage):
                copy = MembershipMessage(
                    message.service_type,
                    "g",
                    message.members,
                    message.members.index(name),
                    message.group_id,
                    message.vs_sets,
                    0,
                )
            program.queue.append(copy)

    def join(self, name):
        self.programs[name] = Program(self, name)
        self.members.append(name)
        self.tell(self.view(JOIN, self.members, name))

    def leave(self, name):
        self.members.remove(name)
        self.programs[name].queue.append(SelfLeave(LEAVE, "g"))
        if self.members:
            self.tell(self.view(LEAVE, self.members, name))

    def disconnect(self, name):
        self.members.remove(name)
        self.programs[name].dead = True
        if self.members:
            self.tell(self.view(DISCONNECT, self.members, name))

    def lose(self, names):
        """Daemons with these members are lost: a transition, then a network change."""
        self.tell(TransitionMessage(ServiceType.TRANSITION_MESS, "g", GroupId(1, 1, self.index)))
        for name in names:
            self.members.remove(name)
            self.programs[name].dead = True
        if self.members:
            self.tell(self.view(NETWORK, self.members, ""))

    def data(self, sender, outgoing):
        if sender not in self.members:
            return
        groups = outgoing.groups
        message = DataMessage(
            ServiceType(outgoing.service_type),
            sender,
            groups,
            outgoing.mess_type,
            "<",
            outgoing.body,
        )
        for name in self.members:
            if "g" in groups or name in groups:
                self.programs[name].queue.append(message)


class Program:
    """A member that uses the layer and writes down what it is given."""

    def __init__(self, ring, name):
        self.ring = ring
        self.name = name
        self.session = FlushSession(name)
        self.queue = []
        self.dead = False
        self.asked = False
        self.view = None
        self.views = []
        self.log = defaultdict(list)
        self.sent_in = {}
        self.count = 0

    def send_out(self):
        while self.session.outgoing:
            self.ring.data(self.name, self.session.outgoing.popleft())

    def read(self):
        if self.dead or not self.queue:
            return
        self.session.receive(self.queue.pop(0))
        self.send_out()
        while self.session.events:
            event = self.session.events.popleft()
            if isinstance(event, FlushRequest):
                assert not self.asked
                self.asked = True
            elif isinstance(event, View):
                self.asked = False
                assert self.name in event.members
                assert event.members[event.index] == self.name
                assert event.group_id not in self.views
                self.view = event.group_id
                self.views.append(event.group_id)
            elif isinstance(event, DataMessage):
                self.log[self.view].append((event.sender, event.body))
            elif isinstance(event, SelfLeave):
                self.dead = True
            else:
                assert isinstance(event, FlushTransition)

    def send(self):
        if self.dead or self.view is None:
            return
        self.count += 1
        body = f"{self.name} {self.count}".encode()
        try:
            self.session.multicast(self.ring.random.choice(SERVICES), "g", body, 1)
        except (IllegalState, IllegalGroup):
            return
        self.sent_in[body] = self.view
        self.send_out()

    def flush(self):
        if self.asked and not self.dead:
            self.asked = False
            try:
                self.session.flush("g")
            except IllegalGroup:
                return
            self.send_out()


def play(seed, steps=300):
    ring = Ring(seed)
    chance = ring.random
    ring.join("#m0#d")
    created = 1
    for _ in range(steps):
        what = chance.random()
        alive = [p for p in ring.programs.values() if not p.dead]
        if what < 0.05 and len(ring.members) < 6:
            ring.join(f"#m{created}#d")
            created += 1
        elif what < 0.07 and len(ring.members) > 1:
            name = chance.choice(ring.members)
            try:
                ring.programs[name].session.leave("g")
            except IllegalGroup:
                continue
            ring.leave(name)
        elif what < 0.09 and len(ring.members) > 1:
            ring.disconnect(chance.choice(ring.members))
        elif what < 0.10 and len(ring.members) > 2:
            ring.lose(chance.sample(ring.members, chance.randint(1, len(ring.members) - 1)))
        elif what < 0.30:
            chance.choice(alive).send()
        elif what < 0.45:
            chance.choice(alive).flush()
        else:
            chance.choice(alive).read()
    for _ in range(2000):
        for program in ring.programs.values():
            program.read()
            program.flush()
        if not any(p.queue and not p.dead for p in ring.programs.values()):
            break
    return ring


@pytest.mark.parametrize("seed", range(150))
def test_every_message_is_delivered_in_the_view_it_was_sent_in(seed):
    ring = play(seed)
    programs = list(ring.programs.values())
    origin = {}
    for program in programs:
        origin.update(program.sent_in)
    for program in programs:
        for view, messages in program.log.items():
            assert len(set(messages)) == len(messages)
            for _, body in messages:
                assert origin[body] == view, (program.name, body)
    # Members that go from one view to the same next one have received the same in it.
    for one in programs:
        for other in programs:
            for before, after in zip(one.views, one.views[1:], strict=False):
                pairs = list(zip(other.views, other.views[1:], strict=False))
                if (before, after) in pairs:
                    assert set(one.log[before]) == set(other.log[before])
    # Everybody who is left ends in one and the same view, of exactly those.
    alive = [program for program in programs if not program.dead]
    assert {program.name for program in alive} == set(ring.members)
    assert len({program.view for program in alive}) == 1
    assert not any(program.asked for program in alive)
