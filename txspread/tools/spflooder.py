"""``txspflooder``: sends and receives in bulk, in the place of upstream's spflooder.

Source: ``docs/protocol/monitoring-and-tools.md`` section 5.  Where standard error is a
terminal, the rate is shown there while it runs.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NoReturn

from attrs import define

from txspread.blocking.mailbox import Mailbox, connect, error
from txspread.client.messages import DataMessage, MembershipMessage, Message, RejectMessage
from txspread.tools.printing import data_header, message_lines, text_of, view_lines
from txspread.tools.terminal import show, use_byte_output
from txspread.tools.user import error_line
from txspread.wire.constants import ServiceType

GROUP: Final = "flooder"
MAX_MEMBERS: Final = 100
WINDOW: Final = 200
REPORT_EVERY: Final = 1000
USAGE: Final = (
    "Usage: spflooder\n"
    "\t[-u <user name>]     : unique (in this machine) user name\n"
    "\t[-m <num messages>]  : number of messages\n"
    "\t[-n <num members>]   : number of group members to wait for"
    " (also turn on multi-sender FC)\n"
    "\t[-b <num bytes>]     : number of bytes per message 1-100,000\n"
    "\t[-s <spread name>]   : either port or port@machine\n"
    "\t[-ro]   \t\t: read  only (no multicast)\n"
    "\t[-wo]   \t\t: write only (no receive)\n"
)


@define
class FloodOptions:
    """The command line."""

    user: str = "flooder"
    spread_name: str = "4803"
    messages: int = 10000
    size: int = 1000
    members: int = 0
    read_only: bool = False
    write_only: bool = False


def parse_flood_options(arguments: Sequence[str]) -> FloodOptions:
    """Read the command line.

    :raises SystemExit: with status 1 after the usage, where it cannot be understood.
    """
    options = FloodOptions()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word.startswith(("-ro", "-wo")):
            options.read_only = word.startswith("-ro")
            options.write_only = not options.read_only
        elif rest and word.startswith("-u"):
            options.user = rest.pop(0)
        elif rest and word.startswith("-s"):
            options.spread_name = rest.pop(0)
        elif rest and word.startswith("-m"):
            options.messages = _number(rest.pop(0), options.messages)
        elif rest and word.startswith("-b"):
            options.size = _number(rest.pop(0), options.size)
        elif rest and word.startswith("-n"):
            options.members = _number(rest.pop(0), options.members)
        else:
            show(USAGE)
            raise SystemExit(1)
    if options.members > MAX_MEMBERS:
        show(f"Too many members. The max is {MAX_MEMBERS}\n{USAGE}")
        raise SystemExit(1)
    return options


def _number(text: str, otherwise: int) -> int:
    try:
        return max(int(text), 0)
    except ValueError:
        return otherwise


class Flood:
    """One run."""

    def __init__(self, options: FloodOptions) -> None:
        self._options = options
        self._mailbox: Mailbox
        self._body = bytes(options.size)
        self._service = ServiceType.FIFO_MESS if options.members else ServiceType.RELIABLE_MESS
        if options.write_only and not options.members:
            self._service |= ServiceType.SELF_DISCARD
        self._sent = 0
        self._received: defaultdict[int, int] = defaultdict(int)
        self._last_size = 0
        self._progress = _Progress(options.messages)

    def run(self) -> None:
        """Connect, join, send and receive.

        :raises error: what the library reports; already printed by nobody.
        """
        options = self._options
        where = " with group membership" if options.members else ""
        show(f"flooder: connecting to {options.spread_name}{where}\n")
        self._mailbox = connect(
            options.spread_name, options.user, membership=int(options.members > 0)
        )
        if options.read_only:
            show("flooder: Only receiving messages\n")
        else:
            discarding = " (self discarding)" if options.write_only else ""
            show(
                f"flooder: starting  multicast of {options.messages} messages,"
                f" {options.size} bytes each{discarding}.\n"
            )
        if not options.write_only:
            self._mailbox.join(GROUP)
        if options.members:
            self._wait_for_members()
        for count in range(1, options.messages + 1):
            self._round(count)
            if count % REPORT_EVERY == 0:
                show(f"flooder: completed {count:6} messages of {self._last_size} bytes\n")
                self._progress.show(count, self._last_size)
        show(
            f"flooder: completed multicast of {options.messages} messages,"
            f" {options.size} bytes each.\n"
        )

    def _wait_for_members(self) -> None:
        members = 0
        while members < self._options.members:
            message = self._mailbox.receive_message()
            show(_waiting_lines(message))
            if isinstance(message, MembershipMessage):
                members = len(message.members)
                index = message.index.to_bytes(4, sys.byteorder, signed=True)
                self._body = (index + self._body[4:])[: self._options.size]

    def _round(self, count: int) -> None:
        options = self._options
        if not options.read_only:
            self._last_size = self._mailbox.multicast(self._service, GROUP, self._body, 0)
            self._sent += 1
        if options.read_only:
            self._receive()
        elif count > WINDOW and not options.write_only:
            while not self._receive():
                pass

    def _receive(self) -> bool:
        """Receive one message; whether that is enough for now."""
        message = self._mailbox.receive_message()
        self._last_size = len(message.body) if isinstance(message, DataMessage) else 0
        if not self._options.members:
            mine = self._mailbox.private_group
            return isinstance(message, DataMessage) and message.sender == mine
        if isinstance(message, DataMessage):
            sender = int.from_bytes(message.body[:4], sys.byteorder, signed=True)
            if 0 <= sender < MAX_MEMBERS:
                self._received[sender] += 1
        return bool(self._received) and min(self._received.values()) >= self._sent - WINDOW


def _waiting_lines(message: Message) -> str:
    """Return what is printed while members are awaited: no id and cause lines."""
    if isinstance(message, MembershipMessage):
        return view_lines(message)
    if isinstance(message, DataMessage):
        header = data_header(message).replace(
            " message from ", " message during wait for members, from ", 1
        )
        return f"{header}{text_of(message.body)}\n"
    if isinstance(message, RejectMessage):
        return message_lines(message)
    return message_lines(message)


class _Progress:
    """The rate so far, for a person who watches."""

    def __init__(self, messages: int) -> None:
        self._wanted = sys.stderr.isatty()
        self._messages = messages
        self._start = time.monotonic()

    def show(self, count: int, size: int) -> None:
        if not self._wanted:
            return
        seconds = max(time.monotonic() - self._start, 1e-6)
        left = (self._messages - count) * seconds / count
        sys.stderr.write(
            f"  {count / seconds:.0f} messages/s, {count * size / seconds / 1e6:.1f} MB/s,"
            f" {left:.0f} s left\n"
        )


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program; ``arguments`` default to the command line.

    :raises SystemExit: with status 0 when all was done, 1 on errors.
    """
    use_byte_output()
    flood = Flood(parse_flood_options(sys.argv[1:] if arguments is None else arguments))
    try:
        flood.run()
    except error as problem:
        show(error_line(problem.code))
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main()
