"""Short ways to write traces down by hand."""

from __future__ import annotations

from txspread.testing.trace import (
    ClientDelivery,
    ClientHistory,
    Configuration,
    DaemonHistory,
    Delivery,
    Left,
    Sent,
    Trace,
    Transition,
    View,
)
from txspread.wire.constants import ServiceType
from txspread.wire.identifiers import GroupId, MembershipId

AGREED = int(ServiceType.AGREED_MESS)
SAFE = int(ServiceType.SAFE_MESS)
RELIABLE = int(ServiceType.RELIABLE_MESS)
NETWORK = int(ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_NETWORK)
JOIN = int(ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_JOIN)


def regular(time: int, *members: int) -> Configuration:
    """The ring that daemon ``members[0]`` leads since ``time``."""
    return Configuration(True, MembershipId(members[0], time), members)


def transitional(time: int, *members: int) -> Configuration:
    """What is left of a ring, on the way to the next."""
    return Configuration(False, MembershipId(members[0], time), members)


def told(*messages: str, service: int = AGREED) -> list[Delivery]:
    """Deliveries of a daemon to its groups layer."""
    return [Delivery(message.encode(), service) for message in messages]


def daemon(
    proc_id: int,
    *events: Configuration | list[Delivery],
    incarnation: int = 1,
    crashed: bool = False,
) -> DaemonHistory:
    """The history of one incarnation of a daemon."""
    history = DaemonHistory(proc_id, incarnation, crashed=crashed)
    for event in events:
        if isinstance(event, list):
            history.events.extend(event)
        else:
            history.events.append(event)
    return history


def first_ring(me: int, *members: int, time: int = 10) -> list[Configuration]:
    """How daemon ``me`` comes into its first ring."""
    return [transitional(time - 1, me), regular(time, *members)]


def sender(
    name: str,
    proc_id: int,
    *messages: str,
    service: int = AGREED,
    after: int = 0,
    received: list[View | Transition | Left | ClientDelivery] | None = None,
    alive: bool = False,
    group: bytes = b"g",
) -> ClientHistory:
    """A client that has sent messages to one group."""
    return ClientHistory(
        name.encode(),
        proc_id,
        sent=[Sent(message.encode(), service, (group,), after) for message in messages],
        received=received or [],
        alive=alive,
    )


def view(
    time: int,
    index: int,
    *members: str,
    cause: int = JOIN,
    vs_sets: tuple[tuple[str, ...], ...] = (),
    mine: tuple[str, ...] = (),
    group: bytes = b"g",
) -> View:
    """A view of a group in the ring of that time."""
    return View(
        group,
        GroupId(1, time, index),
        tuple(member.encode() for member in members),
        tuple(member.encode() for member in mine),
        tuple(tuple(member.encode() for member in vs_set) for vs_set in vs_sets),
        cause,
    )


def got(message: str, service: int = AGREED, group: bytes = b"g") -> ClientDelivery:
    """A message as a client got it."""
    return ClientDelivery(message.encode(), service, b"#x#d1", (group,))


def receiver(
    name: str,
    *events: View | Transition | Left | ClientDelivery,
    proc_id: int = 1,
    alive: bool = False,
) -> ClientHistory:
    """A client that has received."""
    return ClientHistory(name.encode(), proc_id, received=list(events), alive=alive)


def trace(*parts: DaemonHistory | ClientHistory) -> Trace:
    """Put histories together."""
    return Trace(
        [part for part in parts if isinstance(part, DaemonHistory)],
        [part for part in parts if isinstance(part, ClientHistory)],
    )
