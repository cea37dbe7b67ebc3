"""The vocabulary of declarations: integers of either byte order, names, ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import construct
from attrs import frozen
from construct import Container

from txspread.wire.byteorder import ByteOrder, byte_order_of
from txspread.wire.errors import ProtocolError

Declaration: TypeAlias = construct.Construct
"""Anything made of construct's classes."""


@frozen
class Integers:
    """Integer fields of one byte order."""

    u16: Declaration
    i16: Declaration
    u32: Declaration
    i32: Declaration


LITTLE: Final = Integers(construct.Int16ul, construct.Int16sl, construct.Int32ul, construct.Int32sl)
BIG: Final = Integers(construct.Int16ub, construct.Int16sb, construct.Int32ub, construct.Int32sb)

NAME: Final = construct.Bytes(32)
"""Name field, NUL terminated inside; what follows the NUL is kept as it is."""


@frozen
class Layout:
    """One declaration, in both byte orders."""

    little: Declaration
    big: Declaration

    def in_order(self, order: ByteOrder) -> Declaration:
        """The ``construct`` declaration for one byte order."""
        return self.little if order == "<" else self.big

    def parse(self, data: bytes, order: ByteOrder | None = None) -> Container:
        """Read a container from ``data``; without ``order`` the marker in it decides.

        Raises :class:`ProtocolError`.
        """
        if order is None:
            order = byte_order_of(data)
        try:
            return self.in_order(order).parse(data)
        except construct.ConstructError as error:
            raise ProtocolError(str(error)) from None

    def build(self, values: Mapping[str, object], order: ByteOrder = "<") -> bytes:
        """Write a container.  Raises :class:`ProtocolError` when a value does not fit."""
        try:
            built: bytes = self.in_order(order).build(values)
        except (construct.ConstructError, KeyError) as error:
            raise ProtocolError(str(error)) from None
        return built


def declare(fields: Callable[[Integers], Declaration]) -> Layout:
    """Make a layout of a declaration that is written for either byte order."""
    return Layout(fields(LITTLE), fields(BIG))


def membership_id(integers: Integers) -> Declaration:
    """8 bytes: id of a daemon membership."""
    return construct.Struct("proc_id" / integers.u32, "time" / integers.i32)


def group_id(integers: Integers) -> Declaration:
    """12 bytes: id of one view of a group."""
    return construct.Struct("proc_id" / integers.u32, "time" / integers.i32, "index" / integers.i32)
