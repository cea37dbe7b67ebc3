"""``txflush_user``: interactive test of the flush layer, in the place of flush_user.

Unlike spuser it never prints messages by itself.  Source:
``docs/protocol/monitoring-and-tools.md`` section 6.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from txspread.blocking.mailbox import Mailbox, connect, error, error_from
from txspread.client.errors import SpreadError
from txspread.client.flush_group import FlushRequest, FlushTransition, View
from txspread.client.flush_session import SUBGROUP_CAST, FlushSession
from txspread.client.messages import DataMessage, name_bytes, name_text
from txspread.tools.printing import RULE, data_header, id_line, message_lines, text_of
from txspread.tools.terminal import LineInput, show, use_byte_output
from txspread.tools.user import (
    COMMAND_BUFFER,
    LINE_BUFFER,
    MENU_BURST,
    MENU_END,
    MENU_START,
    Options,
    error_line,
    parse_options,
)
from txspread.wire.constants import MAX_GROUP_NAME, ServiceType

USAGE: Final = (
    "Usage: user\n"
    "\t[-u <user name>]  : unique (in this machine) user name\n"
    "\t[-s <address>]    : either port or port@machine\n"
)
MENU: Final = (
    MENU_START
    + "\tg <group> -- send a subgroup message\n"
    + MENU_BURST
    + "\tr -- receive a message (stuck) \n"
    + "\tp -- poll for a message \n"
    + "\tf <group> -- send a FLUSH_OK message\n\n"
    + MENU_END
)
MAX_RECEIVERS: Final = 9


class FlushProgram:
    """One run of the tool."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._lines = LineInput()
        self._sent = 0
        self._previous_size = 0
        self._mailbox: Mailbox
        self._session: FlushSession

    def run(self) -> NoReturn:
        """Connect and serve the user until the end.

        :raises SystemExit: with status 0, always.
        """
        show("Flush library version is 2.0.0\n")
        try:
            self._mailbox = connect(self._options.spread_name, self._options.user)
        except error as problem:
            show(error_line(problem.code) + "\nBye.\nCalling FL_disconnect(mbox = 0)\n")
            raise SystemExit(0) from None
        self._session = FlushSession(self._mailbox.private_group)
        show(
            f"User: connected to {self._options.spread_name}"
            f" with private group {self._mailbox.private_group}\n{MENU}\nUser> "
        )
        while True:
            self._command(self._lines.read_line(COMMAND_BUFFER))

    def _command(self, line: bytes) -> None:
        if not line:
            self._bye()
        letter, words = line[:1], line[2:].split()
        if letter in (b"j", b"l", b"s", b"f") and not words:
            show(" invalid group \n")
        elif letter == b"j":
            self._call(lambda: self._join(words[0]), fatal=False)
        elif letter == b"l":
            self._call(lambda: self._leave(words[0]), fatal=False)
        elif letter == b"s":
            self._send(words[0])
        elif letter == b"g":
            self._send_subgroup(words)
        elif letter == b"b":
            self._burst(words[0] if words else b"dummy_group_name")
        elif letter == b"r":
            self._read_message()
        elif letter == b"p":
            show(f"Polling says: {self._poll()}\n")
        elif letter == b"f":
            show(f"Sent a FLUSH_OK message to group '{name_text(words[0])}'\n")
            self._call(lambda: self._session.flush(words[0]), fatal=True)
        elif letter == b"q":
            self._bye()
        else:
            show("\nUnknown commnad\n" + MENU)
        show("\nUser> ")

    def _call(self, action: Callable[[], object], fatal: bool) -> None:
        """Do something and send what follows from it; print an error."""
        try:
            try:
                action()
                self._send_out()
            except SpreadError as problem:
                raise error_from(problem) from problem
        except error as problem:
            show(error_line(problem.code))
            if fatal:
                self._bye()

    def _join(self, group: bytes) -> None:
        self._session.check_join(group)
        self._mailbox.join(group)

    def _leave(self, group: bytes) -> None:
        self._session.leave(group)
        self._mailbox.leave(group)

    def _send_out(self) -> None:
        while self._session.outgoing:
            message = self._session.outgoing.popleft()
            self._mailbox.send_message(
                message.service_type, message.groups, message.body, message.mess_type
            )

    def _text(self, prompt: str) -> bytes:
        show(prompt)
        line = self._lines.read_line(LINE_BUFFER)
        if not line:
            self._bye()
        return line

    def _send(self, group: bytes) -> None:
        text = self._text("enter message: ")
        show(f"user.c : multicasting message of size {len(text)}:\n'{text_of(text)}'\n")
        self._call(
            lambda: self._session.multicast(ServiceType.SAFE_MESS, group, text, 1), fatal=True
        )
        self._sent += 1

    def _send_subgroup(self, words: list[bytes]) -> None:
        if not words:
            show("invalid group\n")
            return
        show("enter number of receivers: ")
        answer = self._lines.read_line(LINE_BUFFER).split()
        count = int(answer[0]) if answer and answer[0].isdigit() and len(answer[0]) < 9 else 0
        if not 1 <= count <= MAX_RECEIVERS:
            show(
                "invalid number of receivers, must be an integer in the range"
                f" [1, {MAX_RECEIVERS}]\n"
            )
            return
        receivers: list[bytes] = []
        for number in range(1, count + 1):
            show(f"enter recvr {number}: ")
            name = self._lines.read_line(MAX_GROUP_NAME).split()
            if not name:
                self._bye()
            receivers.append(name[0])
        text = self._text("enter message: ")
        show(
            f"user.c: subgroupcasting message of size {len(text)}"
            f" to group {name_text(words[0])} with receivers:\n"
            + "".join(f"{name_text(receiver)}\n" for receiver in receivers)
        )
        self._call(
            lambda: self._session.subgroupcast(ServiceType.SAFE_MESS, words[0], receivers, text, 0),
            fatal=True,
        )
        self._sent += 1

    def _burst(self, group: bytes) -> None:
        answer = self._text("enter size of each message: ").split()
        if answer and answer[0].lstrip(b"-").isdigit():
            self._previous_size = max(int(answer[0][:12]), 0)
        size = self._previous_size
        show(f"sending 10 messages of {size} bytes\n")
        for count in range(1, 11):
            self._sent += 1
            body = name_bytes(f"mess num {self._sent}").ljust(size, b"\0")[:size]
            self._call(
                lambda body=body: self._session.multicast(  # type: ignore[misc]
                    ServiceType.FIFO_MESS, group, body, 2
                ),
                fatal=True,
            )
            show(f"sent message {count} (total {self._sent})\n")

    def _poll(self) -> int:
        queued = sum(
            len(event.body) for event in self._session.events if isinstance(event, DataMessage)
        )
        return queued + self._mailbox.poll()

    def _read_message(self) -> None:
        session = self._session
        try:
            while not session.events:
                session.receive(self._mailbox.receive_message())
                self._send_out()
        except error as problem:
            show(f"\n{RULE}\n{error_line(problem.code)}\n{RULE}\n\nBye.\n")
            raise SystemExit(0) from None
        event = session.events.popleft()
        show(f"\n{RULE}\n")
        if isinstance(event, DataMessage):
            show(_data_lines(event))
        elif isinstance(event, View):
            show(_view_lines(event))
        elif isinstance(event, FlushRequest):
            show(f"received a FLUSH_REQ message for group {event.group}\n")
        elif isinstance(event, FlushTransition):
            show(f"received TRANSITIONAL membership for group {event.group}\n")
        else:
            show(message_lines(event))
        show(f"There are {len(session.events)} buffered messages waiting to be delivered\n\nUser> ")

    def _bye(self) -> NoReturn:
        show(f"\nBye.\nCalling FL_disconnect(mbox = {self._mailbox.fileno()})\n")
        self._mailbox.disconnect()
        raise SystemExit(0)


