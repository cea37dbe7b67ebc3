"""Judges a run by the properties of extended virtual synchrony.

Each function looks at one property and yields a sentence for each breach; an
empty result means that it holds.  The daemon-level properties are those of the
papers on extended virtual synchrony and of Spread's own specification, in terms
of what daemons hand to their groups layers:

=========================  =====================================================
property                   in words
=========================  =====================================================
no creation                what is delivered was sent by a client
no duplication             once for each incarnation of a daemon
self inclusion             a daemon is a member of every configuration it installs
unique ids                 one configuration id, one set of members, for ever
alternation                regular, transitional, regular, ...; a transitional
                           configuration is a part of both its neighbours
right configuration        a message belongs to one regular configuration: who
                           delivers it does so there, or in the transitional
                           configuration that follows it
failure atomicity          daemons that come along together have delivered the same
agreed order               any two messages are delivered in one order everywhere
FIFO                       a sender's messages in its order, none left out
self delivery              a daemon that lives on delivers what its clients sent
causal                     an answer is never delivered before, or without, its cause
safe                       what a member delivers as SAFE in a configuration, every
                           member of it delivers, unless it crashes
=========================  =====================================================

RELIABLE and UNRELIABLE messages may overtake (``docs/protocol/ring-ordering.md``
section 8.3): one that arrives behind a gap is delivered at once, and if what fills the
gap is lost for good, other daemons drop the one behind it (section 11.5).  So they take
no part in failure atomicity and the ordering properties.

The client-level properties are in
:mod:`txspread.testing.client_checker`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from attrs import define, field, frozen

from txspread.testing.trace import (
    ClientDelivery,
    Configuration,
    DaemonHistory,
    Delivery,
    MessageId,
    Trace,
)
from txspread.wire.constants import ServiceType
from txspread.wire.identifiers import MembershipId, ProcId, format_address

UNORDERED = ServiceType.UNRELIABLE_MESS | ServiceType.RELIABLE_MESS
"""Services whose messages may overtake others."""


@frozen
class Breach:
    """One property that a run has broken."""

    property: str
    text: str

    def __str__(self) -> str:
        return f"{self.property}: {self.text}"


@define
class Stretch:
    """What one daemon delivered between two regular configurations."""

    history: DaemonHistory
    regular: Configuration
    transitional: Configuration | None = None
    next: Configuration | None = None
    before: list[Delivery] = field(factory=list)
    """In the regular configuration proper."""
    after: list[Delivery] = field(factory=list)
    """Behind the transitional signal."""

    @property
    def all(self) -> list[Delivery]:
        """Both parts in order."""
        return self.before + self.after

    @property
    def completed(self) -> bool:
        """Whether the daemon lived to install the next configuration."""
        return self.next is not None

    @property
    def where(self) -> str:
        """For messages."""
        return (
            f"{format_address(self.history.proc_id)}/{self.history.incarnation} "
            f"in {_id(self.regular.id)}"
        )


def _id(membership_id: MembershipId) -> str:
    return f"({format_address(membership_id.proc_id)}, {membership_id.time})"


def stretches(history: DaemonHistory) -> list[Stretch]:
    """Cut a daemon's history at its regular configurations.

    The first stretch of a fresh daemon is its ring of one with time -1.
    """
    current = Stretch(
        history,
        Configuration(True, MembershipId(history.proc_id, -1), (history.proc_id,)),
    )
    result = [current]
    for event in history.events:
        if isinstance(event, Delivery):
            (current.before if current.transitional is None else current.after).append(event)
        elif event.regular:
            current.next = event
            current = Stretch(history, event)
            result.append(current)
        else:
            current.transitional = event
    return result


def _no_creation(trace: Trace) -> Iterator[str]:
    sent = {message.message for client in trace.clients for message in client.sent}
    for history in trace.daemons:
        for event in history.events:
            if isinstance(event, Delivery) and event.message not in sent:
                yield f"{format_address(history.proc_id)} delivered {event.message!r}, never sent"


def _no_duplication(trace: Trace) -> Iterator[str]:
    for history in trace.daemons:
        seen: set[MessageId] = set()
        for event in history.events:
            if isinstance(event, Delivery):
                if event.message in seen:
                    yield f"{format_address(history.proc_id)} delivered {event.message!r} twice"
                seen.add(event.message)


def _self_inclusion(trace: Trace) -> Iterator[str]:
    for history in trace.daemons:
        for event in history.events:
            if isinstance(event, Configuration) and history.proc_id not in event.members:
                yield f"{format_address(history.proc_id)} is not in its own {_id(event.id)}"


def _unique_ids(trace: Trace) -> Iterator[str]:
    known: dict[tuple[bool, MembershipId], tuple[ProcId, ...]] = {}
    for history in trace.daemons:
        seen: set[MembershipId] = set()
        for event in history.events:
            if not isinstance(event, Configuration):
                continue
            members = known.setdefault((event.regular, event.id), event.members)
            if members != event.members:
                yield f"{_id(event.id)} has members {members} and {event.members}"
            if event.regular:
                if event.id in seen:
                    yield f"{format_address(history.proc_id)} installed {_id(event.id)} twice"
                seen.add(event.id)


def _alternation(trace: Trace) -> Iterator[str]:
    for history in trace.daemons:
        expect_regular = False
        for event in history.events:
            if isinstance(event, Configuration):
                if event.regular is not expect_regular:
                    kind = "regular" if event.regular else "transitional"
                    yield f"{format_address(history.proc_id)}: a {kind} one out of turn"
                expect_regular = not event.regular
        for stretch in stretches(history):
            if stretch.transitional is None:
                continue
            part = set(stretch.transitional.members)
            if not part <= set(stretch.regular.members):
                yield f"{stretch.where}: transitional members that were not in the old ring"
            if stretch.next is not None and not part <= set(stretch.next.members):
                yield f"{stretch.where}: transitional members that are not in the new ring"


def _right_configuration(trace: Trace) -> Iterator[str]:
    home = _homes(trace)
    for history in trace.daemons:
        for stretch in stretches(history):
            for delivery in stretch.all:
                known = home[delivery.message]
                if known != stretch.regular.id:
                    yield (
                        f"{delivery.message!r} was delivered in {_id(known)} "
                        f"and in {_id(stretch.regular.id)}"
                    )


def _failure_atomicity(trace: Trace) -> Iterator[str]:
    together: dict[tuple[MembershipId, MembershipId, MembershipId], list[Stretch]]
    together = defaultdict(list)
    for history in trace.daemons:
        for stretch in stretches(history):
            if stretch.next is not None and stretch.transitional is not None:
                key = (stretch.regular.id, stretch.transitional.id, stretch.next.id)
                together[key].append(stretch)
    for group in together.values():
        first = group[0]
        expected = _ordered(first.all)
        before = _ordered(first.before)
        for other in group[1:]:
            difference = expected ^ _ordered(other.all)
            if difference:
                yield f"{first.where} and {other.where} differ in {sorted(difference)[:5]}"
            elif before != _ordered(other.before):
                yield f"{first.where} and {other.where}: the signal came at another place"


def _ordered(deliveries: list[Delivery]) -> set[MessageId]:
    return {delivery.message for delivery in deliveries if not delivery.service & UNORDERED}


def _agreed_order(trace: Trace) -> Iterator[str]:
    sequences = [
        [
            event.message
            for event in history.events
            if isinstance(event, Delivery) and not event.service & UNORDERED
        ]
        for history in trace.daemons
    ]
    for number, one in enumerate(sequences):
        place = {message: index for index, message in enumerate(one)}
        for other in sequences[number + 1 :]:
            last, before = -1, b""
            for message in other:
                index = place.get(message)
                if index is None:
                    continue
                if index < last:
                    yield f"{before!r} and {message!r} were delivered in both orders"
                    break
                last, before = index, message


def _fifo(trace: Trace) -> Iterator[str]:
    for client in trace.clients:
        ordered = [sent.message for sent in client.sent if not sent.service & UNORDERED]
        order = {message: number for number, message in enumerate(ordered)}
        for history in trace.daemons:
            for stretch in stretches(history):
                got = [order[d.message] for d in stretch.all if d.message in order]
                if got != sorted(got):
                    yield f"{stretch.where}: {client.private_group!r} out of order: {got}"
                elif got and got[-1] - got[0] != len(got) - 1:
                    yield f"{stretch.where}: {client.private_group!r} has gaps: {got}"


def _self_delivery(trace: Trace) -> Iterator[str]:
    """What a client sent that was there to the end has been delivered at its daemon."""
    last: dict[ProcId, DaemonHistory] = {}
    for history in trace.daemons:
        last[history.proc_id] = history
    for client in trace.clients:
        home = last.get(client.proc_id)
        if home is None or home.crashed or not client.alive:
            continue
        delivered = {event.message for event in home.events if isinstance(event, Delivery)}
        for sent in client.sent:
            if sent.message not in delivered:
                yield (
                    f"{format_address(home.proc_id)} never delivered {sent.message!r} "
                    f"of its client {client.private_group!r}"
                )


def _causal(trace: Trace) -> Iterator[str]:
    """An answer is not delivered before its cause, nor without it in the same ring."""
    causes: dict[MessageId, MessageId] = {}
    unordered: set[MessageId] = set()
    for client in trace.clients:
        for sent in client.sent:
            if sent.service & UNORDERED:
                unordered.add(sent.message)
    for client in trace.clients:
        for sent in client.sent:
            seen = [
                event.message
                for event in client.received[: sent.after]
                if isinstance(event, ClientDelivery) and event.message not in unordered
            ]
            if seen and sent.message not in unordered:
                causes[sent.message] = seen[-1]
    home = _homes(trace)
    for history in trace.daemons:
        place = {
            event.message: number
            for number, event in enumerate(history.events)
            if isinstance(event, Delivery)
        }
        for message, number in place.items():
            cause = causes.get(message)
            if cause is None or place.get(cause, number) < number:
                continue
            if cause in place:
                how = "before"
            elif home.get(cause) == home[message]:
                how = "without"
            else:
                continue
            yield (
                f"{format_address(history.proc_id)} delivered {message!r} {how} its cause {cause!r}"
            )


def _homes(trace: Trace) -> dict[MessageId, MembershipId]:
    """The regular configuration that each delivered message belongs to."""
    home: dict[MessageId, MembershipId] = {}
    for history in trace.daemons:
        for stretch in stretches(history):
            for delivery in stretch.all:
                home.setdefault(delivery.message, stretch.regular.id)
    return home


def _safe(trace: Trace) -> Iterator[str]:
    regular: dict[MembershipId, list[Stretch]] = defaultdict(list)
    transitional: dict[tuple[MembershipId, MembershipId], list[Stretch]] = defaultdict(list)
    for history in trace.daemons:
        for stretch in stretches(history):
            regular[stretch.regular.id].append(stretch)
            if stretch.transitional is not None:
                transitional[stretch.regular.id, stretch.transitional.id].append(stretch)
    for group in regular.values():
        safe = {
            d.message: s.where for s in group for d in s.before if d.service & ServiceType.SAFE_MESS
        }
        yield from _missing(safe, group, "configuration")
    for group in transitional.values():
        safe = {
            d.message: s.where for s in group for d in s.after if d.service & ServiceType.SAFE_MESS
        }
        yield from _missing(safe, group, "transitional configuration")


def _missing(safe: dict[MessageId, str], group: list[Stretch], what: str) -> Iterator[str]:
    for stretch in group:
        if not stretch.completed:
            continue
        absent = safe.keys() - {delivery.message for delivery in stretch.all}
        for message in sorted(absent)[:3]:
            yield (
                f"{message!r} was safe at {safe[message]}, but {stretch.where}, of the same "
                f"{what}, went on without it"
            )


PROPERTIES: dict[str, Callable[[Trace], Iterator[str]]] = {
    "no creation": _no_creation,
    "no duplication": _no_duplication,
    "self inclusion": _self_inclusion,
    "unique ids": _unique_ids,
    "alternation": _alternation,
    "right configuration": _right_configuration,
    "failure atomicity": _failure_atomicity,
    "agreed order": _agreed_order,
    "FIFO": _fifo,
    "self delivery": _self_delivery,
    "causal": _causal,
    "safe": _safe,
}
"""The daemon-level properties by name."""


def check_daemons(trace: Trace, limit: int = 5) -> list[Breach]:
    """Judge the daemon-level properties; at most ``limit`` breaches of each are told."""
    breaches: list[Breach] = []
    for name, judge in PROPERTIES.items():
        for number, text in enumerate(judge(trace)):
            if number == limit:
                break
            breaches.append(Breach(name, text))
    return breaches
