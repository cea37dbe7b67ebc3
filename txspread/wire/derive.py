"""From a declaration to the :class:`struct.Struct` that reads the same bytes.

The hot path must not pay for ``construct``, and a format string kept by hand
beside a declaration would drift from it.  So the format is read off the
declaration, once, at import.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import construct
from attrs import field, frozen

from txspread.wire.byteorder import ByteOrder, byte_order_of
from txspread.wire.errors import ProtocolError
from txspread.wire.layouts.fields import Declaration, Layout


def flatten(declaration: Declaration, name: str = "") -> Iterator[tuple[str, str]]:
    """Name and format code of each field of a fixed-size declaration, in order.

    Fields of nested structures get dotted names.  Knows integers, byte strings of
    fixed length, structures, and arrays of fixed count; anything else is a
    :class:`TypeError`, because then no single format string says the same.
    """
    if isinstance(declaration, construct.Renamed):
        inner = f"{name}.{declaration.name}" if name else str(declaration.name)
        yield from flatten(declaration.subcon, inner)
    elif isinstance(declaration, construct.Struct):
        for part in declaration.subcons:
            yield from flatten(part, name)
    elif isinstance(declaration, construct.FormatField):
        yield name, declaration.fmtstr[-1]
    elif isinstance(declaration, construct.Bytes) and isinstance(declaration.length, int):
        yield name, f"{declaration.length}s"
    elif isinstance(declaration, construct.Array) and isinstance(declaration.count, int):
        for index in range(declaration.count):
            yield from flatten(declaration.subcon, f"{name}.{index}")
    else:
        raise TypeError(f"{name or declaration!r} has no fixed format")


def derive(
    layout: Layout, order: ByteOrder, first: int = 0, last: int | None = None
) -> struct.Struct:
    """The :class:`struct.Struct` of a fixed-size layout in one byte order.

    ``first`` and ``last`` cut the list of its fields as they cut any list.
    """
    codes = [code for _, code in flatten(layout.in_order(order))]
    return struct.Struct(order + "".join(codes[first:last]))


@frozen
class Record:
    """The fast codec of one fixed-size layout, in both byte orders."""

    layout: Layout
    little: struct.Struct = field(init=False)
    big: struct.Struct = field(init=False)
    names: tuple[str, ...] = field(init=False)
    """Dotted field names, in the order of the values."""

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "little", derive(self.layout, "<"))
        object.__setattr__(self, "big", derive(self.layout, ">"))
        object.__setattr__(self, "names", tuple(name for name, _ in flatten(self.layout.little)))

    @property
    def size(self) -> int:
        """Bytes."""
        return self.little.size

    def in_order(self, order: ByteOrder) -> struct.Struct:
        """The derived codec for one byte order."""
        return self.little if order == "<" else self.big

    def unpack(
        self, data: bytes, offset: int = 0, order: ByteOrder | None = None
    ) -> dict[str, Any]:
        """Values by dotted name; without ``order`` the marker at ``offset`` decides.

        Raises :class:`ProtocolError` when ``data`` is too short.
        """
        if order is None:
            order = byte_order_of(data[offset : offset + 4])
        try:
            values = self.in_order(order).unpack_from(data, offset)
        except struct.error:
            raise ProtocolError(
                f"{len(data) - offset} bytes where {self.size} are needed"
            ) from None
        return dict(zip(self.names, values, strict=True))

    def pack(self, values: dict[str, Any], order: ByteOrder = "<") -> bytes:
        """Bytes of the values; a name that is not given counts as 0.

        Raises :class:`ProtocolError` when a value does not fit its field.
        """
        try:
            return self.in_order(order).pack(*[values.get(name, 0) for name in self.names])
        except struct.error as error:
            raise ProtocolError(str(error)) from None
