"""Names and orders of the groups layer.

* A private group name is ``#session#daemon``: 1 to 10 and 1 to 19 characters,
  each of 0x24..0x7E.  Anything else that begins with ``#`` is illegal.
* A name is what stands in its 32-byte field before the first NUL, or the whole
  field.  Names compare byte by byte, unsigned, the shorter first.
* Daemons order by their position in the configuration; an id that is no longer
  configured orders after all configured ones, by its unsigned value.
* Virtual-synchrony sets order by membership id, compared by the sign of wrapped
  signed 32-bit differences.  That relation is not transitive, so the way the
  sorted list is built is part of the protocol (:func:`virtual_synchrony_order`).

Source: ``docs/protocol/groups.md`` sections 1.4, 1.5 and 5.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, TypeVar

from txspread.wire.identifiers import MembershipId, ProcId

_PRIVATE_GROUP: Final = re.compile(rb"#([\x24-\x7e]{1,10})#([\x24-\x7e]{1,19})")
_UNCONFIGURED: Final = 1 << 32


def split_private_group(name: bytes) -> tuple[bytes, bytes] | None:
    """Split ``#session#daemon``; None when the name is not a legal one."""
    found = _PRIVATE_GROUP.fullmatch(name)
    return None if found is None else (found[1], found[2])


def daemon_order(position: Mapping[ProcId, int], proc_id: ProcId) -> int:
    """Sort key of a daemon: its configured position, or beyond all of them."""
    place = position.get(proc_id)
    return _UNCONFIGURED | (proc_id & 0xFFFFFFFF) if place is None else place


def _wrapped_difference(left: int, right: int) -> int:
    difference = (left - right) & 0xFFFFFFFF
    return difference - 0x100000000 if difference & 0x80000000 else difference


class SetElement(Protocol):
    """What the order of virtual-synchrony sets looks at."""

    @property
    def membership_id(self) -> MembershipId | None:
        """Membership the daemon came from; None when partitioned from us."""

    @property
    def order(self) -> int:
        """Sort key of :func:`daemon_order`."""


def _before(left: SetElement, right: SetElement) -> bool:
    first, second = left.membership_id, right.membership_id
    if first is None or second is None:
        if first is not None:
            return True
        if second is not None:
            return False
    elif first != second:
        difference = _wrapped_difference(first.proc_id, second.proc_id)
        if difference == 0:
            difference = _wrapped_difference(first.time, second.time)
        if difference != 0:
            return difference < 0
    return left.order < right.order


Element = TypeVar("Element", bound=SetElement)


def virtual_synchrony_order(records: Sequence[Element]) -> list[Element]:
    """Order a group's daemon records for a network-caused membership message.

    ``records`` come in configuration order.  Each is first tried directly behind
    the one inserted before it and stays there if it fits between its
    neighbours; otherwise the first place before a greater record is searched.
    With cyclic ids this hint decides the outcome, and so do upstream's daemons.
    """
    result: list[Element] = []
    last = -1
    for record in records:
        place = last + 1
        fits = (place == 0 or _before(result[place - 1], record)) and (
            place == len(result) or _before(record, result[place])
        )
        if not fits:
            place = 0
            while place < len(result) and _before(result[place], record):
                place += 1
        result.insert(place, record)
        last = place
    return result
