"""The example file and the reference page say what the option table says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from txspread.config import load, parse
from txspread.config.options import FLAGS, OPTIONS, TIMEOUT_OPTIONS
from txspread.config.timeouts import LAN_TIMEOUTS, WAN_TIMEOUTS

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "spread.conf.example"
PAGE = ROOT / "docs" / "configuration.md"
WITHOUT_EFFECT = {"DebugInitialSequence", "LinkProtocol"}


def test_example_means_the_same_as_the_embedded_default():
    example, embedded = load(EXAMPLE), load()
    assert example.segments == embedded.segments
    assert example.hash == embedded.hash
    assert example.warnings == ()


def uncommented() -> str:
    names = "|".join(set(OPTIONS) - WITHOUT_EFFECT)
    return re.sub(rf"(?m)^# (?=(?:{names})(?: = .*)?$)", "", EXAMPLE.read_text())


def test_example_shows_every_option():
    text = uncommented()
    for name in set(OPTIONS) - WITHOUT_EFFECT:
        assert re.search(rf"(?m)^{name}\b", text), name


def test_example_shows_the_defaults():
    stated, plain = parse(uncommented()), load(EXAMPLE)
    assert stated.timeouts == plain.timeouts == LAN_TIMEOUTS
    for attribute in (
        "segments",
        "hash",
        "dangerous_monitor",
        "socket_port_reuse",
        "max_session_messages",
        "window",
        "personal_window",
        "accelerated_ring",
        "accelerated_window",
        "allowed_auth_methods",
        "required_auth_methods",
    ):
        assert getattr(stated, attribute) == getattr(plain, attribute)
    assert stated.debug_flags == 0x106
    assert stated.event_priority == 2


def row(name: str) -> list[str]:
    """Cells of the table row that begins with a name."""
    match = re.search(rf"(?m)^\| `{name}` \|(.*)\|$", PAGE.read_text())
    assert match, f"no row for {name}"
    return [cell.strip().replace("`", "") for cell in match[1].split(" | ")]


@pytest.mark.parametrize("name", sorted(set(OPTIONS) - set(TIMEOUT_OPTIONS)))
def test_reference_page_has_the_option_with_its_default(name):
    default = row(name)[1]
    assert default.split(":")[0] == OPTIONS[name].default.split(":")[0]


@pytest.mark.parametrize("name", sorted(TIMEOUT_OPTIONS))
def test_reference_page_has_the_timer_with_its_defaults(name):
    attribute = TIMEOUT_OPTIONS[name]
    assert row(name)[:2] == [
        str(round(getattr(defaults, attribute) * 1000)) for defaults in (LAN_TIMEOUTS, WAN_TIMEOUTS)
    ]


def test_reference_page_has_every_log_flag_with_its_bit():
    text = PAGE.read_text()
    for name, bit in FLAGS.items():
        assert re.search(rf"\| `{name}` \| 0x{bit:x} ", text), name
