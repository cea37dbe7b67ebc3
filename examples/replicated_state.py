"""A replicated state machine: every replica applies the same commands in the same order.

    python examples/replicated_state.py NAME [DAEMON...]

then type ``set KEY VALUE`` or ``show``.  Everything is AGREED messages, so all replicas see
commands, questions, answers and membership changes in one order.  A replica that is new,
comes back after a gap, or was on the wrong side of a healed partition asks for the state;
the first one that has it answers with the state as it was at the question, and what was
ordered behind the question is applied after it.
"""

import json
import sys

from twisted.internet import defer, stdio, task
from twisted.protocols.basic import LineReceiver

import txspread.client as spread

GROUP = "replicas"


class Replica:
    """A dictionary that is the same everywhere."""

    def __init__(self, service: spread.SpreadService, say=print) -> None:
        self.service = service
        self.say = say
        self.state: dict[str, str] = {}
        self.synced = False
        self.me = ""
        self.members: tuple[str, ...] = ()
        self.waiting: set[str] = set()  # replicas without the state; all that have it agree
        self.asks: dict[str, int] = {}  # questions since the last view, with their numbers
        self.number = 0  # of the own last question
        self.behind: list = []  # what was ordered behind it

    def send(self, **command) -> None:
        if self.service.connection is not None:
            self.service.multicast(spread.AGREED_MESS, GROUP, json.dumps(command).encode())

    async def run(self) -> None:
        async for event in self.service:
            if isinstance(event, spread.Connected):
                self.me = event.private_group
            elif isinstance(event, spread.Disconnected):
                self.say(f"lost the daemon: {event.reason}")
                self.synced = False
            elif isinstance(event, spread.MembershipMessage):
                self.view(event)
            elif isinstance(event, spread.DataMessage):
                self.message(event.sender, json.loads(event.body))

    def view(self, view: spread.MembershipMessage) -> None:
        self.members, self.asks = view.members, {}
        if view.caused_by_network and view.vs_set_index > 0:
            self.synced = False  # the first set of a healed partition is right
        self.order(view)
        if len(view.members) == 1:
            self.become_synced()
        elif not self.synced:
            self.number += 1
            self.send(do="ask", number=self.number)

    def message(self, sender: str, command: dict) -> None:
        self.order((sender, command))
        if command["do"] == "ask":
            self.asks[sender] = command["number"]
            if sender == self.me and not self.synced:
                self.behind = []
            if self.synced and self.me == min(set(self.members) - self.waiting, default=""):
                self.answer(sender)
            elif len(self.asks) == len(self.members) and self.me == self.members[0]:
                self.become_synced()  # nobody has the state: begin with what is left here
                for other in self.members[1:]:
                    self.answer(other)
        elif not self.synced and command.get("to") == self.me:
            if command["number"] != self.number:
                return
            self.state, self.waiting = command["state"], set(command["waiting"])
            for event in self.behind:
                self.effect(event)
            self.become_synced()

    def order(self, event) -> None:
        """Take something at its place in the order: now, or when the state is there."""
        if self.synced:
            self.effect(event)
        else:
            self.behind.append(event)

    def effect(self, event) -> None:
        if isinstance(event, spread.MembershipMessage):
            if event.service_type & spread.ServiceType.CAUSED_BY_JOIN:
                self.waiting.add(event.changed_member)
            elif event.caused_by_network:
                self.waiting.update(*event.vs_sets[1:])
            self.waiting &= set(event.members)
            return
        _sender, command = event
        if command["do"] == "state":
            self.waiting.discard(command["to"])
        elif command["do"] == "set":
            self.state[command["key"]] = command["value"]
            self.say(f"{command['key']} = {command['value']}")

    def answer(self, asker: str) -> None:
        about = {"to": asker, "number": self.asks[asker], "waiting": sorted(self.waiting)}
        self.send(do="state", state=self.state, **about)

    def become_synced(self) -> None:
        self.waiting.discard(self.me)
        if not self.synced:
            self.synced, self.behind = True, []
            self.say(f"up to date with {len(self.state)} keys")


class Console(LineReceiver):
    delimiter = b"\n"

    def __init__(self, replica: Replica) -> None:
        self.replica = replica

    def lineReceived(self, line: bytes) -> None:
        match line.decode().split():
            case ["set", key, value]:
                self.replica.send(do="set", key=key, value=value)
            case ["show"]:
                print(json.dumps(self.replica.state, sort_keys=True))

    def connectionLost(self, reason) -> None:
        self.replica.service.stopService()


def main(reactor, name: str, *daemons: str) -> defer.Deferred:
    sys.stdout.reconfigure(line_buffering=True)
    service = spread.SpreadService(daemons or ["4803"], name, groups=[GROUP])
    replica = Replica(service)
    service.startService()
    stdio.StandardIO(Console(replica))
    return defer.ensureDeferred(replica.run())


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    task.react(main, sys.argv[1:])
