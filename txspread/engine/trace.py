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

    def on_transitional(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        """Record and pass on a transitional membership."""
        self._event("transitional", members=tuple(members), membership_id=membership_id)
        self._upper.on_transitional(members, membership_id)

    def on_regular(self, members: Sequence[ProcId], membership_id: MembershipId) -> None:
        """Record and pass on a regular membership."""
        self._event("regular", members=tuple(members), membership_id=membership_id)
        self._upper.on_regular(members, membership_id)
