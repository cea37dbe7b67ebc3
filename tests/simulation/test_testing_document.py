"""The programs in docs/testing.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_of_the_page_runs(number: int) -> None:
    exec(compile(PROGRAMS[number], f"docs/testing.md[{number}]", "exec"), {})


def test_the_page_has_programs() -> None:
    assert len(PROGRAMS) == 3


def test_the_page_names_the_properties_that_are_checked() -> None:
    from txspread.testing.checker import PROPERTIES

    for name in PROPERTIES:
        assert f"| {name} |" in PAGE
