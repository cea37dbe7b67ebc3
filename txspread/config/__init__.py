"""spread.conf: grammar, model, checks, configuration hash, derived timeouts."""

from __future__ import annotations

from txspread.config.building import Resolver
from txspread.config.errors import ConfigurationError
from txspread.config.identity import find_me
from txspread.config.model import Configuration, Daemon
from txspread.config.parsing import load, log_file_name, parse
from txspread.config.reloading import Reload, compare, reload
from txspread.config.report import check_report

__all__ = [
    "Configuration",
    "ConfigurationError",
    "Daemon",
    "Reload",
    "Resolver",
    "check_report",
    "compare",
    "find_me",
    "load",
    "log_file_name",
    "parse",
    "reload",
]
