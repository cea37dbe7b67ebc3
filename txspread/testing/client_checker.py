"""Judges a run by what its clients saw.

=========================  =====================================================
property                   in words
=========================  =====================================================
no duplication             a client gets a message once
targets                    a client gets only what was sent to it or its groups
view inclusion             a client is a member of every view it is given
one view order             the views of a group come in one order everywhere
vs sets                    they partition the members of a network-caused view, and
                           each client's own holds the client
virtual synchrony          clients that go together from one view to the next got
                           the same messages in between
agreed order               any two messages come in one order everywhere
FIFO                       a sender's messages come in its order
self delivery              a client that stays gets its own messages back
=========================  =====================================================

Works on traces of simulated and of real daemons alike, upstream's included.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import TypeAlias

from txspread.testing.checker import UNORDERED, Breach, check_daemons
from txspread.testing.trace import ClientDelivery, ClientHistory, Left, Trace, View
from txspread.wire.constants import ServiceType
from txspread.wire.identifiers import GroupId

_ViewKey: TypeAlias = tuple[GroupId, tuple[bytes, ...]]
"""A group that emptied and comes back in the same ring uses its ids again, so a
view is known by its members as well (``docs/protocol/groups.md`` section 1.2)."""

_Step: TypeAlias = tuple[ClientHistory, View, frozenset[bytes]]
"""A client, the view it went to, and what it got on the way."""


def _key(view: View) -> _ViewKey:
    return view.id, view.members


def _views(client: ClientHistory) -> dict[bytes, list[View]]:
    views: dict[bytes, list[View]] = defaultdict(list)
    for event in client.received:
        if isinstance(event, View):
            views[event.group].append(event)
    return views


def _no_duplication(trace: Trace) -> Iterator[str]:
    for client in trace.clients:
        seen: set[bytes] = set()
        for event in client.received:
            if isinstance(event, ClientDelivery):
                if event.message in seen:
                    yield f"{client.private_group!r} got {event.message!r} twice"
                seen.add(event.message)


def _targets(trace: Trace) -> Iterator[str]:
    for client in trace.clients:
        # A join that is ordered between a transitional and the next regular
        # membership counts at once, but its view comes with the next one.
        joined: set[bytes] = set(client.asked)
        for event in client.received:
            if isinstance(event, View):
                joined.add(event.group)
            elif isinstance(event, ClientDelivery) and not (
                joined.intersection(event.groups) or client.private_group in event.groups
            ):
                yield f"{client.private_group!r} got {event.message!r} for {event.groups}"


def _view_inclusion(trace: Trace) -> Iterator[str]:
    for client in trace.clients:
        for views in _views(client).values():
            for view in views:
                if client.private_group not in view.members:
                    yield f"{client.private_group!r} is not in its view {view.id}"


def _one_view_order(trace: Trace) -> Iterator[str]:
    sequences: dict[bytes, list[list[_ViewKey]]] = defaultdict(list)
    for client in trace.clients:
        for group, views in _views(client).items():
            sequences[group].append([_key(view) for view in views])
    for group, lists in sequences.items():
        for number, one in enumerate(lists):
            place = {key: index for index, key in enumerate(one)}
            if len(place) != len(one):
                continue  # ids used again: positions say nothing
            for other in lists[number + 1 :]:
                common = [place[key] for key in other if key in place]
                if common != sorted(common):
                    yield f"{group!r}: two clients saw views in different orders"


def _vs_sets(trace: Trace) -> Iterator[str]:
    for client in trace.clients:
        for group, views in _views(client).items():
            for view in views:
                if not view.cause & ServiceType.CAUSED_BY_NETWORK:
                    continue
                together = [member for vs_set in view.vs_sets for member in vs_set]
                if sorted(together) != sorted(view.members):
                    yield f"{group!r} {view.id}: vs_sets {view.vs_sets} of {view.members}"
                if client.private_group not in view.vs_set:
                    yield f"{client.private_group!r} is not in its vs_set of {view.id}"


def _between_views(client: ClientHistory) -> Iterator[tuple[View, View, list[ClientDelivery]]]:
    """Each pair of successive views of a group, and the group's messages between them."""
    last: dict[bytes, View] = {}
    inside: dict[bytes, list[ClientDelivery]] = defaultdict(list)
    for event in client.received:
        if isinstance(event, View):
            if event.group in last:
                yield last[event.group], event, inside[event.group]
            last[event.group] = event
            inside[event.group] = []
        elif isinstance(event, Left):
            last.pop(event.group, None)
        elif isinstance(event, ClientDelivery):
            for group in event.groups:
                inside[group].append(event)


