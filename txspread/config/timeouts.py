"""LAN or WAN, the default timers, and which values make no sense together.

Source: ``docs/configuration.md`` section 6; upstream
``membership.c``, Memb_init; ``docs/protocol/membership.md`` section 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from txspread.config.model import Segment, Timeouts

LAN_TIMEOUTS: Final = Timeouts(
    token=1.25,
    hurry=0.5,
    alive=0.25,
    join=0.25,
    rep=0.625,
    seg=0.5,
    gather=1.25,
    form=1.25,
    lookup=30.0,
)
WAN_TIMEOUTS: Final = Timeouts(
    token=5.0,
    hurry=1.5,
    alive=0.25,
    join=0.25,
    rep=1.25,
    seg=0.5,
    gather=2.5,
    form=2.5,
    lookup=45.0,
)

LOWEST_TOKEN_TIMEOUT: Final = 0.025
"""Seconds; below this a ring of three on one machine gives false alarms."""


def is_wide_area(segments: Sequence[Segment]) -> bool:
    """Guess LAN (False) or WAN (True) as upstream does.

    WAN if the upper 16 bits of the address of some segment's first daemon differ
    from those of the first segment's first daemon.  Other daemons and the
    segments' own addresses do not count.
    """
    firsts = [segment.daemons[0].id >> 16 for segment in segments if segment.daemons]
    return any(upper != firsts[0] for upper in firsts)


def default_timeouts(wide_area: bool) -> Timeouts:
    """The timers of a file that states none."""
    return WAN_TIMEOUTS if wide_area else LAN_TIMEOUTS


@frozen
class Detection:
    """How long things take with given timers, in seconds.

    The formation itself, a few milliseconds on a LAN, is not counted.
    """

    start: float
    """From the start of a daemon, or from its joining a working ring, to its membership."""
    crash_idle: float
    """Shortest time from a crash to the new membership at the clients: idle ring."""
    crash_busy: float
    """The same, longest: busy ring, or the crash came just behind the token."""
    heal: float
    """Longest time from the end of a partition to the merge when nobody sends."""


def detection(timeouts: Timeouts) -> Detection:
    """Expected durations (``docs/protocol/membership.md`` section 8.2)."""
    form = timeouts.seg + timeouts.gather
    return Detection(
        start=form,
        crash_idle=max(0.0, timeouts.token - timeouts.hurry) + form,
        crash_busy=timeouts.token + form,
        heal=timeouts.lookup + timeouts.gather,
    )


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)} ms"


def timeout_warnings(timeouts: Timeouts) -> list[str]:
    """Say which timers do not fit together (``docs/protocol/membership.md`` section 8.5).

    Upstream checks none of this.  Every daemon of a ring should use the same
    values; the relations between daemons hold then if they hold for one.
    """
    t = timeouts
    warnings = []

    def need(holds: bool, relation: str, values: tuple[float, ...], otherwise: str) -> None:
        if not holds:
            numbers = ", ".join(_milliseconds(value) for value in values)
            warnings.append(f"{relation} does not hold ({numbers}): {otherwise}")

    need(
        t.token > t.hurry,
        "TokenTimeout > HurryTimeout",
        (t.token, t.hurry),
        "an idle ring loses its token again and again",
    )
    need(
        t.token <= t.hurry or t.token >= 1.5 * t.hurry,
        "TokenTimeout >= 1.5 * HurryTimeout",
        (t.token, t.hurry),
        "an idle ring has little time left for one round of the token",
    )
    need(
        t.gather > t.join,
        "GatherTimeout > JoinTimeout",
        (t.gather, t.join),
        "a daemon that comes later may never get into the ring",
    )
    need(
        t.rep >= 2 * t.join,
        "RepTimeout >= 2 * JoinTimeout",
        (t.rep, t.join),
        "daemons forget their representative between two of its messages",
    )
    need(
        t.seg >= 2 * t.alive,
        "SegTimeout >= 2 * AliveTimeout",
        (t.seg, t.alive),
        "one lost packet splits a segment",
    )
    need(
        t.gather >= t.seg + 2 * t.join,
        "GatherTimeout >= SegTimeout + 2 * JoinTimeout",
        (t.gather, t.seg, t.join),
        "daemons that notice a loss later miss the new ring",
    )
    need(
        t.form + t.seg < 2 * t.gather - t.join,
        "FormTimeout + SegTimeout < 2 * GatherTimeout - JoinTimeout",
        (t.form, t.seg, t.gather, t.join),
        "a segment whose turn comes late gives up and forms a ring of its own",
    )
    need(
        t.lookup >= t.gather,
        "LookupTimeout >= GatherTimeout",
        (t.lookup, t.gather),
        "the ring looks for others without pause",
    )
    need(
        t.token >= LOWEST_TOKEN_TIMEOUT,
        f"TokenTimeout >= {_milliseconds(LOWEST_TOKEN_TIMEOUT)}",
        (t.token,),
        "the scheduler of an ordinary machine alone causes false alarms",
    )
    return warnings
