"""Fixtures for pytest: a Spread daemon, or a ring of them, for each test that asks.

* ``spread_daemon``: one daemon, an :class:`~txspread.testing.in_process.InProcessDaemon`;
* ``spread_ring``: three daemons, a :class:`~txspread.testing.spread_ring.SpreadRing`;
* ``virtual_spread``: three daemons in virtual time, without sockets, a
  :class:`~txspread.testing.virtual_ring.VirtualRing`.

``@pytest.mark.spread(size=5, options={"MaxSessionMessages": 50})`` on a test, class or
module changes what they start: the arguments are those of the class.  When a test fails
its report has the last lines of the daemons' logs.  See ``docs/users-tests.md``.

Nothing of Twisted is imported before a test asks for a fixture, and the global reactor
is not installed at all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import pytest

if TYPE_CHECKING:
    from txspread.testing.in_process import InProcessDaemon
    from txspread.testing.spread_ring import SpreadRing
    from txspread.testing.virtual_ring import VirtualRing

MARKER: Final = (
    "spread(size=3, options={}, timeouts={}, at_once=True, seed=0): what the fixtures "
    "spread_daemon, spread_ring and virtual_spread start"
)
ARGUMENTS: Final = frozenset(("size", "options", "timeouts", "at_once", "seed"))
SHOWN_LINES: Final = 30
"""Lines of each daemon's log in the report of a failed test."""


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marker."""
    config.addinivalue_line("markers", MARKER)


@pytest.fixture
def spread_daemon(request: pytest.FixtureRequest) -> Iterator[InProcessDaemon]:
    """A Spread daemon in this process, at 127.0.0.1 on a free port.

    Connect to ``spread_daemon.location``.
    """
    from txspread.testing.spread_ring import SpreadRing

    arguments = _arguments(request, {"options", "timeouts"})
    with _opened(request, lambda: SpreadRing(1, **arguments)) as ring:
        yield ring.daemons[0]


@pytest.fixture
def spread_ring(request: pytest.FixtureRequest) -> Iterator[SpreadRing]:
    """A ring of Spread daemons in this process, with partition, heal, crash and restart.

    Connect to ``spread_ring[0].location`` and so on.
    """
    from txspread.testing.spread_ring import SpreadRing

    arguments = _arguments(request, {"size", "options", "timeouts", "at_once"})
    with _opened(request, lambda: SpreadRing(**arguments)) as ring:
        yield ring


@pytest.fixture
def virtual_spread(request: pytest.FixtureRequest) -> Iterator[VirtualRing]:
    """A ring of Spread daemons in virtual time, the same at every run."""
    from txspread.testing.virtual_ring import VirtualRing

    arguments = _arguments(request, {"size", "options", "timeouts", "seed"})
    with _opened(request, lambda: VirtualRing(**arguments)) as ring:
        yield ring


class _Opens(Protocol):
    """What :class:`SpreadRing` and :class:`VirtualRing` have in common here."""

    def open(self) -> None:
        """Start."""

    def close(self) -> None:
        """End."""


_Ring = TypeVar("_Ring", bound=_Opens)


@contextmanager
def _opened(request: pytest.FixtureRequest, make: Callable[[], _Ring]) -> Iterator[_Ring]:
    """Make and open a ring; what is wrong with it becomes one line."""
    from txspread.testing.in_process import SpreadTestError

    try:
        ring = make()
        ring.open()
    except (SpreadTestError, ValueError) as error:
        pytest.fail(f"{request.fixturename}: {error}", pytrace=False)
    try:
        yield ring
    finally:
        ring.close()


def _arguments(request: pytest.FixtureRequest, taken: Set[str]) -> dict[str, Any]:
    """The marker's arguments that concern a fixture, those of the closest marker first."""
    found: dict[str, Any] = {}
    for marker in request.node.iter_markers("spread"):
        if marker.args:
            pytest.fail("pytest.mark.spread takes keyword arguments only", pytrace=False)
        for name, value in marker.kwargs.items():
            if name not in ARGUMENTS:
                pytest.fail(
                    f"pytest.mark.spread has no argument {name!r}; it takes "
                    + ", ".join(sorted(ARGUMENTS)),
                    pytrace=False,
                )
            if name in taken:
                found.setdefault(name, value)
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the logs of a failed test's daemons into its report."""
    report = yield
    if call.when == "call" and report.failed and "txspread.testing.in_process" in sys.modules:
        for daemon in _daemons(getattr(item, "funcargs", {}).values()):
            text = "\n".join(daemon.log[-SHOWN_LINES:])
            report.sections.append((f"log of spread daemon {daemon.name}", text))
    return report


def _daemons(values: Iterable[object]) -> Iterator[InProcessDaemon]:
    from txspread.testing.in_process import InProcessDaemon
    from txspread.testing.spread_ring import SpreadRing

    for value in values:
        if isinstance(value, InProcessDaemon):
            yield value
        elif isinstance(value, SpreadRing):
            yield from value
