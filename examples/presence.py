"""A presence list: who is here, as everybody sees it.

    python examples/presence.py NAME [DAEMON]

Being in the group is being present; the daemon notices who leaves, crashes or is cut off.
Written for asyncio.
"""

from __future__ import annotations

import asyncio
import sys

from txspread import aio
from txspread.client import MembershipMessage, ServiceType, TransitionMessage

GROUP = "presence"


def person(private_group: str) -> str:
    """``#anna#d1`` is anna at daemon d1."""
    _, name, daemon = private_group.split("#")
    return f"{name}@{daemon}"


def describe(view: MembershipMessage) -> str:
    """What happened, and who is here now."""
    here = ", ".join(person(member) for member in view.members)
    if view.changed_member is None:
        came = set(view.members) - set(view.vs_set)
        happened = "the network changed" + (
            f"; back: {', '.join(sorted(map(person, came)))}" if came else ""
        )
    elif view.service_type & ServiceType.CAUSED_BY_JOIN:
        happened = f"{person(view.changed_member)} came"
    elif view.service_type & ServiceType.CAUSED_BY_LEAVE:
        happened = f"{person(view.changed_member)} left"
    else:
        happened = f"{person(view.changed_member)} is gone"
    return f"{happened} - here: {here}"


async def watch(name: str, daemon: str | None = None) -> None:
    async with await aio.connect(daemon, name) as connection:
        connection.join(GROUP)
        leave_at_end_of_input(connection)
        async for message in connection:
            if isinstance(message, MembershipMessage):
                print(describe(message), flush=True)
            elif isinstance(message, TransitionMessage):
                print("somebody may be gone", flush=True)
            else:
                return


def leave_at_end_of_input(connection: aio.Connection) -> None:
    """Leave when the user presses Ctrl-D."""
    loop = asyncio.get_running_loop()

    def readable() -> None:
        if not sys.stdin.readline():
            loop.remove_reader(sys.stdin)
            connection.leave(GROUP)

    loop.add_reader(sys.stdin, readable)


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    asyncio.run(watch(*sys.argv[1:]))
