"""``txspmonitor``: watch and steer daemons; in the place of upstream's spmonitor.

With upstream's options (or none) it is the interactive program with upstream's menus.
With the name of a subcommand first (``status``, ``watch``, ``partition``, ``flow``,
``reload``, ``kill``) it does one thing and ends, for scripts and terminals.

Source of the options and their errors: ``docs/protocol/monitoring-and-tools.md``
section 3.1.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from attrs import define

import txspread
from txspread.config import ConfigurationError
from txspread.config.model import Configuration
from txspread.tools import spmonitor_commands
from txspread.tools.spmonitor_link import (
    MONITOR_NAME,
    SEARCHED,
    BindError,
    MonitorLink,
    identity,
    load_configuration,
)
from txspread.tools.spmonitor_menu import MonitorProgram
from txspread.tools.terminal import show, use_byte_output
from txspread.wire.constants import MAX_PROC_NAME

ABORTED: Final = 134
"""What a shell reports for SIGABRT, with which upstream's program ends on errors."""
DEFAULT_PORT: Final = 6543
DEFAULT_INTERVAL: Final = 10
_MAX_FILE_NAME: Final = 4095
"""Bytes that a path may have on the systems this runs on; upstream stops at 79."""

USAGE: Final = (
    "Usage: {0}\n"
    "\t[-p <port number>]    : specify port number\n"
    "\t[-n <proc name>]      : force computer name\n"
    "\t[-t <status timeout>] : specify number of seconds between status queries\n"
    "\t[-c <file name>]      : specify configuration file\n"
)


@define
class Options:
    """The command line of spmonitor."""

    port: int = DEFAULT_PORT
    name: str | None = None
    interval: int = DEFAULT_INTERVAL
    file: str | None = None


def _abort(text: str) -> NoReturn:
    show(f"{text}\nExit caused by Alarm(EXIT)\n")
    raise SystemExit(ABORTED)


def _c_number(text: str) -> int | None:
    """A number as C writes it (decimal, 0x hexadecimal, 0 octal), or None."""
    if not re.fullmatch(r"\s*[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", text):
        return None
    text = text.strip()
    digits = text.lstrip("+-")
    base = 16 if digits[:2].lower() == "0x" else 8 if digits.startswith("0") else 10
    return int(text, base)


def parse_options(arguments: Sequence[str]) -> Options:
    """Read the command line: exact option names, each with a value.

    :raises SystemExit: with status 134 after the usage, for anything else.
    """
    options = Options()

    def refuse(text: str) -> NoReturn:
        _abort(f"{text}\n\n{USAGE.format('spmonitor')}")

    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if not rest:
            refuse(f"Unknown or missing parameter: {option}")
        value = rest.pop(0)
        if option == "-p":
            port = _c_number(value)
            if port is None or not 0 <= port < 65536:
                refuse(f"Port number must be in range [0, 65536): {value}")
            options.port = port
        elif option == "-n":
            if len(os.fsencode(value)) >= MAX_PROC_NAME:
                refuse(f"Proc name too long: {value}")
            options.name = value
        elif option == "-t":
            interval = _c_number(value)
            if interval is None or interval <= 0:
                refuse(f"Status query timeout must be a positive integer: {value}")
            options.interval = interval
        elif option == "-c":
            if len(os.fsencode(value)) > _MAX_FILE_NAME:
                refuse(f"Config file name too long: {value}")
            options.file = value
        else:
            refuse(f"Unknown parameter: {option}")
    return options


def _banner() -> str:
    edge = "=" * 79
    line = f"Version 4.04.00 Built as txspread {txspread.__version__}: the monitor"
    return f"{edge}\n| {line:<75} |\n{edge}\n"


def _configuration(options: Options) -> Configuration:
    name = options.file
    if name is None:
        name = next((place for place in SEARCHED if os.path.exists(place)), SEARCHED[0])
    if not os.access(name, os.R_OK):
        _abort(f"Conf_load_conf_file: error opening config file {name}")
    try:
        configuration, lines = load_configuration(name)
    except ConfigurationError as error:
        show(f"Conf_load_conf_file: using file: {name}\n")
        print(f"txspmonitor: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    show("".join(f"{line}\n" for line in lines))
    return configuration


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program; ``arguments`` default to the command line.

    :raises SystemExit: always.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    use_byte_output()
    if words and (words[0] in spmonitor_commands.COMMANDS or words[0] in ("--help", "--version")):
        raise SystemExit(spmonitor_commands.run(words))
    show(_banner())
    options = parse_options(words)
    configuration = _configuration(options)
    try:
        me = identity(configuration, options.name)
    except ConfigurationError as error:
        if options.name is not None and options.name != MONITOR_NAME:
            _abort(f"Conf_load_conf_file: My proc {options.name} is not in configuration ")
        _abort(f"Conf_load_conf_file: {error}")
    try:
        link = MonitorLink(configuration, me, options.port)
    except BindError as error:
        _abort(str(error))
    try:
        MonitorProgram(link, options.interval).run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        link.close()


if __name__ == "__main__":
    main()
