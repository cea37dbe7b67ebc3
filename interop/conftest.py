"""Options of the interoperability tests."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def chaos_seconds() -> float:
    """How long trouble lasts in each chaos test; ``CHAOS_SECONDS`` sets it."""
    return float(os.environ.get("CHAOS_SECONDS", "10"))
