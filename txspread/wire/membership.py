"""Membership packets: ALIVE, JOIN, REFER, and HURRY; with the form tokens.

Source: ``docs/protocol/daemon-datagrams.md`` section 9.  Form tokens
(:mod:`txspread.wire.form`) and representatives
(:mod:`txspread.wire.member_lists`) can be imported from here as well.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from txspread.wire import datagram
from txspread.wire.byteorder import ByteOrder
from txspread.wire.constants import MAX_PROCS_RING
from txspread.wire.dialect import SPREAD_4_4, Dialect
from txspread.wire.errors import ProtocolError
from txspread.wire.form import MAX_FORM_REPS, Form1, Form2, RingBlock, placeholder_memb_id
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.member_lists import (
    MAX_REPS,
    REP_SIZE,
    Representative,
    RepresentativeType,
    read_counts,
    read_ids,
    read_reps,
    representative_type,
    write_counts,
    write_ids,
    write_reps,
)
from txspread.wire.packet import NO_MEMBERSHIP, PacketHeader, encode_bare

__all__ = [
    "MAX_FORM_REPS",
    "MAX_REPS",
    "Form1",
    "Form2",
    "Join",
    "Representative",
    "RepresentativeType",
    "RingBlock",
    "body_of",
    "decode_alive",
    "decode_refer",
    "encode_alive",
    "encode_hurry",
    "encode_refer",
    "placeholder_memb_id",
]


def body_of(data: bytes, header: PacketHeader, dialect: Dialect = SPREAD_4_4) -> bytes:
    """The bytes behind a packet header.

    Raises :class:`ProtocolError` when they are not as many as it says.
    """
    body = data[dialect.packet.size :]
    if len(body) != header.data_len or len(data) < dialect.packet.size:
        raise ProtocolError(f"packet body of {len(body)} bytes says it has {header.data_len}")
    return body


def _read_members(body: bytes, order: ByteOrder) -> tuple[tuple[ProcId, ...], int]:
    """Members of an ALIVE or JOIN, and the offset behind them."""
    num_members, num_pending = read_counts(body, 0, order)
    if num_pending:
        raise ProtocolError(f"{num_pending} pending members outside a form token")
    if not 0 <= num_members <= MAX_PROCS_RING:
        raise ProtocolError(f"list of {num_members} members, a ring has at most {MAX_PROCS_RING}")
    return read_ids(body, 4, num_members, order), 4 + 4 * num_members


def encode_alive(
    me: ProcId,
    conf_hash: int,
    members: Sequence[ProcId],
    byteorder: ByteOrder = "<",
    dialect: Dialect = SPREAD_4_4,
) -> bytes:
    """A complete ALIVE: the ids heard in the segment, the sender first.

    Raises :class:`ProtocolError` when a value does not fit its field.
    """
    body = write_counts(len(members), 0, byteorder) + write_ids(members, byteorder)
    return encode_bare(
        datagram.ALIVE, me, me, NO_MEMBERSHIP, conf_hash, body, 0, byteorder, dialect
    )


def decode_alive(
    data: bytes, header: PacketHeader, dialect: Dialect = SPREAD_4_4
) -> tuple[ProcId, ...]:
    """The list in an ALIVE.  Raises :class:`ProtocolError`.

    Upstream receivers read only ``header.proc_id``, so a receiver that fails here
    may still take the sender for alive.
    """
    body = body_of(data, header, dialect)
    members, end = _read_members(body, header.byteorder)
    if end != len(body):
        raise ProtocolError(f"{len(body) - end} bytes behind the list of an ALIVE")
    return members


@frozen
class Join:
    """What a JOIN says."""

    members: tuple[ProcId, ...]
    """Of the sender's segment, itself first; empty from the leader of a ring."""
    reps: tuple[Representative, ...]
    """The sender itself, then those it knows of."""
    rep_index: int = 0
    """Meaningless to receivers; upstream lets an old value show."""

    def encode(
        self,
        me: ProcId,
        conf_hash: int,
        byteorder: ByteOrder = "<",
        dialect: Dialect = SPREAD_4_4,
    ) -> bytes:
        """The complete packet.  Raises :class:`ProtocolError` when something does not fit."""
        body = b"".join(
            [
                write_counts(len(self.members), 0, byteorder),
                write_ids(self.members, byteorder),
                write_counts(len(self.reps), self.rep_index, byteorder),
                write_reps(self.reps, byteorder),
            ]
        )
        return encode_bare(
            datagram.JOIN, me, me, NO_MEMBERSHIP, conf_hash, body, 0, byteorder, dialect
        )

    @classmethod
    def decode(cls, data: bytes, header: PacketHeader, dialect: Dialect = SPREAD_4_4) -> Join:
        """Read a JOIN.

        Raises :class:`ProtocolError` for counts that are negative or do not make up
        data_len exactly, more than 128 members or 25 representatives, pending
        members, and a representative of a type that does not exist.  Whether ids
        are configured is the caller's to check.
        """
        body = body_of(data, header, dialect)
        members, at = _read_members(body, header.byteorder)
        num_reps, rep_index = read_counts(body, at, header.byteorder)
        if not 0 <= num_reps <= MAX_REPS:
            raise ProtocolError(f"list of {num_reps} representatives, at most {MAX_REPS}")
        at += 4
        reps = read_reps(body, at, num_reps, header.byteorder)
        if at + REP_SIZE * num_reps != len(body):
            raise ProtocolError("bytes behind the representatives of a JOIN")
        return cls(members, reps, rep_index)


def encode_refer(
    me: ProcId,
    conf_hash: int,
    rep: Representative,
    byteorder: ByteOrder = "<",
    dialect: Dialect = SPREAD_4_4,
) -> bytes:
    """A complete REFER: talk to ``rep`` instead of me; its segment is not told."""
    memb_id = MembershipId(rep.proc_id, int(rep.type))
    return encode_bare(datagram.REFER, me, me, memb_id, conf_hash, b"", 0, byteorder, dialect)


def decode_refer(header: PacketHeader) -> Representative:
    """The representative that a REFER names, its segment unknown (-1).

    Raises :class:`ProtocolError` for a type that does not exist.
    """
    return Representative(header.memb_id[0], representative_type(header.memb_id[1]), -1)


def encode_hurry(
    me: ProcId, conf_hash: int, byteorder: ByteOrder = "<", dialect: Dialect = SPREAD_4_4
) -> bytes:
    """A complete HURRY: asks the leader to release an idle token."""
    return encode_bare(datagram.HURRY, me, me, NO_MEMBERSHIP, conf_hash, b"", 0, byteorder, dialect)
