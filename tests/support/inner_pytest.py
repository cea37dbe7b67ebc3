"""pytest inside a test, with the plugin of txspread, whether it is installed or not."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

MODULE = "txspread.testing.pytest_plugin"


def plugin_options() -> list[str]:
    """What loads the plugin, unless an entry point of the installation does."""
    installed = importlib.metadata.entry_points(group="pytest11")
    return [] if any(point.value == MODULE for point in installed) else ["-p", MODULE]


class InnerPytest:
    """Runs files with pytest in a process of its own."""

    def __init__(
        self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, root: Path
    ) -> None:
        self._pytester = pytester
        path = os.environ.get("PYTHONPATH")
        monkeypatch.setenv("PYTHONPATH", f"{root}{os.pathsep}{path}" if path else str(root))

    def __call__(self, files: Mapping[str, str], *options: str) -> pytest.RunResult:
        for name, text in files.items():
            (self._pytester.path / name).write_text(text)
        return self._pytester.runpytest_subprocess(
            *plugin_options(), "-p", "no:cacheprovider", "--strict-markers", *options, timeout=120
        )
