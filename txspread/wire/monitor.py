"""What a monitor and a daemon send each other.

Source: ``docs/protocol/daemon-datagrams.md`` section 10,
``docs/protocol/monitoring-and-tools.md`` section 1.  The dialect tells the size of
the header and the bodies, the hash and the mark of control packets.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from attrs import asdict, fields, frozen

from txspread.wire import datagram
from txspread.wire.byteorder import ByteOrder
from txspread.wire.constants import MAX_PROCS_RING
from txspread.wire.dialect import SPREAD_4_4, Dialect
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.packet import NO_MEMBERSHIP, PacketHeader, encode_bare

TERMINATE: Final = -1
"""Component number that tells a daemon to end."""
LEAVE_WINDOW: Final = -1
"""Window that is to stay as it is."""


def _wrap(value: int, bits: int) -> int:
    """A counter as a signed number of that many bits."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


@frozen(kw_only=True)
class Status:
    """The body of a status reply.

    Counters are 32-bit up to :attr:`message_delivered`, 16-bit after it; they wrap
    when written.  Ids are unsigned.
    """

    sec: int = 0
    """Seconds since the daemon started."""
    state: int = 0
    """1 OP, 2 SEG, 3 REPRESENTED, 4 GATHER, 5 FORM, 6 EVS."""
    gstate: int = 0
    """1 normal, 2 transitional, 3 gathering, 4 both."""
    packet_sent: int = 0
    packet_recv: int = 0
    packet_delivered: int = 0
    retrans: int = 0
    u_retrans: int = 0
    s_retrans: int = 0
    b_retrans: int = 0
    aru: int = 0
    my_aru: int = 0
    highest_seq: int = 0
    token_hurry: int = 0
    token_rounds: int = 0
    my_id: ProcId = 0
    leader_id: ProcId = 0
    message_delivered: int = 0
    membership_changes: int = 0
    num_procs: int = 0
    num_segments: int = 0
    window: int = 0
    personal_window: int = 0
    accelerated_ring: int = 0
    """0 or 1; 4.3 has neither this nor the next."""
    accelerated_window: int = 0
    num_sessions: int = 0
    num_groups: int = 0
    major_version: int = 4
    minor_version: int = 4
    patch_version: int = 0

    def encode_body(self, byteorder: ByteOrder = "<", dialect: Dialect = SPREAD_4_4) -> bytes:
        """96 bytes (92 in 4.3)."""
        values: dict[str, int] = {}
        for name, value in asdict(self).items():
            if name in _IDS:
                values[name] = value & 0xFFFFFFFF
            else:
                values[name] = _wrap(value, 16 if name in _SHORT else 32)
        return dialect.status.pack(values, byteorder)

    @classmethod
    def decode_body(
        cls, body: bytes, byteorder: ByteOrder, dialect: Dialect = SPREAD_4_4
    ) -> Status:
        """Read a body.  Raises :class:`ProtocolError` unless it is 96 bytes (92 in 4.3)."""
        if len(body) != dialect.status.size:
            raise ProtocolError(f"status of {len(body)} bytes, it has {dialect.status.size}")
        return cls(**dialect.status.unpack(body, 0, byteorder))


_IDS: Final = frozenset(("my_id", "leader_id"))
_NAMES: Final = tuple(field.name for field in fields(Status))
_SHORT: Final = frozenset(_NAMES[_NAMES.index("membership_changes") :])


def encode_status_reply(
    status: Status, me: ProcId, byteorder: ByteOrder = "<", dialect: Dialect = SPREAD_4_4
) -> bytes:
    """A complete status reply; of its header only type, proc_id and data_len are set."""
    body = status.encode_body(byteorder, dialect)
    return encode_bare(datagram.STATUS, 0, me, NO_MEMBERSHIP, 0, body, 0, byteorder, dialect)


def decode_status_reply(data: bytes, dialect: Dialect = SPREAD_4_4) -> tuple[PacketHeader, Status]:
    """Read a status reply; ``header.proc_id`` is the daemon.

    Raises :class:`ProtocolError` for anything else, a request included.
    """
    header, body = read_packet(data, dialect)
    if not header.type & datagram.STATUS:
        raise ProtocolError(f"packet of type {header.type:#x} where a status is needed")
    return header, Status.decode_body(body, header.byteorder, dialect)


def encode_request(
    type: int,
    monitor: ProcId,
    reply_port: int,
    body: bytes = b"",
    conf_hash: int = 0,
    byteorder: ByteOrder = "<",
    dialect: Dialect = SPREAD_4_4,
) -> bytes:
    """A complete request of one of the four control types.

    ``monitor`` is the id of the daemon at whose address the monitor listens on UDP
    port ``reply_port``.  ``conf_hash`` goes out only in a dialect without a hash of
    its own for monitors (5.0), where the monitor also names itself as transmitter.
    Raises :class:`ProtocolError` when something does not fit.
    """
    if dialect.monitor_hash is None:
        transmiter_id, hash_ = monitor, conf_hash
    else:
        transmiter_id, hash_ = 0, dialect.monitor_hash
    memb_id = MembershipId(dialect.monitor_magic, 0)
    return encode_bare(
        type, transmiter_id, monitor, memb_id, hash_, body, reply_port, byteorder, dialect
    )