def _virtual_synchrony(trace: Trace) -> Iterator[str]:
    steps: dict[tuple[bytes, _ViewKey, _ViewKey], list[_Step]] = defaultdict(list)
    repeated: set[tuple[bytes, _ViewKey]] = set()
    for client in trace.clients:
        for group, views in _views(client).items():
            counts = Counter(_key(view) for view in views)
            repeated.update((group, key) for key, count in counts.items() if count > 1)
        for old, new, deliveries in _between_views(client):
            got = frozenset(
                delivery.message for delivery in deliveries if not delivery.service & UNORDERED
            )
            steps[new.group, _key(old), _key(new)].append((client, new, got))
    for (group, old_key, new_key), followers in steps.items():
        if (group, old_key) in repeated or (group, new_key) in repeated:
            continue  # which of the equal views somebody means cannot be told
        for number, (client, view, got) in enumerate(followers):
            for other, other_view, other_got in followers[number + 1 :]:
                if view.cause & ServiceType.CAUSED_BY_NETWORK and (
                    other.private_group not in view.vs_set
                    or client.private_group not in other_view.vs_set
                ):
                    continue
                if got != other_got:
                    yield (
                        f"{group!r} {view.id}: {client.private_group!r} and "
                        f"{other.private_group!r} differ in {sorted(got ^ other_got)[:5]}"
                    )


def _agreed_order(trace: Trace) -> Iterator[str]:
    sequences = [
        (
            client.private_group,
            [
                event.message
                for event in client.received
                if isinstance(event, ClientDelivery) and not event.service & UNORDERED
            ],
        )
        for client in trace.clients
    ]
    for number, (name, one) in enumerate(sequences):
        place = {message: index for index, message in enumerate(one)}
        for other_name, other in sequences[number + 1 :]:
            common = [place[message] for message in other if message in place]
            if common != sorted(common):
                yield f"{name!r} and {other_name!r} got messages in different orders"


def _fifo(trace: Trace) -> Iterator[str]:
    for sender in trace.clients:
        order = {
            sent.message: number
            for number, sent in enumerate(sender.sent)
            if not sent.service & UNORDERED
        }
        for client in trace.clients:
            got = [
                order[event.message]
                for event in client.received
                if isinstance(event, ClientDelivery) and event.message in order
            ]
            if got != sorted(got):
                yield f"{client.private_group!r} got {sender.private_group!r}'s out of order"


def _self_delivery(trace: Trace) -> Iterator[str]:
    for client in trace.clients:
        if not client.alive:
            continue
        got = {event.message for event in client.received if isinstance(event, ClientDelivery)}
        joined = set(_views(client)) - client.left
        for sent in client.sent:
            if joined.intersection(sent.groups) and sent.message not in got and sent.after:
                member_before = any(
                    isinstance(event, View) and event.group in sent.groups
                    for event in client.received[: sent.after]
                )
                if member_before:
                    yield f"{client.private_group!r} never got its own {sent.message!r}"


CLIENT_PROPERTIES: dict[str, Callable[[Trace], Iterator[str]]] = {
    "client: no duplication": _no_duplication,
    "client: targets": _targets,
    "client: view inclusion": _view_inclusion,
    "client: one view order": _one_view_order,
    "client: vs sets": _vs_sets,
    "client: virtual synchrony": _virtual_synchrony,
    "client: agreed order": _agreed_order,
    "client: FIFO": _fifo,
    "client: self delivery": _self_delivery,
}
"""The client-level properties by name."""


def check_clients(trace: Trace, limit: int = 5) -> list[Breach]:
    """Judge the client-level properties; at most ``limit`` breaches of each are told."""
    breaches: list[Breach] = []
    for name, judge in CLIENT_PROPERTIES.items():
        for number, text in enumerate(judge(trace)):
            if number == limit:
                break
            breaches.append(Breach(name, text))
    return breaches


def check(trace: Trace) -> list[Breach]:
    """Judge every property of both levels."""
    return check_daemons(trace) + check_clients(trace)