def _data_lines(message: DataMessage) -> str:
    text = text_of(message.body)
    lines = f"{data_header(message)}{text}\nMessage is:\n'{text}'\n"
    if message.service_type & SUBGROUP_CAST:
        lines += f"Received a subgroupcast message to group {message.groups[-1]}: receivers:\n"
        lines += "".join(f"\t{name}\n" for name in message.groups[:-1])
    return lines


def _view_lines(view: View) -> str:
    lines = (
        f"Received REGULAR membership for group {view.group}"
        f" with {len(view.members)} members, where I am member {view.index}:\n"
        + "".join(f"\t{member}\n" for member in view.members)
        + id_line(view.group_id)
    )
    if view.service_type & ServiceType.CAUSED_BY_NETWORK:
        lines += f"Due to NETWORK change. VS set has {len(view.vs_set)} members:\n"
        return lines + "".join(f"\t{member}\n" for member in view.vs_set)
    cause = (view.service_type & ~ServiceType.REG_MEMB_MESS).name or ""
    return f"{lines}Due to the {cause.removeprefix('CAUSED_BY_')} of {view.vs_set[0]}\n"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program; ``arguments`` default to the command line.

    :raises SystemExit: with status 0, as upstream's does also on errors.
    """
    use_byte_output()
    words = sys.argv[1:] if arguments is None else arguments
    options = parse_options(words, USAGE, ignored="", random=False)
    try:
        FlushProgram(options).run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
