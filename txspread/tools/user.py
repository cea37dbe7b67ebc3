"""What spuser and sptuser have in common: commands, options and printed lines.

Source: ``docs/protocol/monitoring-and-tools.md`` section 4.  Spelling errors are
upstream's; scripts match them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from attrs import define

from txspread.blocking.mailbox import Mailbox, connect, error
from txspread.client.errors import error_text
from txspread.client.messages import name_bytes
from txspread.tools.printing import RULE, message_lines
from txspread.tools.terminal import LineInput, show, use_byte_output
from txspread.wire.constants import ServiceType, SpreadCode

CONNECT_TIMEOUT: Final = 5.0
COMMAND_BUFFER: Final = 130
LINE_BUFFER: Final = 200
MAX_MESSLEN: Final = 102400
MAX_TARGETS: Final = 10

USAGE: Final = (
    "Usage: spuser\n"
    "\t[-u <user name>]  : unique (in this machine) user name\n"
    "\t[-s <address>]    : either port or port@machine\n"
    "\t[-n <username>]    : username for authentication\n"
    "\t[-p <password>]    : users password\n"
    "\t[-r ]    : use random user name\n"
)
MENU_START: Final = (
    "\n"
    "==========\n"
    "User Menu:\n"
    "----------\n"
    "\n"
    "\tj <group> -- join a group\n"
    "\tl <group> -- leave a group\n"
    "\n"
    "\ts <group> -- send a message\n"
)
MENU_BURST: Final = "\tb <group> -- send a burst of messages\n\n"
MENU_MULTILINE: Final = (
    "\tm <group> -- send a multiline message to group. Terminate with empty line\n"
)
MENU_READING: Final = (
    "\tr -- receive a message (stuck) \n"
    "\tp -- poll for a message \n"
    "\te -- enable asynchonous read (default)\n"
    "\td -- disable asynchronous read \n"
    "\n"
)
MENU_END: Final = "\tq -- quit\n"


@define
class Options:
    """The command line of spuser, sptuser and flush_user."""

    user: str = "user"
    spread_name: str = "4803"


def parse_options(arguments: Sequence[str], usage: str, ignored: str, random: bool) -> Options:
    """Read the command line as upstream does: two characters decide.

    :param ignored: letters of options that take a value without effect.
    :param random: whether ``-r`` (let the daemon invent a name) is known.
    :raises SystemExit: with status 0 after the usage, for anything else.
    """
    options = Options()
    rest = list(arguments)
    while rest:
        option = rest.pop(0)[:2]
        if option == "-r" and random:
            options.user = ""
        elif rest and option == "-u":
            options.user = rest.pop(0)
        elif rest and option == "-s":
            options.spread_name = rest.pop(0)
        elif rest and len(option) == 2 and option[0] == "-" and option[1] in ignored:
            rest.pop(0)
        else:
            show(usage)
            raise SystemExit(0)
    return options


def error_line(code: int | None) -> str:
    """Return the line that ``SP_error`` prints; without a code, the connection is lost."""
    if code is None:
        code = SpreadCode.CONNECTION_CLOSED
    return f"SP_error: ({int(code)}) {error_text(code)}\n"


class UserProgram:
    """A session of spuser, or of sptuser if ``threaded``.

    The threaded one prints messages also while it waits for text, cannot switch
    that off, and says goodbye with two lines more.
    """

    def __init__(self, options: Options, threaded: bool, lines: LineInput | None = None) -> None:
        self._options = options
        self._threaded = threaded
        self._lines = LineInput() if lines is None else lines
        self._reading = True
        self._sent = 0
        self._previous_size = 0
        self._mailbox: Mailbox

    def run(self) -> NoReturn:
        """Connect and serve the user until the end.

        :raises SystemExit: with status 0, always.
        """
        show("Spread library version is 4.4.0\n")
        try:
            self._mailbox = connect(
                self._options.spread_name, self._options.user, timeout=CONNECT_TIMEOUT
            )
        except error as problem:
            show(error_line(problem.code) + "\nBye.\n")
            raise SystemExit(0) from None
        show(
            f"User: connected to {self._options.spread_name}"
            f" with private group {self._mailbox.private_group}\n"
        )
        show(self._menu() + "\nUser> ")
        while True:
            watched = self._mailbox if self._reading else None
            has_line, has_message = self._lines.wait(watched, COMMAND_BUFFER)
            if has_message:
                self._read_message()
            elif has_line:
                self._command(self._lines.read_line(COMMAND_BUFFER))

    def _menu(self) -> str:
        reading = "" if self._threaded else MENU_READING
        return MENU_START + MENU_MULTILINE + MENU_BURST + reading + MENU_END

    def _command(self, line: bytes) -> None:
        """Do what one line says, then prompt."""
        if not line:
            self._bye()
        letter, words = line[:1], line[2:].split()
        if letter == b"j":
            self._change(self._mailbox.join, words)
        elif letter == b"l":
            self._change(self._mailbox.leave, words)
        elif letter == b"s" and self._targets(words):
            self._send(words, self._text_line())
        elif letter == b"m" and self._targets(words):
            self._send(words, self._text_lines())
        elif letter == b"b":
            self._burst(words[0] if words else b"dummy_group_name")
        elif letter == b"q":
            self._bye()
        elif letter in b"rped" and letter and not self._threaded:
            self._reading_command(letter)
        elif letter not in (b"s", b"m"):
            show("\nUnknown commnad\n" + self._menu())
        show("\nUser> ")

    def _change(self, request: object, words: list[bytes]) -> None:
        if not words:
            show(" invalid group \n")
            return
        try:
            request(words[0])  # type: ignore[operator]
        except error as problem:
            show(error_line(problem.code))

    def _targets(self, words: list[bytes]) -> bool:
        if words:
            del words[MAX_TARGETS:]
            return True
        show(" invalid group \n")
        return False

    def _reading_command(self, letter: bytes) -> None:
        if letter == b"r":
            self._read_message()
        elif letter == b"p":
            show(f"Polling sais: {self._mailbox.poll()}\n")
        else:
            self._reading = letter == b"e"

    def _next_line(self) -> bytes:
        """Read a line of text; the threaded program goes on printing messages."""
        while self._threaded:
            has_line, has_message = self._lines.wait(self._mailbox, LINE_BUFFER)
            if has_message:
                self._read_message()
            elif has_line:
                break
        line = self._lines.read_line(LINE_BUFFER)
        if not line:
            self._bye()
        return line

    def _text_line(self) -> bytes:
        show("enter message: ")
        return self._next_line()

    def _text_lines(self) -> bytes:
        show("enter message: ")
        text = b""
        while len(text) < MAX_MESSLEN:
            line = self._next_line()
            if line.startswith(b"\n"):
                break
            text += line
        return text[:MAX_MESSLEN]

    def _send(self, groups: list[bytes], body: bytes) -> None:
        try:
            self._mailbox.multigroup_multicast(ServiceType.SAFE_MESS, groups, body, 1)
        except error as problem:
            show(error_line(problem.code))
            self._bye()
        self._sent += 1

    def _burst(self, group: bytes) -> None:
        show("enter size of each message: ")
        words = self._next_line().split()
        if words and words[0].isdigit():
            self._previous_size = min(int(words[0][:20]), MAX_MESSLEN)
        size = self._previous_size
        show(f"sending 10 messages of {size} bytes\n")
        for count in range(1, 11):
            self._sent += 1
            body = name_bytes(f"mess num {self._sent} ").ljust(size, b"\0")[:size]
            try:
                self._mailbox.multicast(ServiceType.FIFO_MESS, group, body, 2)
            except error as problem:
                show(error_line(problem.code))
                self._bye()
            show(f"sent message {count} (total {self._sent})\n")

    def _read_message(self) -> None:
        try:
            message = self._mailbox.receive_message()
        except error as problem:
            show(f"\n{RULE}\n{error_line(problem.code)}\n{RULE}\n\nBye.\n")
            raise SystemExit(0) from None
        show(f"\n{RULE}\n{message_lines(message)}\nUser> ")

    def _bye(self) -> NoReturn:
        show("\nBye.\n")
        self._mailbox.disconnect()
        if self._threaded:
            show(f"\n{RULE}\n")
        raise SystemExit(0)


def run_program(threaded: bool, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run spuser or sptuser as a command."""
    use_byte_output()
    options = parse_options(
        sys.argv[1:] if arguments is None else arguments, USAGE, ignored="np", random=True
    )
    try:
        UserProgram(options, threaded).run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
