"""Sets of membership timers to measure, in the words of ``docs/tuning.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


def scaled(token: int) -> dict[str, int]:
    """All nine timers for a TokenTimeout in milliseconds, by the rules of the page."""
    alive = max(1, token // 10)
    seg = max(2, token // 5, 2 * alive)
    join = alive
    gather = max(seg + 2 * join + 1, token // 2)
    return {
        "TokenTimeout": token,
        "HurryTimeout": max(1, token // 4),
        "AliveTimeout": alive,
        "JoinTimeout": join,
        "RepTimeout": max(2 * join + 1, gather),
        "SegTimeout": seg,
        "GatherTimeout": gather,
        "FormTimeout": max(2, 2 * gather - join - seg - 1),
        "LookupTimeout": 2000,
    }


PRESETS: Final[Mapping[str, Mapping[str, int]]] = {
    "default": {
        "TokenTimeout": 1250,
        "HurryTimeout": 500,
        "AliveTimeout": 250,
        "JoinTimeout": 250,
        "RepTimeout": 625,
        "SegTimeout": 500,
        "GatherTimeout": 1250,
        "FormTimeout": 1250,
        "LookupTimeout": 30000,
    },
    "calm": scaled(500),
    "quick": scaled(200),
    "fast": scaled(50),
    "edge": scaled(25),
    "twenty": {
        "TokenTimeout": 100,
        "HurryTimeout": 35,
        "AliveTimeout": 25,
        "JoinTimeout": 50,
        "RepTimeout": 150,
        "SegTimeout": 50,
        "GatherTimeout": 155,
        "FormTimeout": 205,
        "LookupTimeout": 5000,
    },
}
"""By name."""


def expected(timers: Mapping[str, int]) -> tuple[float, float]:
    """Shortest and longest time from a crash to the message, in seconds, forming left out."""
    form = timers["SegTimeout"] + timers["GatherTimeout"]
    low = max(0, timers["TokenTimeout"] - timers["HurryTimeout"]) + form
    return low / 1000, (timers["TokenTimeout"] + form) / 1000
