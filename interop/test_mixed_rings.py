"""Our daemons and upstream's in one ring, in every position."""

from __future__ import annotations

from pathlib import Path

import pytest

from txspread.testing.chaos import Chaos
from txspread.testing.processes import DaemonRing, txspread_command, upstream_command

pytestmark = [pytest.mark.upstream, pytest.mark.timeout(600)]

PATTERNS = ("ut", "tu", "utu", "tut", "ututu", "tuutt")


def ring_of(pattern: str, upstream: Path, accelerated: str) -> DaemonRing:
    """A ring with an upstream daemon for each u and one of ours for each t."""
    commands = [
        upstream_command(upstream) if kind == "u" else txspread_command() for kind in pattern
    ]
    return DaemonRing(commands, {"AcceleratedRing": accelerated})


@pytest.mark.parametrize("accelerated", ["false", "true"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_clients_of_a_mixed_ring_keep_every_property_through_chaos(
    upstream: Path, pattern: str, accelerated: str, chaos_seconds: float
) -> None:
    with ring_of(pattern, upstream, accelerated) as ring:
        chaos = Chaos(ring, seed=len(pattern), largest=143_000)
        assert chaos.play(chaos_seconds) == []
