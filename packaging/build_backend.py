"""setuptools' build backend, which also asks for mypyc where it can be of use."""

from __future__ import annotations

import os
import shutil
import sysconfig

from setuptools import build_meta as _setuptools
from setuptools.build_meta import *  # noqa: F403 - a backend is what its module exports

COMPILER = ("mypy>=1.15", "attrs>=23.1", "construct>=2.10.68", "Twisted>=23.8")
"""mypyc, and what it has to know the types of."""


def get_requires_for_build_wheel(config_settings: dict[str, object] | None = None) -> list[str]:
    """What a wheel needs: mypyc if there is a C compiler and it is not unwanted."""
    required: list[str] = _setuptools.get_requires_for_build_wheel(config_settings)
    command = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if os.environ.get("TXSPREAD_COMPILE") != "0" and shutil.which(command):
        required += COMPILER
    return required
