"""Form tokens: FORM1 collects what old rings have, FORM2 tells all the result.

Source: ``docs/protocol/daemon-datagrams.md`` section 8.  The checks are those of
sections 8.4 and 14: upstream trusts most of these counts and dies of wrong ones.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from txspread.wire import datagram
from txspread.wire.byteorder import ByteOrder
from txspread.wire.constants import MAX_PROCS_RING
from txspread.wire.derive import Record
from txspread.wire.dialect import SPREAD_4_4, Dialect
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.layouts import membership as layouts
from txspread.wire.member_lists import (
    COUNTS_SIZE,
    MAX_REPS,
    REP_SIZE,
    Representative,
    read_counts,
    read_ids,
    read_reps,
    write_counts,
    write_ids,
    write_reps,
)
from txspread.wire.token import TokenHeader

_FUTURE: Final = Record(layouts.FUTURE_MEMB_ID)
_NUM_RINGS: Final = Record(layouts.NUM_RINGS)
_RING_START: Final = Record(layouts.RING_START)

MAX_FORM_REPS: Final = 20
"""Most old rings on a form token."""
MAX_SEQ_GAP: Final = 1600
"""Most holes of a ring that a FORM2 may have; a FORM1 may have more."""
MEMBERS_SIZE: Final = COUNTS_SIZE + 4 * MAX_PROCS_RING
"""516 bytes: the block of members."""
REPS_SIZE: Final = COUNTS_SIZE + REP_SIZE * MAX_REPS
"""204 bytes: the block of representatives."""


@frozen
class RingBlock:
    """One old ring on a form token: 28 bytes and 4 for each hole and commit id."""

    memb_id: MembershipId
    trans_time: int
    """Time of the transitional membership's id; 0 until FORM2 has passed one of it."""
    aru: int
    highest_seq: int
    holes: tuple[int, ...]
    """Numbers that no visited member of that ring has."""
    commit: tuple[ProcId, ...]
    """Commit set, the members visited so far first."""
    num_trans: int
    """How many of :attr:`commit` are members visited so far."""

    @property
    def size(self) -> int:
        """Bytes on the token."""
        return _RING_START.size + 4 * len(self.holes) + 4 * len(self.commit)


@frozen(kw_only=True)
class Form1:
    """A FORM1 token."""

    transmiter_id: ProcId
    """Sender of this hop."""
    proc_id: ProcId
    attempt: MembershipId
    """Id of this forming attempt; a FORM2 made of this token carries it too."""
    seq: int
    """Largest highest_seq met so far + 3333."""
    conf_hash: int
    members: tuple[ProcId, ...]
    """Visited, in the order of visiting."""
    pending: tuple[ProcId, ...]
    """Of the present group, still to visit."""
    reps: tuple[Representative, ...]
    rep_index: int
    """The next of :attr:`reps` to visit; as many as there are when all were."""
    rings: tuple[RingBlock, ...]
    unused_members: bytes = b""
    """Old bytes in the rest of the array of members; zeros may be left out."""
    unused_reps: bytes = b""
    """Old bytes in the rest of the array of representatives."""
    byteorder: ByteOrder = "<"
    """As read; :meth:`encode` goes by its argument."""

    @classmethod
    def decode(cls, data: bytes, dialect: Dialect = SPREAD_4_4) -> Form1:
        """Read a FORM1.

        Raises :class:`ProtocolError` when the datagram is not header + rtr_len
        bytes, has no FORM1 bit, when counts are negative or above 128 members, 25
        representatives, 20 rings, when rep_index is outside the list, a ring has
        not 1 <= num_trans <= num_commit <= 128, or the blocks do not fill the
        datagram exactly.
        """
        header, body = _split(data, datagram.FORM1, dialect)
        order = header.byteorder
        members, pending, unused = _read_member_array(body, order)
        num_reps, rep_index = read_counts(body, MEMBERS_SIZE, order)
        if not 0 <= rep_index <= num_reps <= MAX_REPS:
            raise ProtocolError(f"representative {rep_index} of {num_reps}, at most {MAX_REPS}")
        at = MEMBERS_SIZE + COUNTS_SIZE
        end = MEMBERS_SIZE + REPS_SIZE
        reps = read_reps(body, at, num_reps, order)
        unused_reps = body[at + REP_SIZE * num_reps : end]
        return cls(
            transmiter_id=header.transmiter_id,
            proc_id=header.proc_id,
            attempt=header.memb_id,
            seq=header.seq,
            conf_hash=header.conf_hash,
            members=members,
            pending=pending,
            reps=reps,
            rep_index=rep_index,
            rings=_read_rings(body, end, order, None),
            unused_members=unused,
            unused_reps=unused_reps if unused_reps.strip(b"\0") else b"",
            byteorder=order,
        )

    def encode(self, byteorder: ByteOrder = "<", dialect: Dialect = SPREAD_4_4) -> bytes:
        """The complete datagram.

        Raises :class:`ProtocolError` when it has more members, representatives,
        rings or bytes than a token takes, or a value does not fit its field.
        """
        if len(self.reps) > MAX_REPS:
            raise ProtocolError(f"{len(self.reps)} representatives, at most {MAX_REPS}")
        room = REP_SIZE * (MAX_REPS - len(self.reps))
        body = b"".join(
            [
                _write_member_array(self.members, self.pending, self.unused_members, byteorder),
                write_counts(len(self.reps), self.rep_index, byteorder),
                write_reps(self.reps, byteorder),
                self.unused_reps[:room].ljust(room, b"\0"),
                _write_rings(self.rings, byteorder),
            ]
        )
        return _join(self, datagram.FORM1, body, byteorder, dialect)


