"""The last minutes of a daemon's counters, for the plots of the status page.

Once a second, while the HTTP listener is on, a handful of counters is copied; with
:data:`KEPT` samples the memory is bounded.
"""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Iterable
from itertools import dropwhile
from typing import Final

from attrs import astuple, fields, frozen

from txspread.engine.node import Node

SECONDS: Final = 1.0
"""Between two samples."""
KEPT: Final = 600
"""Samples that are kept: ten minutes."""


@frozen
class Sample:
    """Counters of one moment; all but the time and the last two only grow."""

    time: float
    """Seconds since the epoch."""
    sent: int
    """Packets that this daemon has made."""
    received: int
    """Packets of others."""
    delivered: int
    """Messages handed to the groups."""
    retransmitted: int
    """Packets sent again."""
    tokens: int
    """Tokens taken."""
    cpu: float
    """Seconds of CPU used by the process."""
    state: int
    """Of the membership machine, as in a status report."""
    sessions: int


COLUMNS: Final = tuple(field.name for field in fields(Sample))


def take(node: Node, now: float) -> Sample:
    """Look at a daemon; ``now`` in seconds since the epoch."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    stack = node.ring
    tokens = sent = received = retransmitted = 0
    if stack is not None:
        ring = stack.ring.counters
        tokens, sent, received = ring.tokens_accepted, ring.packet_sent, ring.packet_recv
        retransmitted = ring.retrans
    return Sample(
        time=round(now, 3),
        sent=sent,
        received=received,
        delivered=node.groups.messages_delivered,
        retransmitted=retransmitted,
        tokens=tokens,
        cpu=round(usage.ru_utime + usage.ru_stime, 3),
        state=node.membership_state.value,
        sessions=node.sessions.count,
    )


class Series:
    """Keeps samples of one daemon."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=KEPT)

    def sample(self, node: Node) -> None:
        """Take one more."""
        self._samples.append(take(node, time.time()))

    def since(self, moment: float) -> list[list[float]]:
        """Samples later than a moment in seconds since the epoch, oldest first."""
        return [list(astuple(sample)) for sample in _later(self._samples, moment)]


def _later(samples: Iterable[Sample], moment: float) -> Iterable[Sample]:
    return dropwhile(lambda sample: sample.time <= moment, samples)
