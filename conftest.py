"""Options and fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--upstream",
        metavar="PREFIX",
        default=os.environ.get("TXSPREAD_UPSTREAM"),
        help="a directory with a build of upstream Spread (sbin/spread, bin/spuser, lib/, java/)",
    )


@pytest.fixture(scope="session")
def upstream(request: pytest.FixtureRequest) -> Path:
    """The prefix of an upstream build; tests that use it are skipped without one."""
    prefix = request.config.getoption("--upstream")
    if not prefix or not (Path(prefix) / "sbin" / "spread").exists():
        pytest.skip("needs a build of upstream Spread: --upstream PREFIX")
    return Path(prefix)
