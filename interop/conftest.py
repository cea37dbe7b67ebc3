"""Options and fixtures of the interoperability tests.

Everything here is skipped by name without a build of upstream Spread; see
``--upstream`` in the help of the test runner.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.libspread import LibSpread
from txspread.testing.processes import (
    DaemonProcess,
    DaemonRing,
    txspread_command,
    upstream_command,
)


@pytest.fixture
def chaos_seconds() -> float:
    """How long trouble lasts in each chaos test; ``CHAOS_SECONDS`` sets it."""
    return float(os.environ.get("CHAOS_SECONDS", "10"))


@pytest.fixture(scope="module")
def ours(upstream: Path) -> Iterator[DaemonProcess]:
    """Our daemon, alone in its configuration; shared by the tests of a file."""
    with DaemonRing([txspread_command()]) as ring:
        yield ring.daemons[0]


@pytest.fixture(scope="module")
def theirs(upstream: Path) -> Iterator[DaemonProcess]:
    """Upstream's daemon, alone in its configuration; shared by the tests of a file."""
    with DaemonRing([upstream_command(upstream)]) as ring:
        yield ring.daemons[0]


@pytest.fixture(params=["ours", "theirs"])
def daemon(request: pytest.FixtureRequest) -> DaemonProcess:
    """Each daemon in turn: what holds for the one has to hold for the other."""
    chosen = request.getfixturevalue(request.param)
    assert isinstance(chosen, DaemonProcess)
    return chosen


@pytest.fixture(scope="session")
def libspread(upstream: Path) -> LibSpread:
    """Upstream's client library."""
    library = upstream / "lib" / "libspread-core.so.3"
    if not library.exists():
        pytest.skip(f"needs upstream's client library: {library}")
    return LibSpread(library)


@pytest.fixture(scope="session")
def java_classes(upstream: Path) -> Path:
    """The directory with upstream's compiled Java client: PREFIX/java or TXSPREAD_JAVA."""
    directory = Path(os.environ.get("TXSPREAD_JAVA", upstream / "java"))
    if not (directory / "User.class").exists():
        pytest.skip(f"needs upstream's Java client compiled in {directory}")
    return directory
