"""Fixtures of the client tests: daemons (ours always, upstream's when a build is given)."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from daemon_processes import LIMIT, RunningDaemon, daemon_command, running_daemon
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import LogEvent, globalLogPublisher

T = TypeVar("T")


@pytest.fixture(scope="session", params=["txspread", "upstream"])
def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningDaemon]:
    """A daemon shared by all tests: do not stop it."""
    command = daemon_command(request.param, request)
    with running_daemon(command, tmp_path_factory.mktemp(request.param)) as started:
        yield started


@pytest.fixture(params=["txspread", "upstream"])
def own_daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningDaemon]:
    """A daemon for one test, which may kill it."""
    with running_daemon(daemon_command(request.param, request), tmp_path) as started:
        yield started


_counter = iter(range(1, 1_000_000))


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Make names that no other test uses: up to three letters and a number."""
    return lambda prefix: f"{prefix}{os.getpid() % 1000}x{next(_counter)}"[:10]


@pytest.fixture(scope="session")
def reactor() -> Iterator[Any]:
    """A reactor of its own that runs in a thread, apart from the installed one."""
    made = EPollReactor()
    thread = threading.Thread(target=made.run, kwargs={"installSignalHandlers": False})
    thread.start()
    yield made
    made.callFromThread(made.stop)
    thread.join(LIMIT)


@pytest.fixture
def unhandled() -> Iterator[list[LogEvent]]:
    """What Twisted logged as failures, unhandled Deferreds included."""
    failures: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event.get("isError") or "log_failure" in event:
            failures.append(event)

    globalLogPublisher.addObserver(observe)
    yield failures
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def run(
    reactor: Any, unhandled: list[LogEvent]
) -> Iterator[Callable[[Coroutine[Deferred[Any], Any, Any]], Any]]:
    """Run a coroutine in the reactor's thread and return its result.

    Fails the test if it takes too long, or leaves an unhandled Deferred behind.
    """

    def run_in_thread(coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
        result: T = blockingCallFromThread(
            reactor, lambda: ensureDeferred(coroutine).addTimeout(LIMIT, reactor)
        )
        return result

    yield run_in_thread
    blockingCallFromThread(reactor, gc.collect)
    gc.collect()
    assert not unhandled