@frozen(kw_only=True)
class Form2:
    """A FORM2 token."""

    transmiter_id: ProcId
    proc_id: ProcId
    attempt: MembershipId
    """Id of the FORM1 that this comes from."""
    seq: int
    conf_hash: int
    members: tuple[ProcId, ...]
    """Members of the new ring that have read this token, in configuration order."""
    pending: tuple[ProcId, ...]
    """Those that have not; the receiver is the first of them."""
    future_memb_id: MembershipId
    """Id of the new ring; meaningless while :attr:`members` is empty."""
    rings: tuple[RingBlock, ...]
    unused_members: bytes = b""
    byteorder: ByteOrder = "<"
    """As read; :meth:`encode` goes by its argument."""

    @classmethod
    def decode(cls, data: bytes, dialect: Dialect = SPREAD_4_4) -> Form2:
        """Read a FORM2.

        Raises :class:`ProtocolError` for what :meth:`Form1.decode` raises for, no
        pending member, and a ring with more than 1600 holes.  That ids are
        configured, and how large a ring may be, is the caller's to check.
        """
        header, body = _split(data, datagram.FORM2, dialect)
        order = header.byteorder
        members, pending, unused = _read_member_array(body, order)
        if not pending:
            raise ProtocolError("FORM2 that nobody is left to read")
        if len(body) < MEMBERS_SIZE + _FUTURE.size:
            raise ProtocolError("FORM2 that ends before the id of the new ring")
        proc_id, time = _FUTURE.in_order(order).unpack_from(body, MEMBERS_SIZE)
        return cls(
            transmiter_id=header.transmiter_id,
            proc_id=header.proc_id,
            attempt=header.memb_id,
            seq=header.seq,
            conf_hash=header.conf_hash,
            members=members,
            pending=pending,
            future_memb_id=MembershipId(proc_id, time),
            rings=_read_rings(body, MEMBERS_SIZE + _FUTURE.size, order, MAX_SEQ_GAP),
            unused_members=unused,
            byteorder=order,
        )

    def encode(self, byteorder: ByteOrder = "<", dialect: Dialect = SPREAD_4_4) -> bytes:
        """The complete datagram, with the exact rtr_len that upstream insists on.

        Raises :class:`ProtocolError` when it has more members, rings or bytes than
        a token takes, or a value does not fit its field.
        """
        try:
            future = _FUTURE.in_order(byteorder).pack(*self.future_memb_id)
        except struct.error as error:
            raise ProtocolError(str(error)) from None
        body = b"".join(
            [
                _write_member_array(self.members, self.pending, self.unused_members, byteorder),
                future,
                _write_rings(self.rings, byteorder),
            ]
        )
        return _join(self, datagram.FORM2, body, byteorder, dialect)


def placeholder_memb_id(form1: Form1) -> MembershipId:
    """What upstream has in FORM2's ring id before the future leader writes it.

    The first 8 bytes of the FORM1's block of representatives; nobody reads them.
    Source: ``docs/protocol/daemon-datagrams.md`` section 8.2.
    """
    first = form1.reps[:1]
    remains = write_counts(len(form1.reps), form1.rep_index, "<") + write_ids(
        [rep.proc_id for rep in first] or [0], "<"
    )
    proc_id, time = _FUTURE.little.unpack(remains)
    return MembershipId(proc_id, time)


def _split(data: bytes, bit: int, dialect: Dialect) -> tuple[TokenHeader, bytes]:
    header = TokenHeader.decode(data, dialect)
    body = data[dialect.token.size :]
    if len(body) != header.rtr_len:
        raise ProtocolError(f"token body of {len(body)} bytes says it has {header.rtr_len}")
    if not header.type & bit or (bit == datagram.FORM2 and header.type & datagram.FORM1):
        # with both bits set it is a FORM1
        raise ProtocolError(f"token of type {header.type:#x} where {bit:#x} is needed")
    return header, body


