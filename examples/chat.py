"""A chat: rooms, and whispers to one person.

    python examples/chat.py NAME [DAEMON]

then type text for the room, ``/join ROOM``, ``/to NAME TEXT`` or ``/quit``.  Written with
the blocking API: one thread receives, the main thread reads the keyboard and sends.
"""

from __future__ import annotations

import sys
import threading

import txspread.blocking as spread

LOBBY = "lobby"
WHISPER = 1


class Chat:
    def __init__(self, mailbox: spread.Mailbox, say=print) -> None:
        self.mailbox = mailbox
        self.say = say
        self.room = LOBBY
        self.people: dict[str, str] = {}  # short name to private group, of the room
        mailbox.join(LOBBY)

    def receive(self) -> None:
        """Print what arrives until the mailbox is closed."""
        while True:
            try:
                message = self.mailbox.receive()
            except spread.error:
                return
            if isinstance(message, spread.RegularMsgType):
                who = message.sender.split("#")[1]
                text = message.message.decode(errors="replace")
                where = "whispers" if message.msg_type == WHISPER else message.groups[0]
                self.say(f"[{where}] {who}: {text}")
            elif message.members:
                self.view(message)

    def view(self, message: spread.MembershipMsgType) -> None:
        if message.group == self.room:
            self.people = {member.split("#")[1]: member for member in message.members}
        if message.changed_member:
            joined = message.reason == spread.CAUSED_BY_JOIN
            who = message.changed_member.split("#")[1]
            self.say(f"[{message.group}] {who} {'joined' if joined else 'left'}")

    def line(self, line: str) -> bool:
        """Do what the user typed; False to quit."""
        match line.split(maxsplit=2):
            case []:
                pass
            case ["/quit", *_]:
                return False
            case ["/join", room]:
                self.mailbox.leave(self.room)
                self.room = room
                self.mailbox.join(room)
            case ["/to", name, text] if name in self.people:
                target = self.people[name]
                self.mailbox.multicast(spread.RELIABLE_MESS, target, text, WHISPER)
            case ["/to", name, *_]:
                self.say(f"{name} is not in {self.room}, or there is nothing to say")
            case _:
                self.mailbox.multicast(spread.AGREED_MESS, self.room, line)
        return True


def main(name: str, daemon: str | None = None) -> None:
    with spread.connect(daemon, name, timeout=10) as mailbox:
        chat = Chat(mailbox, lambda text: print(text, flush=True))
        receiver = threading.Thread(target=chat.receive)
        receiver.start()
        try:
            for line in sys.stdin:
                try:
                    if not chat.line(line.strip()):
                        break
                except spread.error as problem:
                    chat.say(f"not sent: {problem.args[-1]}")
        finally:
            mailbox.disconnect()
            receiver.join()


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