def encode_status_request(
    monitor: ProcId,
    reply_port: int,
    conf_hash: int = 0,
    byteorder: ByteOrder = "<",
    dialect: Dialect = SPREAD_4_4,
) -> bytes:
    """Ask for the status.  See :func:`encode_request`."""
    return encode_request(datagram.STATUS, monitor, reply_port, b"", conf_hash, byteorder, dialect)


def encode_reload(
    monitor: ProcId,
    reply_port: int,
    conf_hash: int = 0,
    byteorder: ByteOrder = "<",
    dialect: Dialect = SPREAD_4_4,
) -> bytes:
    """Have the configuration file read again.  See :func:`encode_request`."""
    return encode_request(datagram.RELOAD, monitor, reply_port, b"", conf_hash, byteorder, dialect)


def encode_partition(
    components: Sequence[int],
    monitor: ProcId,
    reply_port: int,
    conf_hash: int = 0,
    byteorder: ByteOrder = "<",
    dialect: Dialect = SPREAD_4_4,
) -> bytes:
    """Emulate a partition, or end daemons (:data:`TERMINATE`).

    ``components`` has a number for each daemon in configuration order.  Raises
    :class:`ProtocolError` for more than 128, or numbers beyond 16 bits.
    """
    body = _write_shorts(components, MAX_PROCS_RING, byteorder)
    return encode_request(
        datagram.PARTITION, monitor, reply_port, body, conf_hash, byteorder, dialect
    )


def decode_partition(body: bytes, daemons: int, byteorder: ByteOrder) -> tuple[int, ...]:
    """Component numbers of the ``daemons`` of the configuration, in its order.

    Raises :class:`ProtocolError` for a body with fewer; upstream then takes what
    an earlier packet has left in its buffer.
    """
    return _read_shorts(body, daemons, byteorder)


@frozen
class FlowControl:
    """Windows to set; :data:`LEAVE_WINDOW` where nothing is to change."""

    window: int
    """Of the whole ring."""
    personal_windows: tuple[int, ...]
    """Of each daemon, in configuration order."""
    accelerated_windows: tuple[int, ...]
    """The same; all 0 in dialect 4.3, which has none."""

    def encode_body(self, byteorder: ByteOrder = "<", dialect: Dialect = SPREAD_4_4) -> bytes:
        """512 bytes (256 in 4.3).

        Raises :class:`ProtocolError` for more than 128 daemons.  With exactly 128
        there is no room for the ring's window; it is left out.
        """
        columns = dialect.flow_control_columns
        values: list[int] = []
        for personal, accelerated in zip(
            self.personal_windows, self.accelerated_windows, strict=True
        ):
            values.append(personal)
            if columns == 2:
                values.append(accelerated)
        if len(values) < columns * MAX_PROCS_RING:
            values.append(self.window)
        return _write_shorts(values, columns * MAX_PROCS_RING, byteorder)

    @classmethod
    def decode_body(
        cls, body: bytes, daemons: int, byteorder: ByteOrder, dialect: Dialect = SPREAD_4_4
    ) -> FlowControl:
        """The windows for the ``daemons`` of the configuration.

        Raises :class:`ProtocolError` for a body with fewer values, which upstream
        fills up from its buffer.  With 128 daemons the ring's window would lie
        behind the array: it counts as :data:`LEAVE_WINDOW`.
        """
        columns = dialect.flow_control_columns
        at = columns * daemons
        has_window = daemons < MAX_PROCS_RING
        values = _read_shorts(body, at + (1 if has_window else 0), byteorder)
        personal = values[0:at:columns]
        accelerated = values[1:at:columns] if columns == 2 else (0,) * daemons
        return cls(values[at] if has_window else LEAVE_WINDOW, personal, accelerated)


def encode_flow_control(
    windows: FlowControl,
    monitor: ProcId,
    reply_port: int,
    conf_hash: int = 0,
    byteorder: ByteOrder = "<",
    dialect: Dialect = SPREAD_4_4,
) -> bytes:
    """Change windows.  See :func:`encode_request`."""
    body = windows.encode_body(byteorder, dialect)
    return encode_request(datagram.FC, monitor, reply_port, body, conf_hash, byteorder, dialect)


def read_packet(data: bytes, dialect: Dialect = SPREAD_4_4) -> tuple[PacketHeader, bytes]:
    """Header and body of a datagram that is exactly as long as it says.

    Raises :class:`ProtocolError` otherwise.
    """
    header = PacketHeader.decode(data, dialect)
    body = data[dialect.packet.size :]
    if len(body) != header.data_len:
        raise ProtocolError(f"packet body of {len(body)} bytes says it has {header.data_len}")
    return header, body


def _write_shorts(values: Sequence[int], room: int, order: ByteOrder) -> bytes:
    if len(values) > room:
        raise ProtocolError(f"{len(values)} values, {room} fit")
    try:
        return struct.pack(f"{order}{len(values)}h", *values).ljust(2 * room, b"\0")
    except struct.error as error:
        raise ProtocolError(str(error)) from None


def _read_shorts(body: bytes, count: int, order: ByteOrder) -> tuple[int, ...]:
    if count < 0 or len(body) < 2 * count:
        raise ProtocolError(f"body of {len(body)} bytes, {count} values are needed")
    return struct.unpack_from(f"{order}{count}h", body)