def _join(
    form: Form1 | Form2, bit: int, body: bytes, byteorder: ByteOrder, dialect: Dialect
) -> bytes:
    if len(body) > dialect.max_token_body:
        raise ProtocolError(f"token body of {len(body)} bytes, {dialect.max_token_body} fit")
    header = TokenHeader(
        bit,
        form.transmiter_id,
        form.proc_id,
        form.attempt,
        form.seq,
        0,
        0,
        0,
        len(body),
        form.conf_hash,
        byteorder,
    )
    return header.encode(dialect) + body


def _read_member_array(
    body: bytes, order: ByteOrder
) -> tuple[tuple[ProcId, ...], tuple[ProcId, ...], bytes]:
    num_members, num_pending = read_counts(body, 0, order)
    total = num_members + num_pending
    if num_members < 0 or num_pending < 0 or total > MAX_PROCS_RING:
        raise ProtocolError(f"{num_members} members and {num_pending} pending, at most 128")
    if len(body) < MEMBERS_SIZE:
        raise ProtocolError("form token that ends inside its members")
    ids = read_ids(body, COUNTS_SIZE, total, order)
    unused = body[COUNTS_SIZE + 4 * total : MEMBERS_SIZE]
    return ids[:num_members], ids[num_members:], unused if unused.strip(b"\0") else b""


def _write_member_array(
    members: Sequence[ProcId], pending: Sequence[ProcId], unused: bytes, order: ByteOrder
) -> bytes:
    total = len(members) + len(pending)
    if total > MAX_PROCS_RING:
        raise ProtocolError(f"{total} members, at most {MAX_PROCS_RING}")
    room = 4 * (MAX_PROCS_RING - total)
    return b"".join(
        [
            write_counts(len(members), len(pending), order),
            write_ids(members, order),
            write_ids(pending, order),
            unused[:room].ljust(room, b"\0"),
        ]
    )


def _read_rings(
    body: bytes, at: int, order: ByteOrder, max_holes: int | None
) -> tuple[RingBlock, ...]:
    end = len(body)
    if at + _NUM_RINGS.size > end:
        raise ProtocolError("form token that ends before its rings")
    (num_rings,) = _NUM_RINGS.in_order(order).unpack_from(body, at)
    at += _NUM_RINGS.size
    if not 1 <= num_rings <= MAX_FORM_REPS:
        raise ProtocolError(f"{num_rings} old rings, at least 1 and at most {MAX_FORM_REPS}")
    start = _RING_START.in_order(order)
    rings: list[RingBlock] = []
    for _ in range(num_rings):
        if at + start.size > end:
            raise ProtocolError("form token that ends inside a ring block")
        proc_id, time, trans_time, aru, highest_seq, num_holes, num_commit, num_trans = (
            start.unpack_from(body, at)
        )
        at += start.size
        if not 1 <= num_trans <= num_commit <= MAX_PROCS_RING:
            raise ProtocolError(f"commit set of {num_commit}, {num_trans} of them transitional")
        if num_holes < 0 or (max_holes is not None and num_holes > max_holes):
            raise ProtocolError(f"{num_holes} holes in an old ring")
        if at + 4 * num_holes + 4 * num_commit > end:
            raise ProtocolError("form token that ends inside a ring block")
        holes = struct.unpack_from(f"{order}{num_holes}i", body, at)
        at += 4 * num_holes
        commit = read_ids(body, at, num_commit, order)
        at += 4 * num_commit
        rings.append(
            RingBlock(
                MembershipId(proc_id, time),
                trans_time,
                aru,
                highest_seq,
                holes,
                commit,
                num_trans,
            )
        )
    if at != end:
        raise ProtocolError(f"{end - at} bytes behind the last ring block")
    return tuple(rings)


def _write_rings(rings: Sequence[RingBlock], order: ByteOrder) -> bytes:
    if not 1 <= len(rings) <= MAX_FORM_REPS:
        raise ProtocolError(f"{len(rings)} old rings, at least 1 and at most {MAX_FORM_REPS}")
    start = _RING_START.in_order(order)
    try:
        parts = [_NUM_RINGS.in_order(order).pack(len(rings))]
        for ring in rings:
            parts.append(
                start.pack(
                    ring.memb_id.proc_id,
                    ring.memb_id.time,
                    ring.trans_time,
                    ring.aru,
                    ring.highest_seq,
                    len(ring.holes),
                    len(ring.commit),
                    ring.num_trans,
                )
            )
            parts.append(struct.pack(f"{order}{len(ring.holes)}i", *ring.holes))
            parts.append(write_ids(ring.commit, order))
    except struct.error as error:
        raise ProtocolError(str(error)) from None
    return b"".join(parts)
