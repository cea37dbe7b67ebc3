"""The trace checker accepts what the protocol allows and finds each kind of breach.

A trace that breaks a property has to break nothing else, so that no case passes because
of another breach.  The traces are in ``trace_cases``.
"""

from __future__ import annotations

import pytest
from trace_builder import daemon, first_ring, told, trace
from trace_cases import ALLOWED, FORBIDDEN

from txspread.testing.checker import PROPERTIES, Breach, check_daemons
from txspread.testing.client_checker import CLIENT_PROPERTIES, check


@pytest.mark.parametrize("name", ALLOWED)
def test_what_the_protocol_allows_is_no_breach(name: str) -> None:
    assert check(ALLOWED[name]()) == []


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_breach_is_found_and_named(name: str) -> None:
    properties, case = FORBIDDEN[name]
    assert {breach.property for breach in check(case())} == properties


def test_each_property_has_a_trace_that_breaks_it_alone() -> None:
    alone = {next(iter(names)) for names, _ in FORBIDDEN.values() if len(names) == 1}
    # Whoever is outside its own ring has nothing to come along with either.
    assert alone == {*PROPERTIES, *CLIENT_PROPERTIES} - {"self inclusion"}


def test_a_flood_of_breaches_is_told_in_a_few_lines() -> None:
    run = trace(daemon(1, *first_ring(1, 1), told(*(str(number) for number in range(100)))))
    breaches = check_daemons(run, limit=3)
    assert len(breaches) == 3
    assert str(breaches[0]) == "no creation: 0.0.0.1 delivered b'0', never sent"
    assert breaches[0] == Breach("no creation", "0.0.0.1 delivered b'0', never sent")
