"""The compiled form: which modules have it, and what happens where it cannot be made."""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from txspread.form import form

ROOT = Path(__file__).parents[2]


def hot_modules() -> list[str]:
    """What ``setup.py`` compiles."""
    for statement in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "HOT":
            table: dict[str, str] = ast.literal_eval(statement.value)
            return [
                f"txspread.{folder.replace('/', '.')}.{name}"
                for folder, names in table.items()
                for name in names.split()
            ]
    raise AssertionError("setup.py has no HOT")


@pytest.mark.parametrize("name", hot_modules())
def test_each_hot_module_has_the_form_that_these_tests_are_run_for(name):
    file = str(importlib.import_module(name).__file__)
    compiled = os.environ.get("TXSPREAD_FORM") == "compiled"
    assert file.endswith(tuple(EXTENSION_SUFFIXES)) is compiled
    assert form() == ("compiled" if compiled else "plain Python")


def build(where: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    for name in ("txspread", "twisted"):
        ignore = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / name, where / name, ignore=ignore)
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, where)
    environment = {name: text for name, text in os.environ.items() if name != "TXSPREAD_COMPILE"}
    return subprocess.run(
        [
            sys.executable,
            "setup.py",
            "build_py",
            "--build-lib",
            "out",
            "build_ext",
            "--build-lib",
            "out",
        ],
        cwd=where,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_without_a_compiler_the_package_is_plain_python_and_says_so(tmp_path):
    done = build(tmp_path, CC="/bin/false")
    assert done.returncode == 0, done.stderr
    assert "txspread: installed as plain Python, which is slower: " in done.stderr
    assert list(tmp_path.rglob("*.so")) == []
    assert (tmp_path / "out/txspread/engine/ring/token_visit.py").exists()


def test_who_insists_on_the_compiled_form_is_told_that_it_cannot_be_had(tmp_path):
    done = build(tmp_path, CC="/bin/false", TXSPREAD_COMPILE="1")
    assert done.returncode != 0
    assert list(tmp_path.rglob("*.so")) == []


def test_who_does_not_want_it_gets_plain_python_without_a_word(tmp_path):
    done = build(tmp_path, TXSPREAD_COMPILE="0")
    assert done.returncode == 0, done.stderr
    assert "txspread: " not in done.stderr
    assert list(tmp_path.rglob("*.so")) == []
