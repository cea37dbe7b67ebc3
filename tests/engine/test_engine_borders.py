"""The protocol layers stay free of sockets, clocks and the reactor."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "txspread"
PURE = ("wire", "config", "engine")
FORBIDDEN = {"twisted", "socket", "select", "time", "random", "logging", "threading", "asyncio"}
FILES = sorted(path for layer in PURE for path in (PACKAGE / layer).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names of every import in a file, wherever it stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES])
def test_protocol_layers_import_nothing_that_touches_the_world(path: Path) -> None:
    assert not imported(path) & FORBIDDEN


def test_layers_only_look_down() -> None:
    for path in FILES:
        text = path.read_text()
        assert "txspread.daemon" not in text or path.parent.name == "docs"
        assert "from txspread.client" not in text
        if "wire" in path.relative_to(PACKAGE).parts:
            assert "txspread.engine" not in text
            assert "txspread.config" not in text


def test_the_list_of_files_is_not_empty() -> None:
    assert len(FILES) > 5
