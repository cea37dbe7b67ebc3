"""The shape of a random schedule: how many daemons, which options, how bad a storm.

Everything is drawn from the seed alone, so that a schedule can be played again.
"""

from __future__ import annotations

import random

from attrs import field, frozen

from txspread.config.model import Configuration
from txspread.config.parsing import parse

LOW_TIMEOUTS = {
    "TokenTimeout": 500,
    "HurryTimeout": 150,
    "AliveTimeout": 50,
    "JoinTimeout": 50,
    "RepTimeout": 250,
    "SegTimeout": 120,
    "GatherTimeout": 250,
    "FormTimeout": 250,
    "LookupTimeout": 3000,
}
"""Milliseconds; shortened so that a run holds more membership changes.  They keep the
relations of ``docs/protocol/membership.md`` section 8.5."""

EVENTS = {
    "send": 0.40,
    "burst": 0.06,
    "connect": 0.12,
    "vanish": 0.05,
    "leave": 0.06,
    "crash": 0.05,
    "die": 0.05,
    "split": 0.06,
    "pause": 0.04,
    "slow": 0.03,
    "clock": 0.02,
    "snare": 0.05,
    "hole": 0.06,
    "ambush": 0.06,
    "read": 0.02,
}
"""What can happen in a storm, with its usual share."""

_STORMS = (0.2, 0.6, 1.0, 1.0, 3.0)
"""By how much a seed changes the share of one kind of event."""


@frozen
class Plan:
    """The shape of a schedule."""

    daemons: int = 5
    segments: int = 5
    storm: float = 20.0
    """Virtual seconds of trouble."""
    rate: float = 10.0
    """Events of a storm in a virtual second."""
    shares: dict[str, float] = field(factory=lambda: dict(EVENTS))
    """How often each kind of event happens, relative to the others."""
    accelerated: bool = False
    clients: int = 2
    """For each daemon."""
    groups: int = 3
    """Names that clients join and send to."""
    answers: float = 0.0
    """Probability that a client sends something when it gets a message."""
    loss: float = 0.02
    token_loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    largest: int = 20000
    """Bytes of the largest message body."""
    low_timeouts: bool = True
    queue: int = 1000
    """Messages that a daemon keeps for a client that does not read."""


def plan_for(seed: int, smallest: int = 3, largest: int = 8) -> Plan:
    """Draw the shape of the schedule of a seed.

    Args:
        seed: names the schedule.
        smallest: fewest daemons.
        largest: most daemons.

    """
    draw = random.Random(f"plan/{seed}")
    daemons = draw.randint(smallest, largest)
    clients = draw.randint(1, 3)
    low_timeouts = draw.random() < 0.8
    return Plan(
        daemons=daemons,
        segments=min(20, draw.choice([1, 2, daemons, daemons])),
        storm=draw.uniform(3, 15) if low_timeouts else draw.uniform(8, 30),
        rate=draw.choice([6.0, 12.0, 25.0]) if low_timeouts else draw.choice([3.0, 6.0, 12.0]),
        shares={name: share * draw.choice(_STORMS) for name, share in EVENTS.items()},
        accelerated=draw.random() < 0.5,
        clients=clients,
        groups=draw.choice([1, 3, 3, 12, 60]),
        answers=draw.choice([0.0, 0.3]) / (clients * daemons),
        loss=draw.choice([0.0, 0.0, 0.01, 0.03, 0.1]),
        token_loss=draw.choice([0.0, 0.0, 0.02]),
        duplication=draw.choice([0.0, 0.02, 0.2]),
        reordering=draw.choice([0.0, 0.05, 0.3]),
        largest=draw.choice([200, 2000, 20000, 20000, 100000]),
        low_timeouts=low_timeouts,
        queue=draw.choice([1000, 1000, 20]),
    )


def configuration_for(plan: Plan) -> Configuration:
    """The configuration of a plan, read by the real parser."""
    lines: list[str] = []
    number = 0
    for segment in range(plan.segments):
        share = plan.daemons // plan.segments + (segment < plan.daemons % plan.segments)
        lines.append(f"Spread_Segment 127.{segment + 1}.0.255:4803 {{")
        for place in range(share):
            number += 1
            lines.append(f"  d{number} 127.{segment + 1}.0.{place + 1}")
        lines.append("}")
    lines.append(f"AcceleratedRing = {'true' if plan.accelerated else 'false'}")
    lines.append(f"MaxSessionMessages = {plan.queue}")
    if plan.low_timeouts:
        lines += [f"{name} = {value}" for name, value in LOW_TIMEOUTS.items()]
    return parse("\n".join(lines) + "\n", "simulated.conf")
