"""Running a tool as a user does, against what upstream's tool printed."""

from __future__ import annotations

import json
import os
import re
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recorded import VECTORS

LIMIT = 60.0


def recorded_session(name: str) -> dict[str, Any]:
    session: dict[str, Any] = json.loads((VECTORS / "tools" / f"{name}.json").read_text())
    return session


def arguments(session: dict[str, Any], address: str) -> list[str]:
    """The recorded command line, at another daemon."""
    return [re.sub(r"^15520.*", address, word) for word in session["argv"]]


def outputs(session: dict[str, Any]) -> str:
    return "".join(event.get("out", "") for event in session["transcript"])


def pattern(text: str, address: str) -> str:
    """What a recorded output looks like with other ids, addresses and daemons."""
    text = re.escape(text.replace("#d2", "#d1"))
    text = re.sub(r"15520(@127\\\.0\\\.[01]\\\.[12])?", lambda _: re.escape(address), text)
    text = re.sub(r"grp\\ id\\ is\\ \d+\\ \d+", r"grp\\ id\\ is\\ -?\\d+\\ \\d+", text)
    text = re.sub(r"mbox\\ =\\ \d", r"mbox\\ =\\ \\d+", text)
    text = re.sub(r"\\#r\d+\\-\d+", r"\\#r\\d+-\\w+", text)
    return text


class Tool:
    """A tool of ours (or a script) that runs, with what it has printed so far."""

    def __init__(self, module: str | Path, words: list[str]) -> None:
        run = [str(module)] if isinstance(module, Path) else ["-m", f"txspread.tools.{module}"]
        self.process = subprocess.Popen(
            [sys.executable, *run, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        self.printed = ""
        self.expected = ""

    def __enter__(self) -> Tool:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def type(self, text: str) -> None:
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def end_input(self) -> None:
        self.process.stdin.close()

    def expect(self, regular_expression: str) -> None:
        """Wait until the output goes on with this, and with nothing else."""
        self.expected += regular_expression
        whole = re.compile(self.expected, re.DOTALL)
        self._read(lambda: whole.fullmatch(self.printed) is not None)

    def wait_for(self, text: str) -> None:
        """Wait until this was printed."""
        self._read(lambda: text in self.printed)

    def wait_until(self, done: Callable[[], object]) -> None:
        """Wait until what was printed satisfies a condition."""
        self._read(done)

    def finish(self) -> int:
        """Wait for the end; return the exit status."""
        status = self.process.wait(LIMIT)
        self.printed += self.process.stdout.read().decode()
        assert self.process.stderr.read() == b""
        return status

    def _read(self, enough: Any) -> None:
        deadline = time.monotonic() + LIMIT
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while not enough():
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise AssertionError(f"printed {self.printed!r}, wanted {self.expected!r}")
                data = os.read(self.process.stdout.fileno(), 65536)
                if not data:
                    raise AssertionError(
                        f"ended with {self.printed!r}, wanted {self.expected!r}\n"
                        + self.process.stderr.read().decode()
                    )
                self.printed += data.decode()


def play(tool: Tool, transcript: list[dict[str, str]], address: str, steps: int) -> None:
    """Play this many inputs, each when all output before it has come; uses them up."""
    for _ in range(steps):
        while "out" in transcript[0]:
            tool.expect(pattern(transcript.pop(0)["out"], address))
        tool.type(transcript.pop(0)["in"].replace("#d2", "#d1"))


def replay(module: str, name: str, address: str) -> None:
    """Play a session in which nobody else takes part."""
    session = recorded_session(name)
    with Tool(module, arguments(session, address)) as tool:
        for event in session["transcript"]:
            if "in" in event:
                tool.type(event["in"])
            elif "in_eof" in event:
                tool.end_input()
            else:
                tool.expect(pattern(event["out"], address))
        assert tool.finish() == session["exit"]["status"]
        assert re.fullmatch(tool.expected, tool.printed, re.DOTALL), tool.printed
