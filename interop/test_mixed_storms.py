"""Mixed rings in bad weather: partitions, loss and deafness besides deaths and pauses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from attrs import define

from interop.mixed import PATTERNS, partition, ring_of
from txspread.testing.chaos import Chaos
from txspread.testing.packet_filters import FilterError, lose

pytestmark = [pytest.mark.upstream, pytest.mark.timeout(900)]

SEED = int(os.environ.get("CHAOS_SEED", "1"))


@define
class Storm(Chaos):
    """Trouble in the network as well as in the daemons."""

    def repair(self) -> None:
        """Heal the network, then bring every daemon back."""
        for daemon in self.ring.daemons:
            daemon.resume()
        super().repair()
        self._weather(heal=True)

    def _misfortune(self) -> None:
        if self._random.random() < 0.5:
            super()._misfortune()
        else:
            self._weather(heal=self._random.random() < 0.4)

    def _weather(self, *, heal: bool) -> None:
        daemons = self.ring.daemons
        if heal or self._random.random() < 0.5:
            components = [0 if heal else self._random.randint(0, 1) for _ in daemons]
            partition(self.ring, components)
        for daemon in daemons:
            if daemon.process is None or not daemon.running:
                continue
            share = 0.0 if heal else self._random.choice([0.0, 0.0, 0.03, 0.2])
            unheard = self._random.choice(daemons).address
            deaf = not heal and self._random.random() < 0.15 and unheard != daemon.address
            lose(daemon.process.pid, share, [unheard] if deaf else [])


@pytest.mark.parametrize("accelerated", ["false", "true"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_clients_of_a_mixed_ring_keep_every_property_through_storms(
    upstream: Path, pattern: str, accelerated: str, chaos_seconds: float
) -> None:
    with ring_of(pattern, upstream, accelerated) as ring:
        storm = Storm(ring, seed=SEED, largest=20_000)
        try:
            problems = storm.play(chaos_seconds)
        except FilterError as error:
            pytest.skip(f"cannot borrow a daemon's sockets: {error}")
        assert problems == []
