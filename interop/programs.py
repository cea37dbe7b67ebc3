"""Programs at a terminal of their own, as their users run them.

A :class:`Program` has a pseudo-terminal for its input and output: upstream's tools
print their prompts at once then, and read line by line.  What it prints is kept;
:meth:`Program.wait_for` reads on until a text comes up, from where the last wait
ended, so a test is a dialogue.
"""

from __future__ import annotations

import os
import pty
import re
import selectors
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

LIMIT = 40.0
"""Seconds that anything may take, on a machine that does much else."""


class Program:
    """One program that runs at a terminal of its own.

    Args:
        command: what is run.
        environment: variables besides those of this process.

    """

    def __init__(
        self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> None:
        self.command = [str(word) for word in command]
        self.printed = ""
        """Everything so far."""
        self._at = 0
        self._terminal, terminal = pty.openpty()
        _make_raw(terminal)
        try:
            self.process = subprocess.Popen(
                self.command,
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        finally:
            os.close(terminal)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._terminal, selectors.EVENT_READ)

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._selector.close()
        os.close(self._terminal)

    def type(self, line: str) -> None:
        """Type a line and press the enter key."""
        os.write(self._terminal, line.encode() + b"\n")

    def wait_for(self, text: str, limit: float = LIMIT) -> str:
        """Read until ``text`` comes up after the last one waited for; what lay between.

        Raises:
            AssertionError: it did not come.

        """
        end = time.monotonic() + limit
        while (found := self.printed.find(text, self._at)) < 0:
            if not self._read(end - time.monotonic()):
                raise AssertionError(f"{self.command} printed {self.printed!r}, no {text!r}")
        between = self.printed[self._at : found]
        self._at = found + len(text)
        return between

    def ask(self, line: str, prompt: str = "User> ") -> str:
        """Type a line; what is printed up to the next prompt."""
        self.type(line)
        return self.wait_for(prompt)

    def finish(self, limit: float = LIMIT) -> int:
        """Wait for the program's end; its exit status."""
        end = time.monotonic() + limit
        while self._read(end - time.monotonic()):
            pass
        try:
            return self.process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command} goes on; printed {self.printed!r}") from None

    def _read(self, limit: float) -> bool:
        """Read what is printed next; False when the time or the output has ended."""
        if limit <= 0 or not self._selector.select(limit):
            return False
        try:
            data = os.read(self._terminal, 65536)
        except OSError:
            data = b""  # a terminal whose last user has gone
        self.printed += data.decode("latin-1")
        return bool(data)


def _make_raw(terminal: int) -> None:
    """No echo, and line ends as they are written."""
    flags = termios.tcgetattr(terminal)
    flags[1] &= ~termios.OPOST
    flags[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, flags)


def normalized(text: str) -> str:
    """A transcript without what differs from run to run: ports, ids, invented names."""
    text = re.sub(r"\d+@127\.[\d.]+", "PORT@HOST", text)
    text = re.sub(r"connected to \d+ ", "connected to PORT ", text)
    text = re.sub(r"grp id is -?\d+ -?\d+ ", "grp id is ID TIME ", text)
    text = re.sub(r"(Group ID is) \S+ \S+", r"\1 ID", text)
    return re.sub(r"#r\d+-\w+#", "#RANDOM#", text)
