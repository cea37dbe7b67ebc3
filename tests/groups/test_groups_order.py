"""Names, and the orders that clients and peers can see."""

from __future__ import annotations

import pytest
from attrs import frozen
from groups_harness import proc_id
from hypothesis import given
from hypothesis import strategies as st

from txspread.engine.groups.names import (
    daemon_order,
    split_private_group,
    virtual_synchrony_order,
)
from txspread.wire.identifiers import MembershipId


@frozen
class Element:
    membership_id: MembershipId | None
    order: int


def came_from(*addresses: str | None, time: int = 7) -> list[Element]:
    """Records in configuration order, by the address in their membership ids."""
    return [
        Element(None if address is None else MembershipId(proc_id(address), time), order)
        for order, address in enumerate(addresses)
    ]


def positions(elements: list[Element]) -> list[int]:
    return [element.order for element in virtual_synchrony_order(elements)]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (b"#a#d1", (b"a", b"d1")),
        (b"#0123456789#1234567890123456789", (b"0123456789", b"1234567890123456789")),
        (b"#$~#~$", (b"$~", b"~$")),
    ],
)
def test_private_groups_split_at_the_second_hash(name: bytes, parts: tuple[bytes, bytes]) -> None:
    assert split_private_group(name) == parts


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"#",
        b"a#d1",
        b"#a",
        b"##d1",
        b"#a#",
        b"#a#d#1",
        b"#01234567890#d1",
        b"#a#12345678901234567890",
        b"#a b#d1",
        b"#a\x7f#d1",
        b"#a#d\x80",
        b"#a#d1\n",
    ],
)
def test_anything_else_is_no_private_group(name: bytes) -> None:
    assert split_private_group(name) is None


def test_daemons_that_are_not_configured_come_last_by_unsigned_id() -> None:
    position = {5: 1, 9: 0}
    assert sorted([0xFFFFFFFF, 3, 5, 9], key=lambda one: daemon_order(position, one)) == [
        9,
        5,
        3,
        0xFFFFFFFF,
    ]


def test_sets_order_by_signed_proc_id() -> None:
    assert positions(came_from("10.0.0.1", "192.168.0.1")) == [1, 0]


def test_the_difference_wraps() -> None:
    # 100.64.5.1 minus 192.168.77.1 overflows, so the smaller signed one comes last.
    assert positions(came_from("192.168.77.1", "100.64.5.1")) == [1, 0]


def test_cyclic_ids_stay_where_the_position_hint_puts_them() -> None:
    assert positions(came_from("192.168.77.1", "10.77.0.1", "100.64.5.1")) == [0, 1, 2]


def test_the_same_cycle_in_another_configuration_order_is_searched() -> None:
    assert positions(came_from("100.64.5.1", "10.77.0.1", "192.168.77.1")) == [2, 1, 0]


def test_equal_proc_ids_order_by_time() -> None:
    late, early = came_from("10.0.0.1", time=9), came_from("10.0.0.1", time=8)
    assert positions([late[0], Element(early[0].membership_id, 1)]) == [1, 0]


def test_partitioned_daemons_come_last_in_configuration_order() -> None:
    assert positions(came_from(None, "10.0.0.1", None, "10.0.0.1")) == [1, 3, 0, 2]


def test_equal_ids_keep_configuration_order() -> None:
    assert positions(came_from(*["10.0.0.1"] * 5)) == [0, 1, 2, 3, 4]


IDS = st.one_of(
    st.none(),
    st.builds(
        MembershipId,
        st.sampled_from([0x0A000001, 0x64400501, 0xC0A84D01, 0x7F000001, 0xFFFFFFFF, 0]),
        st.integers(-(2**31), 2**31 - 1),
    ),
)


@given(st.lists(IDS, max_size=12))
def test_nothing_is_lost_whatever_the_ids(ids: list[MembershipId | None]) -> None:
    elements = [Element(one, order) for order, one in enumerate(ids)]
    assert sorted(positions(elements)) == list(range(len(ids)))


@given(st.lists(st.one_of(st.none(), st.integers(1, 2**30)), max_size=12))
def test_ids_that_do_not_wrap_give_a_sorted_list(numbers: list[int | None]) -> None:
    elements = [
        Element(None if number is None else MembershipId(number, 0), order)
        for order, number in enumerate(numbers)
    ]
    key = [
        (element.membership_id is None, element.membership_id or (0, 0), element.order)
        for element in virtual_synchrony_order(elements)
    ]
    assert key == sorted(key)
