"""The records of a trace file: what a line says of a datagram or a message.

A line is one JSON object with ``t`` (seconds on the daemon's monotonic clock) and
``kind``.  Bodies of messages are not in it, only their size and a short digest by
which a message can be followed through the ring.  The kinds and their fields are
listed in ``docs/observability.md``.
"""

from __future__ import annotations

import hashlib
from typing import Final

import txspread
from txspread.config.model import Configuration, Daemon
from txspread.observe.snapshot import Json, shown, text
from txspread.wire import datagram
from txspread.wire.constants import (
    GROUPS_MESS,
    JOIN_MESS,
    KILL_MESS,
    LEAVE_MESS,
    MESSAGE_HEADER_SIZE,
    REGULAR_MESS,
    ServiceType,
)
from txspread.wire.datagram import (
    ARQ,
    ARQ_SHIFT,
    FORM,
    RETRANS,
    RETRANS_SHIFT,
    PacketClass,
    TokenClass,
    packet_class_of,
    token_class_of,
)
from txspread.wire.errors import ProtocolError
from txspread.wire.form import Form1, Form2
from txspread.wire.identifiers import MembershipId, format_address
from txspread.wire.membership import Join, decode_alive, decode_refer
from txspread.wire.message import MessageHeader, message_groups
from txspread.wire.packet import PacketHeader, read_fragments
from txspread.wire.token import Token

FORMAT: Final = 1
"""Of the file; in its first line."""
_SHOWN_BYTES: Final = 64
"""Of a datagram that cannot be read."""
_SERVICES: Final = {
    int(service): service.name.removesuffix("_MESS").lower()
    for service in (
        ServiceType.UNRELIABLE_MESS,
        ServiceType.RELIABLE_MESS,
        ServiceType.FIFO_MESS,
        ServiceType.CAUSAL_MESS,
        ServiceType.AGREED_MESS,
        ServiceType.SAFE_MESS,
    )
    if service.name is not None
}
_CONTROL: Final = ((JOIN_MESS, "join"), (LEAVE_MESS, "leave"), (KILL_MESS, "kill"))
_PACKET_SERVICES: Final = (
    (datagram.SAFE, "safe"),
    (datagram.AGREED, "agreed"),
    (datagram.FIFO, "fifo"),
    (datagram.RELIABLE, "reliable"),
    (datagram.UNRELIABLE, "unreliable"),
)


def start_record(configuration: Configuration, me: Daemon, wall: float) -> dict[str, Json]:
    """First record of each run of a daemon; ``wall`` is the time since the epoch."""
    return {
        "format": FORMAT,
        "version": txspread.__version__,
        "wall": wall,
        "daemon": shown(me.name),
        "id": format_address(me.id),
        "hash": configuration.hash,
        "daemons": [
            {
                "name": shown(daemon.name),
                "id": format_address(daemon.id),
                "port": daemon.port,
                "segment": daemon.segment,
            }
            for daemon in configuration.daemons
        ],
    }


def membership_text(membership_id: MembershipId) -> str:
    """An id as text: address and time."""
    return f"{format_address(membership_id.proc_id)}/{membership_id.time}"


def describe_datagram(data: bytes) -> dict[str, Json]:
    """What a datagram between daemons says, as flat fields; ``what`` tells its kind."""
    try:
        type_ = int.from_bytes(data[:4], "little" if data[:1] and data[0] & 0x80 else "big")
        kind = packet_class_of(type_)
        if type_ & FORM or kind is PacketClass.UNKNOWN:
            return _token(data, type_)
        return _packet(data, kind)
    except ProtocolError as error:
        return {
            "what": "unreadable",
            "why": str(error),
            "size": len(data),
            "hex": data[:_SHOWN_BYTES].hex(),
        }


def _token(data: bytes, type_: int) -> dict[str, Json]:
    kind = token_class_of(type_)
    if kind is TokenClass.REGULAR:
        token = Token.decode(data)
        return {
            "what": "token",
            "by": format_address(token.transmiter_id),
            "ring": membership_text(token.memb_id),
            "seq": token.seq,
            "aru": token.aru,
            "aru_by": format_address(token.aru_last_id),
            "flow_control": token.flow_control,
            "arq": (token.type & ARQ) >> ARQ_SHIFT,
            "retrans": (token.type & RETRANS) >> RETRANS_SHIFT,
            "requests": sum(max(1, len(request.seqs)) for request in token.requests),
        }
    form: Form1 | Form2
    form = Form1.decode(data) if kind is TokenClass.FORM1 else Form2.decode(data)
    fields: dict[str, Json] = {
        "what": kind.name.lower(),
        "by": format_address(form.transmiter_id),
        "attempt": membership_text(form.attempt),
        "members": [format_address(member) for member in form.members],
        "old_rings": [membership_text(entry.memb_id) for entry in form.rings],
    }
    if isinstance(form, Form2):
        fields["ring"] = membership_text(form.future_memb_id)
    return fields


def _packet(data: bytes, kind: PacketClass) -> dict[str, Json]:
    header = PacketHeader.decode(data)
    fields: dict[str, Json] = {
        "what": kind.name.lower(),
        "by": format_address(header.transmiter_id),
        "from": format_address(header.proc_id),
    }
    if header.type & datagram.ROUTED:
        fields["routed"] = True
    if kind is PacketClass.DATA:
        fragments = read_fragments(data, header)
        fields |= {
            "ring": membership_text(header.memb_id),
            "seq": header.seq,
            "round": header.token_round,
            "service": next(name for bit, name in _PACKET_SERVICES if header.type & bit),
            "fragments": len(fragments),
            "size": len(data),
        }
    elif kind is PacketClass.ALIVE:
        decode_alive(data, header)
    elif kind is PacketClass.JOIN:
        join = Join.decode(data, header)
        fields["members"] = [format_address(member) for member in join.members]
        fields["representatives"] = [format_address(rep.proc_id) for rep in join.reps]
    elif kind is PacketClass.REFER:
        fields["to_whom"] = format_address(decode_refer(header).proc_id)
    return fields


def describe_message(message: bytes) -> dict[str, Json]:
    """What a frame between groups layers says."""
    try:
        header = MessageHeader.decode(message)
        groups = message_groups(message, header.num_groups)
    except ProtocolError as error:
        return {"what": "unreadable", "why": str(error), "size": len(message)}
    return {
        "what": _message_kind(header.type),
        "sender": text(header.sender),
        "groups": [text(group) for group in groups],
        "size": max(0, len(message) - MESSAGE_HEADER_SIZE - 32 * len(groups)),
        "digest": digest(message),
    }


def digest(message: bytes) -> str:
    """Short name of a frame; equal frames have equal ones."""
    return hashlib.blake2b(message, digest_size=8).hexdigest()


def _message_kind(type_: int) -> str:
    if type_ & GROUPS_MESS:
        return "groups"
    for bit, name in _CONTROL:
        if type_ & bit:
            return name
    return _SERVICES.get(type_ & REGULAR_MESS, "data")
