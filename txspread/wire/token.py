"""Tokens: the datagrams of the token port.

Every token has a header of 40 bytes and ``rtr_len`` bytes behind it.  Here are
the header, which regular and form tokens share, and the regular token; form
tokens are in :mod:`txspread.wire.membership`.
Source: ``docs/protocol/daemon-datagrams.md`` section 7.
"""

from __future__ import annotations

import struct
from typing import Final

from attrs import define, frozen

from txspread.wire.byteorder import ByteOrder
from txspread.wire.constants import ENDIAN_MARKER
from txspread.wire.datagram import ARQ, ARQ_SHIFT, FORM, RETRANS, RETRANS_SHIFT
from txspread.wire.derive import derive
from txspread.wire.dialect import SPREAD_4_4, Dialect, header_order
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.layouts import token as layouts

_HEADER_LE: Final = derive(layouts.TOKEN_HEADER_4_4, "<")
_HEADER_BE: Final = derive(layouts.TOKEN_HEADER_4_4, ">")
_REQUEST_LE: Final = derive(layouts.REQUEST_HEADER, "<")
_REQUEST_BE: Final = derive(layouts.REQUEST_HEADER, ">")
_REQUEST_SIZE: Final = _REQUEST_LE.size

TOKEN_HEADER_SIZE: Final = _HEADER_LE.size
"""40 bytes."""
MAX_TOKEN_BODY: Final = 32767
"""Most bytes behind the header: ``rtr_len`` is signed."""

NOBODY: Final = 0xFFFFFFFF
"""No daemon, in ``aru_last_id``; several daemons, in a request."""

_new_tuple: Final = tuple.__new__
"""Makes a named tuple at a third of what calling its class costs."""
_NOT_MARKER: Final = 0xFFFFFFFF & ~ENDIAN_MARKER


@define
class TokenHeader:
    """The header of any token, as it was read."""

    type: int
    """Type word with its marker bits."""
    transmiter_id: ProcId
    """Sender of this hop."""
    proc_id: ProcId
    """Daemon that handled the token last."""
    memb_id: MembershipId
    """Ring; on form tokens the id of the attempt."""
    seq: int
    aru: int
    aru_last_id: ProcId
    flow_control: int
    rtr_len: int
    """Bytes behind the header as written; the receiver compares."""
    conf_hash: int
    byteorder: ByteOrder = "<"

    @classmethod
    def decode(cls, data: bytes, dialect: Dialect = SPREAD_4_4) -> TokenHeader:
        """Read the header of a datagram.

        Raises :class:`ProtocolError` for a datagram shorter than the header (40
        bytes in 4.4) or half a marker; no value is checked.
        """
        order = header_order(data, dialect.token.size)
        values = dialect.token.unpack(data, order)
        memb_id = MembershipId(values[3], values[4])
        return cls(
            values[0],
            values[1],
            values[2],
            memb_id,
            values[5],
            values[6],
            values[7],
            values[8],
            values[9],
            values[10],
            order,
        )

    def encode(self, dialect: Dialect = SPREAD_4_4) -> bytes:
        """The header alone, in its own byte order; the marker bits follow it.

        Raises :class:`ProtocolError` when a value does not fit its field.
        """
        little = self.byteorder == "<"
        values = (
            self.type | ENDIAN_MARKER if little else self.type & _NOT_MARKER,
            self.transmiter_id,
            self.proc_id,
            *self.memb_id,
            self.seq,
            self.aru,
            self.aru_last_id,
            self.flow_control,
            self.rtr_len,
            self.conf_hash,
        )
        try:
            return dialect.token.pack(values, self.byteorder)
        except struct.error as error:
            raise ProtocolError(str(error)) from None


@frozen
class RetransmissionRequest:
    """What one ring's members miss, as far as the token has asked them."""

    memb_id: MembershipId
    """Ring in which the numbers count: during EVS the old one."""
    proc_id: ProcId
    """The one daemon that misses them all; :data:`NOBODY` if several do."""
    seg_index: int
    """Index of the segment of all daemons that miss them; -1 if several."""
    seqs: tuple[int, ...]
    """Ascending."""


