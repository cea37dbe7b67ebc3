"""The configuration hash: the number that decides whether daemons hear each other.

Every datagram between daemons carries it; a daemon drops what carries another
one.  It is computed over a byte string made from the parsed segments, never from
the text of the file.  The string's layout belongs to a version of the protocol:
the table :data:`DIALECTS` holds the layouts of 4.3, 4.4 and 5.0.

Source: ``docs/configuration.md`` section 5; upstream
``configuration.c``, conf_hash_string, and ``config_parse.y``,
convert_segment_to_string.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

from txspread.config.model import Daemon, InterfaceType, Segment

Dialect: TypeAlias = Literal["4.3", "4.4", "5.0"]

MAX_SEGMENT_TEXT: Final = 19_986
"""Bytes of all segment lines together; one more and upstream's buffer is too small."""
VERSION_TEXT: Final = b"Version: 4.4\n"
MONITOR_HASH: Final = 1100
"""Reserved: packets of a monitor carry it."""

_MASK: Final = 0xFFFFFFFF
_TYPE_WORDS: Final = (
    (InterfaceType.ANY, b"ANY "),
    (InterfaceType.DAEMON, b"D "),
    (InterfaceType.CLIENT, b"C "),
    (InterfaceType.MONITOR, b"M "),
)


def mix(data: bytes, start: int) -> int:
    """Bob Jenkins' one-at-a-time hash over signed bytes, from a given start value.

    Bytes above 127 count as negative numbers, as a compiler with signed
    characters makes upstream compute it.
    """
    value = start & _MASK
    for byte in data:
        value = (value + (byte if byte < 128 else byte - 256)) & _MASK
        value = (value + (value << 10)) & _MASK
        value ^= value >> 6
    value = (value + (value << 3)) & _MASK
    value ^= value >> 11
    return (value + (value << 15)) & _MASK


def _hash_4(data: bytes) -> int:
    length = len(data)
    return mix(data, length ^ length << 8 ^ length << 16 ^ length << 24)


def _hash_5(data: bytes) -> int:
    data += b"\0"
    return mix(data, len(data))


def virtual_id(name: bytes) -> int:
    """The id that Spread 5 gives a daemon of this name when the file states none."""
    found = _hash_5(name)
    return (len(name) + 1) << 16 if found in {0, _MASK} else found


def _daemon_text_4(daemon: Daemon) -> bytes:
    parts = [daemon.name_bytes, b" ", daemon.address.encode("ascii"), b" "]
    for interface in daemon.interfaces:
        parts += [word for bit, word in _TYPE_WORDS if interface.types & bit]
        parts += [interface.address.encode("ascii"), b" "]
    return b"".join(parts)


def _segment_text_4(segment: Segment, port: int) -> bytes:
    daemons = b"".join(_daemon_text_4(daemon) for daemon in segment.daemons)
    return b"Segment %b:%d %b\n" % (segment.address.encode("ascii"), port, daemons)


def segment_text(segments: Sequence[Segment]) -> bytes:
    """The segment lines of the 4.4 string; at most ``MAX_SEGMENT_TEXT`` bytes are usable."""
    return b"".join(_segment_text_4(segment, segment.port) for segment in segments)


def _string_44(segments: Sequence[Segment], accelerated: bool) -> bytes:
    return segment_text(segments) + VERSION_TEXT + (b"1" if accelerated else b"0")


def _string_43(segments: Sequence[Segment], accelerated: bool) -> bytes:
    del accelerated  # 4.3 knows only the regular ring
    lines = [
        # Ports are signed 16-bit numbers in 4.3.
        _segment_text_4(segment, segment.port - 65536 if segment.port > 32767 else segment.port)
        for segment in segments
    ]
    return b"".join(lines) + b"Version: 4.3\n"


def _string_50(segments: Sequence[Segment], accelerated: bool) -> bytes:
    parts = []
    for segment in segments:
        parts.append(b"Segment: port = %d; [%b]\n" % (segment.port, segment.address.encode()))
        parts += [
            b"\t'%b' [%b] [%d]\n"
            % (daemon.name_bytes, daemon.address.encode(), virtual_id(daemon.name_bytes))
            for daemon in segment.daemons
        ]
        parts.append(b"\n")
    ring = b"Accelerated Ring" if accelerated else b"Original Ring"
    return b"".join(parts) + b"Version: 5\nProtocol: " + ring + b"\n"


DIALECTS: Final[
    dict[Dialect, tuple[Callable[[Sequence[Segment], bool], bytes], Callable[[bytes], int]]]
] = {
    "4.3": (_string_43, _hash_4),
    "4.4": (_string_44, _hash_4),
    "5.0": (_string_50, _hash_5),
}
"""For each version: how the string is made, and how it is hashed."""


def hash_string(segments: Sequence[Segment], accelerated: bool, dialect: Dialect = "4.4") -> bytes:
    """The bytes that are hashed.

    ``accelerated`` is the value in force: False when the option is not stated
    and no reload has happened.
    """
    return DIALECTS[dialect][0](segments, accelerated)


def configuration_hash(
    segments: Sequence[Segment], accelerated: bool, dialect: Dialect = "4.4"
) -> int:
    """The configuration hash, unsigned 32-bit."""
    make, function = DIALECTS[dialect]
    return function(make(segments, accelerated))
