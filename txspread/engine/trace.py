"""The engine's structured trace: what it was told, did and delivered.

A trace is a stream of flat records ``(kind, fields)``; the sink adds the time
and the daemon.  It feeds the property checker of :mod:`txspread.testing`, the
trace file of the daemon, and the tools that read it.  With no sink nothing here
is called.

=================  ==================================================================
kind               fields
=================  ==================================================================
``message``        ``message``: the complete frame as handed to the groups layer
``transitional``   ``members``, ``membership_id``
``regular``        ``members``, ``membership_id``
=================  ==================================================================

Every node with a sink gives these.  The rest is given by a
:class:`~txspread.engine.traced_node.TracedNode`:

=================  ==================================================================
kind               fields
=================  ==================================================================
``received``       ``data``: the datagram, before any check; ``channel``
``sent``           ``data``; ``to``: address and port
``submitted``      ``message``: a client's (or the daemon's own) complete frame
``state``          ``before``, ``after``: of the membership machine
``groups_state``   ``before``, ``after``: of the groups layer
``fault``          ``count``: internal errors so far
``stopped``        none: the daemon has ended in an orderly way
=================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from txspread.engine.interfaces import OrderedDelivery
from txspread.wire.identifiers import MembershipId, ProcId


class TraceSink(Protocol):
    """Where trace records go."""

    def event(self, kind: str, **fields: object) -> None:
        """Take one record; must not raise."""


class TracedDelivery:
    """An :class:`OrderedDelivery` that records each call before it passes it on."""

    def __init__(self, upper: OrderedDelivery, sink: TraceSink) -> None:
        self._upper = upper
        self._event = sink.event

    def on_message(self, message: bytes) -> None:
        """Record and deliver one message."""
        self._event("message", message=message)
        self._upper.on_message(message)

    def on_messages(self, messages: list[bytes]) -> None:
        """Record and deliver several messages."""
        for message in messages:
            self.on_message(message)

    def on_transitional(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        """Record and pass on a transitional membership."""
        self._event("transitional", members=tuple(members), membership_id=membership_id)
        self._upper.on_transitional(members, membership_id)

    def on_regular(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        """Record and pass on a regular membership."""
        self._event("regular", members=tuple(members), membership_id=membership_id)
        self._upper.on_regular(members, membership_id)


class Sinks:
    """Several sinks as one."""

    def __init__(self, sinks: Sequence[TraceSink]) -> None:
        self._events = [sink.event for sink in sinks]

    def event(self, kind: str, **fields: object) -> None:
        """See :meth:`TraceSink.event`."""
        for event in self._events:
            event(kind, **fields)
