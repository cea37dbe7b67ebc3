"""Processes that make load: how they are started, told to go, watched and ended.

Each runs one function of a generator class; counters lie in shared memory, where the
measuring process samples them, so that nothing is reported while the clock runs.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
import traceback
from abc import ABC, abstractmethod
from multiprocessing.context import ForkProcess
from multiprocessing.sharedctypes import RawArray
from typing import Any

_CONTEXT = multiprocessing.get_context("fork")
_READY_LIMIT = 60.0
"""Seconds for everybody to connect and join; hundreds of receivers take a while."""
_POLL = 0.001


class Generators(ABC):
    """Processes that report that they are ready and wait for the word to go.

    Args:
        parts: how many of them, or of their sessions, report that they are ready.

    """

    def __init__(self, parts: int) -> None:
        self._ready: Any = RawArray(ctypes.c_uint64, parts)
        self._go: Any = RawArray(ctypes.c_uint64, 1)
        self._processes: list[ForkProcess] = []

    @abstractmethod
    def start(self) -> None:
        """Connect everything, then let the load begin; each kind of load has its own."""

    def _spawn(self, function: Any, *arguments: Any) -> None:
        process = _CONTEXT.Process(target=_run, args=(function, *arguments), daemon=True)
        process.start()
        self._processes.append(process)

    def _wait_ready(self, first: int, last: int) -> None:
        deadline = time.monotonic() + _READY_LIMIT
        while not all(self._ready[first:last]):
            if time.monotonic() > deadline or self.failed():
                self.stop()
                raise RuntimeError("a load generator could not connect")
            time.sleep(0.005)

    def resume(self) -> None:
        """Let the senders send."""
        self._go[0] = 1

    def pause(self) -> None:
        """Let the senders rest; what they have sent is still under way for a moment."""
        self._go[0] = 0

    def _wait_for_go(self) -> None:
        while not self._go[0]:
            time.sleep(_POLL)

    def pids(self) -> list[int]:
        """Processes of the load."""
        return [process.pid for process in self._processes if process.pid is not None]

    def failed(self) -> bool:
        """Whether a generator has ended, for instance because it was cut off."""
        return any(process.exitcode is not None for process in self._processes)

    def stop(self) -> None:
        """End the processes, and so their sessions."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()


def _run(function: Any, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        function(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
