"""``txspread-render``: write a spread.conf from names that a resolver knows.

For places where daemons have names and no fixed addresses, as in Kubernetes.  Each
name becomes a daemon, called by the part before the first dot, in a segment of its own,
so that everything goes by unicast.  The file is written once all names have an address.
With ``--watch`` the names are looked up again and again, and when an address has
changed the file is replaced and, with ``--signal``, the daemon told by SIGHUP to read
it.  All daemons of a ring see the same names, so they come to the same file.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from attrs import frozen

from txspread.config import ConfigurationError, parse

RETRY_SECONDS = 1.0


@frozen
class Entry:
    """One daemon."""

    name: str
    address: str


def lookup(name: str) -> str | None:
    """The first IPv4 address of a host name, the lowest if there are several."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_DGRAM)
    except OSError:
        return None
    return min((str(entry[4][0]) for entry in found), key=socket.inet_aton, default=None)


def entries(
    names: Sequence[str], find: Callable[[str], str | None]
) -> tuple[list[Entry], list[str]]:
    """The daemons with an address, and the names that have none."""
    found, missing = [], []
    for name in names:
        address = find(name)
        if address is None:
            missing.append(name)
        else:
            found.append(Entry(name.partition(".")[0], address))
    return found, missing


def render(daemons: Sequence[Entry], port: int, options: Sequence[str] = ()) -> str:
    """The text of the file.

    Raises:
        ConfigurationError: no daemon could start from it.

    """
    lines = [*options, ""]
    for daemon in daemons:
        broadcast = daemon.address.rpartition(".")[0] + ".255"
        lines += [
            f"Spread_Segment {broadcast}:{port} {{",
            f"\t{daemon.name}\t{daemon.address}",
            "}",
        ]
    text = "\n".join(lines) + "\n"
    parse(text)
    return text


def write(path: Path, text: str) -> bool:
    """Replace a file, at once, if it says something else; whether it did."""
    try:
        if path.read_text(encoding="utf-8") == text:
            return False
    except FileNotFoundError:
        pass
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return True


def processes(command: str) -> list[int]:
    """Processes whose program, or the script that an interpreter runs, has this name."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")[:2]
        except OSError:
            continue  # it has just ended
        if any(os.path.basename(word) == command.encode() for word in words):
            found.append(int(entry.name))
    return found


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="txspread-render",
        description="Write a spread.conf for daemons that are known by host names, each in a "
        "segment of its own.  Waits until every name has an address.",
    )
    parser.add_argument("host", nargs="*", help="host names, in the order of the ring")
    parser.add_argument(
        "--names", metavar="PATTERN", help="host names with {} for a number, e.g. spread-{}.ring"
    )
    parser.add_argument("--count", type=int, default=3, help="how many of them, from 0 (default 3)")
    parser.add_argument("--port", type=int, default=4803)
    parser.add_argument(
        "--option", action="append", default=[], metavar="LINE", help="a line to write first"
    )
    parser.add_argument("--output", metavar="FILE", help="file to write (default: stdout)")
    parser.add_argument(
        "--watch", type=float, metavar="SECONDS", help="look again so often, until stopped"
    )
    parser.add_argument(
        "--signal",
        metavar="COMMAND",
        help="send SIGHUP to the processes of this command when the file has changed",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    names = list(options.host)
    if options.names:
        names += [options.names.replace("{}", str(number)) for number in range(options.count)]
    if not names:
        parser.error("no host names: give some, or --names")
    told: list[str] = []
    while True:
        daemons, missing = entries(names, lookup)
        if missing:
            if missing != told:
                print(f"txspread-render: no address yet: {' '.join(missing)}", file=sys.stderr)
            told = missing
            time.sleep(options.watch or RETRY_SECONDS)
            continue
        try:
            text = render(daemons, options.port, options.option)
        except ConfigurationError as error:
            print(f"txspread-render: {error}", file=sys.stderr)
            return 1
        if options.output is None:
            sys.stdout.write(text)
            return 0
        if write(Path(options.output), text):
            print(f"txspread-render: {options.output} written", file=sys.stderr)
            for process in processes(options.signal) if options.signal else ():
                os.kill(process, signal.SIGHUP)
        if options.watch is None:
            return 0
        time.sleep(options.watch)


if __name__ == "__main__":
    sys.exit(main())
