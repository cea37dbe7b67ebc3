"""The lines in which upstream's tools show a received message.

Source: ``docs/protocol/monitoring-and-tools.md`` section 4.4.  Spelling errors are
upstream's; scripts match them.
"""

from __future__ import annotations

from typing import Final

from txspread.client.messages import (
    DataMessage,
    MembershipMessage,
    Message,
    RejectMessage,
    SelfLeave,
    TransitionMessage,
    name_text,
)
from txspread.wire.constants import ServiceType
from txspread.wire.identifiers import GroupId

RULE: Final = "=" * 28

_SERVICES: Final = (
    (ServiceType.UNRELIABLE_MESS, "UNRELIABLE"),
    (ServiceType.RELIABLE_MESS, "RELIABLE"),
    (ServiceType.FIFO_MESS, "FIFO"),
    (ServiceType.CAUSAL_MESS, "CAUSAL"),
    (ServiceType.AGREED_MESS, "AGREED"),
    (ServiceType.SAFE_MESS, "SAFE"),
)
_CAUSES: Final = (
    (ServiceType.CAUSED_BY_JOIN, "JOIN"),
    (ServiceType.CAUSED_BY_LEAVE, "LEAVE"),
    (ServiceType.CAUSED_BY_DISCONNECT, "DISCONNECT"),
)


def message_lines(message: Message) -> str:
    """Return a message as spuser prints it, without the rule above and the prompt below."""
    if isinstance(message, DataMessage):
        return data_header(message) + f"{text_of(message.body)}\n"
    if isinstance(message, MembershipMessage):
        return view_lines(message) + cause_lines(message)
    if isinstance(message, TransitionMessage):
        return f"received TRANSITIONAL membership for group {message.group}\n"
    if isinstance(message, SelfLeave):
        return f"received membership message that left group {message.group}\n"
    return _reject_lines(message)


def text_of(body: bytes) -> str:
    """Return a body as C prints it: up to the first NUL."""
    return name_text(body.partition(b"\0")[0])


def data_header(message: DataMessage) -> str:
    """Return the line about a data message and the start of the one with its text."""
    service = next((word for bit, word in _SERVICES if message.service_type & bit), "")
    return (
        f"received {service} message from {message.sender}, of type {message.mess_type},"
        f" (endian {int(message.endian_mismatch)}) to {len(message.groups)} groups \n"
        f"({len(message.body)} bytes): "
    )


def view_lines(message: MembershipMessage) -> str:
    """Return the lines about group and members."""
    return (
        f"Received REGULAR membership for group {message.group}"
        f" with {len(message.members)} members, where I am member {message.index}:\n"
        + "".join(f"\t{member}\n" for member in message.members)
    )


def id_line(group_id: GroupId) -> str:
    """Return the line about a group id: three signed numbers."""
    proc_id = group_id.proc_id - (1 << 32 if group_id.proc_id >= 1 << 31 else 0)
    return f"grp id is {proc_id} {group_id.time} {group_id.index}\n"


def cause_lines(message: MembershipMessage) -> str:
    """Return the group id line and what follows it."""
    lines = id_line(message.group_id)
    for bit, word in _CAUSES:
        if message.service_type & bit:
            return f"{lines}Due to the {word} of {message.changed_member or ''}\n"
    lines += f"Due to NETWORK change with {len(message.vs_sets)} VS sets\n"
    for index, members in enumerate(message.vs_sets):
        whose = "LOCAL" if index == message.vs_set_index else "OTHER"
        lines += f"{whose} VS set {index} has {len(members)} members:\n"
        lines += "".join(f"\t{member}\n" for member in members)
    return lines


def _reject_lines(message: RejectMessage) -> str:
    return (
        f"REJECTED message from {message.sender},"
        f" of servicetype 0x{int(message.service_type):x} messtype {message.mess_type},"
        f" (endian {int(message.endian_mismatch)}) to {len(message.groups)} groups \n"
        f"({len(message.body)} bytes): {text_of(message.body)}\n"
    )
