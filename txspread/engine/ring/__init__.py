"""The token ring: one total order for all daemons of a membership."""

from __future__ import annotations

from txspread.engine.ring.counters import RingCounters
from txspread.engine.ring.token_machine import TokenRing

__all__ = ["RingCounters", "TokenRing"]
