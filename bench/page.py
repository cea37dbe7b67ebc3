"""stub."""

from pathlib import Path
from typing import Any


class PageError(Exception):
    """No page can be made."""


def check_library() -> None:
    """Check."""


def write_page(document: dict[str, Any], path: Path) -> None:
    """Write."""
