"""Packet headers and data packets.

Source: ``docs/protocol/daemon-datagrams.md`` sections 5.1, 6 and 17.
"""

from __future__ import annotations

from typing import Final

import construct
from construct import this

from txspread.wire.layouts.fields import Declaration, Integers, declare, membership_id


def _addressing(integers: Integers) -> list[Declaration]:
    return [
        "type" / integers.u32,
        "transmiter_id" / integers.u32,
        "proc_id" / integers.u32,
        "memb_id" / membership_id(integers),
        "seq" / integers.i32,
    ]


def _packet_header(integers: Integers, length: Declaration) -> Declaration:
    """40 bytes."""
    return construct.Struct(
        *_addressing(integers),
        "token_round" / integers.i32,
        "conf_hash" / integers.u32,
        "data_len" / length,
        "padding" / integers.i16,
        "fragment_index" / integers.i16,
        "fragment_len" / integers.i16,
    )


def _packet_header_4_4(integers: Integers) -> Declaration:
    return _packet_header(integers, integers.i16)


def _packet_header_5_0(integers: Integers) -> Declaration:
    return _packet_header(integers, integers.u16)


def _packet_header_4_3(integers: Integers) -> Declaration:
    """36 bytes."""
    return construct.Struct(
        *_addressing(integers),
        "fifo_seq" / integers.i32,
        "packet_index" / integers.i16,
        "data_len" / integers.i16,
        "conf_hash" / integers.u32,
    )


def _fragment_header(integers: Integers) -> Declaration:
    """4 bytes."""
    return construct.Struct("fragment_index" / integers.i16, "fragment_len" / integers.i16)


def _pad() -> list[Declaration]:
    """What brings the next part to a multiple of 4 from the start of the datagram."""
    return [
        "position" / construct.Tell,
        "pad" / construct.Bytes(lambda context: -context.position % 4),
    ]


def _fragments(integers: Integers, header: Declaration) -> Declaration:
    """A data packet of fragments: the first one's header is in the packet header."""
    further = construct.Struct(
        *_pad(),
        "header" / _fragment_header(integers),
        "data" / construct.Bytes(this.header.fragment_len),
    )
    return construct.Struct(
        "header" / header,
        "first" / construct.Bytes(this.header.fragment_len),
        "further" / construct.GreedyRange(further),
        construct.Terminated,
    )


def _data_packet_4_4(integers: Integers) -> Declaration:
    return _fragments(integers, _packet_header_4_4(integers))


def _data_packet_5_0(integers: Integers) -> Declaration:
    return _fragments(integers, _packet_header_5_0(integers))


def _data_packet_4_3(integers: Integers) -> Declaration:
    """A data packet of units, each with a header of its own."""
    unit = construct.Struct(
        *_pad(),
        "header" / _packet_header_4_3(integers),
        "data" / construct.Bytes(this.header.data_len),
    )
    return construct.Struct("units" / construct.GreedyRange(unit), construct.Terminated)


PACKET_HEADER_4_4: Final = declare(_packet_header_4_4)
PACKET_HEADER_5_0: Final = declare(_packet_header_5_0)
PACKET_HEADER_4_3: Final = declare(_packet_header_4_3)
FRAGMENT_HEADER: Final = declare(_fragment_header)
DATA_PACKET_4_4: Final = declare(_data_packet_4_4)
DATA_PACKET_5_0: Final = declare(_data_packet_5_0)
DATA_PACKET_4_3: Final = declare(_data_packet_4_3)