class Token:  # noqa: PLW1641 - it changes, so it has no hash
    """A regular token."""

    __slots__ = (
        "aru",
        "aru_last_id",
        "conf_hash",
        "flow_control",
        "memb_id",
        "proc_id",
        "requests",
        "seq",
        "transmiter_id",
        "type",
    )

    def __init__(
        self,
        type: int,
        transmiter_id: ProcId,
        proc_id: ProcId,
        memb_id: MembershipId,
        seq: int,
        aru: int,
        aru_last_id: ProcId,
        flow_control: int,
        conf_hash: int,
        requests: tuple[RetransmissionRequest, ...] = (),
    ) -> None:
        self.type = type
        """ARQ and RETRANS nibbles; marker bits as read, ignored when written."""
        self.transmiter_id = transmiter_id
        self.proc_id = proc_id
        self.memb_id = memb_id
        self.seq = seq
        """Highest number assigned; 0 during EVS."""
        self.aru = aru
        self.aru_last_id = aru_last_id
        """Who last lowered or set the aru; :data:`NOBODY`."""
        self.flow_control = flow_control
        """Packets that the ring sent in the last round, retransmissions included."""
        self.conf_hash = conf_hash
        self.requests = requests

    def _values(self) -> tuple[object, ...]:
        return (
            self.type,
            self.transmiter_id,
            self.proc_id,
            self.memb_id,
            self.seq,
            self.aru,
            self.aru_last_id,
            self.flow_control,
            self.conf_hash,
            self.requests,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Token):
            return NotImplemented
        return self._values() == other._values()

    def __repr__(self) -> str:
        return f"Token{self._values()!r}"

    @property
    def arq(self) -> int:
        """Round number, modulo 16."""
        return (self.type & ARQ) >> ARQ_SHIFT

    @property
    def retrans(self) -> int:
        """How often the leader has sent this token again, modulo 16."""
        return (self.type & RETRANS) >> RETRANS_SHIFT

    @classmethod
    def decode(cls, data: bytes, dialect: Dialect = SPREAD_4_4) -> Token:
        """Read a regular token.

        Raises :class:`ProtocolError` for a datagram that is not header + rtr_len
        bytes, a form token, a request with a negative count, or requests that do
        not fill the body exactly.  Segment indexes are not checked against any
        configuration, numbers against no ring.
        """
        if dialect is not SPREAD_4_4:
            header = TokenHeader.decode(data, dialect)
            return cls._from_header(header, data[dialect.token.size :])
        if len(data) < 40:
            raise ProtocolError(f"token of {len(data)} bytes, its header needs 40")
        marker = (data[0] & 0x80) + (data[3] & 0x80)
        if marker == 0x100:
            layout = _HEADER_LE
        elif marker:
            raise ProtocolError("token type with only one of its two byte-order bits")
        else:
            layout = _HEADER_BE
        (
            type_,
            transmiter_id,
            proc_id,
            memb_proc,
            memb_time,
            seq,
            aru,
            aru_last_id,
            flow_control,
            rtr_len,
            conf_hash,
        ) = layout.unpack_from(data)
        if len(data) != 40 + rtr_len:
            raise ProtocolError(f"token of {len(data)} bytes says it has {40 + rtr_len}")
        if type_ & FORM:
            raise ProtocolError("form token where a regular one is needed")
        return cls(
            type_,
            transmiter_id,
            proc_id,
            _new_tuple(MembershipId, (memb_proc, memb_time)),
            seq,
            aru,
            aru_last_id,
            flow_control,
            conf_hash,
            _read_requests(data, 40, "<" if marker else ">") if rtr_len else (),
        )

    @classmethod
    def _from_header(cls, header: TokenHeader, body: bytes) -> Token:
        if len(body) != header.rtr_len:
            raise ProtocolError(f"token body of {len(body)} bytes says it has {header.rtr_len}")
        if header.type & FORM:
            raise ProtocolError("form token where a regular one is needed")
        return cls(
            header.type,
            header.transmiter_id,
            header.proc_id,
            header.memb_id,
            header.seq,
            header.aru,
            header.aru_last_id,
            header.flow_control,
            header.conf_hash,
            _read_requests(body, 0, header.byteorder),
        )

    def encode(self, byteorder: ByteOrder = "<", dialect: Dialect = SPREAD_4_4) -> bytes:
        """The complete datagram.

        Raises :class:`ProtocolError` when the requests need more bytes than the
        dialect sends (32767 in 4.4), or a value does not fit its field.
        """
        body = write_requests(self.requests, byteorder) if self.requests else b""
        if len(body) > dialect.max_token_body:
            raise ProtocolError(f"token body of {len(body)} bytes, {dialect.max_token_body} fit")
        if dialect is not SPREAD_4_4:
            header = TokenHeader(
                self.type,
                self.transmiter_id,
                self.proc_id,
                self.memb_id,
                self.seq,
                self.aru,
                self.aru_last_id,
                self.flow_control,
                len(body),
                self.conf_hash,
                byteorder,
            )
            return header.encode(dialect) + body
        little = byteorder == "<"
        try:
            start = (_HEADER_LE if little else _HEADER_BE).pack(
                self.type | ENDIAN_MARKER if little else self.type & _NOT_MARKER,
                self.transmiter_id,
                self.proc_id,
                self.memb_id[0],
                self.memb_id[1],
                self.seq,
                self.aru,
                self.aru_last_id,
                self.flow_control,
                len(body),
                self.conf_hash,
            )
        except struct.error as error:
            raise ProtocolError(str(error)) from None
        return start + body


def _read_requests(
    data: bytes, offset: int, byteorder: ByteOrder
) -> tuple[RetransmissionRequest, ...]:
    request_header = _REQUEST_LE if byteorder == "<" else _REQUEST_BE
    end = len(data)
    at = offset
    requests: list[RetransmissionRequest] = []
    while at < end:
        if at + _REQUEST_SIZE > end:
            raise ProtocolError("token ends inside a retransmission request")
        memb_proc, memb_time, proc_id, seg_index, count = request_header.unpack_from(data, at)
        at += _REQUEST_SIZE
        if count < 0 or at + 4 * count > end:
            raise ProtocolError(f"request of {count} numbers with {end - at} bytes left")
        seqs = struct.unpack_from(f"{byteorder}{count}i", data, at)
        at += 4 * count
        memb_id = MembershipId(memb_proc, memb_time)
        requests.append(RetransmissionRequest(memb_id, proc_id, seg_index, seqs))
    return tuple(requests)


def write_requests(
    requests: tuple[RetransmissionRequest, ...], byteorder: ByteOrder = "<"
) -> bytes:
    """The body of a regular token.

    Raises :class:`ProtocolError` when a value does not fit its field.
    """
    request_header = _REQUEST_LE if byteorder == "<" else _REQUEST_BE
    parts: list[bytes] = []
    try:
        for request in requests:
            count = len(request.seqs)
            parts.append(
                request_header.pack(
                    request.memb_id[0],
                    request.memb_id[1],
                    request.proc_id,
                    request.seg_index,
                    count,
                )
            )
            parts.append(struct.pack(f"{byteorder}{count}i", *request.seqs))
    except struct.error as error:
        raise ProtocolError(str(error)) from None
    return b"".join(parts)


def request_size(count: int) -> int:
    """Bytes that a request for ``count`` numbers takes on the token."""
    return _REQUEST_SIZE + 4 * count
