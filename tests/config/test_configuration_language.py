"""The language of spread.conf beyond the recorded files, and the promise never to crash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txspread.config import (
    Configuration,
    ConfigurationError,
    check_report,
    find_me,
    load,
    log_file_name,
    parse,
)
from txspread.config.hashing import configuration_hash, mix
from txspread.config.model import InterfaceType
from txspread.config.options import FLAGS, OPTIONS, PRIORITIES
from txspread.config.parsing import MAX_FILE_SIZE
from txspread.config.scanner import scan

FOLDER = Path(__file__).parents[1] / "vectors" / "configuration"
SEGMENT = "Spread_Segment 10.1.1.255:5000 {\n a 10.1.1.1\n b 10.1.1.2\n}\n"


def kinds(text: str) -> list[tuple[str, str]]:
    return [(token.type, str(token)) for token in scan(text)]


def refusal(text: str | bytes, **keywords) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "f", **keywords)
    return caught.value


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Window", [("NUMBER_OPTION", "Window")]),
        ("Windows", [("STRING", "Windows")]),
        ("Window{", [("NUMBER_OPTION", "Window"), ("OPEN", "{")]),
        ("Window#x", [("NUMBER_OPTION", "Window")]),
        ("= == :", [("EQUALS", "="), ("STRING", "=="), ("COLON", ":")]),
        ("200", [("NUMBER", "200")]),
        ("200\t", [("COSTS", "200\t")]),
        ("200\r", [("NUMBER", "200")]),
        ("1234567", [("COSTS", "1234567")]),
        ("12 34 x", [("COSTS", "12 34 "), ("STRING", "x")]),
        ("12 34x", [("COSTS", "12 34"), ("STRING", "x")]),
        ("12a", [("STRING", "12a")]),
        ("1.2.3.4", [("ADDRESS", "1.2.3.4")]),
        ("1.2.3.4:5", [("ADDRESS", "1.2.3.4:5")]),
        ("1.2.3.4:", [("STRING", "1.2.3.4:")]),
        ("1.2.3.4:123456", [("STRING", "1.2.3.4:123456")]),
        ("1.2.3.1234", [("STRING", "1.2.3.1234")]),
        ('"a b"', [("STRING", "a b")]),
        ("'a\"b'", [("STRING", 'a"b')]),
        ('""', [("STRING", "")]),
        ('"a"b', [("STRING", '"a"b')]),
        ('"a b"c', [("STRING", "a b"), ("STRING", "c")]),
        ('x"a b"', [("STRING", 'x"a'), ("STRING", 'b"')]),
        ('"a #b', [("STRING", '"a')]),
        ('"a #b"', [("STRING", "a #b")]),
        ("yEs On AUTO", [("BOOL", "yEs"), ("TRIVAL", "On"), ("TRIVAL", "AUTO")]),
        ("info INFO", [("STRING", "info"), ("PRIORITY", "INFO")]),
        ("M C D X", [("LETTER", "M"), ("LETTER", "C"), ("LETTER", "D"), ("STRING", "X")]),
        ("!PRINT", [("BANG", "!"), ("FLAG", "PRINT")]),
        ("!\nPRINT", [("STRING", "!"), ("FLAG", "PRINT")]),
        ("!", [("STRING", "!")]),
        ("!!x", [("BANG", "!"), ("BANG", "!"), ("STRING", "x")]),
        ("a!b", [("STRING", "a!b")]),
        ("# only\n\r\t ", []),
        ("a\vb\f", [("STRING", "a\vb\f")]),
    ],
)
def test_longest_match_decides(text, tokens):
    assert kinds(text) == tokens


def test_lines_and_columns_count_from_one():
    places = [(str(token), token.line, token.column) for token in scan('a\n  "b\nc" d\n\n\te')]
    assert places == [("a", 1, 1), ("b\nc", 2, 3), ("d", 3, 4), ("e", 5, 2)]


def test_nul_is_refused_at_its_place():
    error = refusal(SEGMENT + "Event\0LogFile")
    assert (error.line, error.column) == (5, 6)


@pytest.mark.parametrize("text", ["\ud800", "ok\n \udfff"])
def test_characters_that_no_file_holds_are_refused(text):
    error = refusal(text)
    assert error.line == text.count("\n") + 1


def test_bytes_that_are_not_utf_8_survive_in_names():
    configuration = parse(b"Spread_Segment 10.1.1.255 { n\xe9 10.1.1.1 }")
    assert configuration.daemons[0].name_bytes == b"n\xe9"
    text = b"Segment 10.1.1.255:4803 n\xe9 10.1.1.1 ANY D C M 10.1.1.1 \nVersion: 4.4\n0"
    length = len(text)
    start = length ^ length << 8 ^ length << 16 ^ length << 24
    assert configuration.hash == mix(text, start)


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("Windwo = 3\n", "did you mean Window?"),
        ("TokenTimeout = 5s\n", "digits only"),
        ("Window = 40000\n", "at most 32767"),
        ("DebugFlags = { FOO }\n", "the flags are DEBUG EXIT"),
        ("EventLogFile = Window\n", 'quote it: "Window"'),
        ("EventLogFile = 7\n", 'quote it: "7"'),
        ("EventLogFile", "the file ends where '=' is expected"),
        ("LinkProtocol = Tcp\n", "Hop or TcpHop is expected"),
        (":", "found ':'"),
        ("AllowedAuthMethods = " + 90 * "x", "at most 89 bytes"),
        ("RouteMatrix { " + 21 * "1 " + "}", "more than 20 route costs"),
        ("RouteMatrix { " + 21 * "1 \n" + "}", "more than 20 rows"),
        ("Spread_Segment 10.1.1.255 {\n a 10.1.1.1 { D 10.1.1.1 E }", "with M, C or D"),
    ],
)
def test_message_says_what_to_do(text, piece):
    assert piece in str(refusal(text))


def test_message_begins_with_file_line_and_column():
    assert str(refusal("\n Foo")).startswith("f:2:2: found 'Foo' where ")


def test_names_without_address_are_looked_up():
    asked = []

    def resolver(name):
        asked.append(name)
        return "10.1.1.9"

    configuration = parse(SEGMENT.replace("a 10.1.1.1", "host"), resolver=resolver)
    assert asked == ["host"]
    assert configuration.daemons[0].address == "10.1.1.9"
    assert any("look its name up as 10.1.1.9" in warning for warning in configuration.warnings)
    refusal(SEGMENT.replace("a 10.1.1.1", "host"))


def test_warnings_name_the_traps():
    text = (
        "AcceleratedRing = false\nMaxSessionMessages = 0\nRequiredAuthMethods = FOO\n"
        "Spread_Segment 10.1.1.1:65535 {\n a 10.1.1.1\n b 10.1.1.1 { D 10.1.1.1 }\n"
        " c 10.1.1.3 { C 10.1.1.3 }\n d 10.1.1.4:70000 { D 10.1.1.5 C 10.1.1.5 }\n}\n"
    )
    warnings = "\n".join(parse(text, "f").warnings)
    for piece in (
        "f:2: MaxSessionMessages = 0 cuts every client off",
        "f:3: RequiredAuthMethods: unknown method 'FOO' is ignored",
        "f: no authentication method is allowed",
        "f:4: segment address 10.1.1.1 is the address of one daemon",
        "f:4: port 65535 leaves no port for the token",
        "f:6: daemons 'a' and 'b' share the address 10.1.1.1",
        "f:6: daemon 'b' has no C interface",
        "f:7: daemon 'c' has no D interface",
        "f:8: daemon 'd' cannot run",
        "f:8: port 70000 is above 65535 and counts as 4464",
    ):
        assert piece in warnings
    assert "AcceleratedRing is not stated" not in warnings
    assert "AcceleratedRing is not stated" in "\n".join(parse(SEGMENT).warnings)


def timeouts(**changed: int) -> str:
    values = {
        "Token": 1250,
        "Hurry": 500,
        "Alive": 250,
        "Join": 250,
        "Rep": 625,
        "Seg": 500,
        "Gather": 1250,
        "Form": 1250,
        "Lookup": 30000,
    } | changed
    return "".join(f"{name}Timeout = {value}\n" for name, value in values.items()) + SEGMENT


@pytest.mark.parametrize(
    ("changed", "piece"),
    [
        ({"Token": 400}, "TokenTimeout > HurryTimeout does not hold (400 ms, 500 ms)"),
        ({"Token": 600}, "TokenTimeout >= 1.5 * HurryTimeout"),
        ({"Gather": 200}, "GatherTimeout > JoinTimeout"),
        ({"Rep": 400}, "RepTimeout >= 2 * JoinTimeout"),
        ({"Seg": 400}, "SegTimeout >= 2 * AliveTimeout"),
        ({"Gather": 900}, "GatherTimeout >= SegTimeout + 2 * JoinTimeout"),
        ({"Form": 2000}, "FormTimeout + SegTimeout < 2 * GatherTimeout - JoinTimeout"),
        ({"Lookup": 1000}, "LookupTimeout >= GatherTimeout"),
        ({"Token": 20, "Hurry": 5}, "TokenTimeout >= 25 ms"),
    ],
)
def test_timeouts_that_make_no_sense_together_are_named(changed, piece):
    assert any(piece in warning for warning in parse(timeouts(**changed)).warnings)


def test_default_timeouts_stated_give_no_warning():
    text = "AcceleratedRing = true\n" + timeouts()
    configuration = parse(text)
    assert configuration.warnings == ()
    assert configuration.timeouts_configured


def test_find_me_takes_the_name_before_addresses():
    configuration = parse(SEGMENT)
    assert find_me(configuration, "b", "h", ["10.1.1.1"]).name == "b"


def test_find_me_tries_addresses_in_the_order_given():
    configuration = parse(SEGMENT)
    assert (
        find_me(configuration, None, "h", ["0.0.0.0", "9.9.9.9", "10.1.1.2", "10.1.1.1"])
        is (configuration.daemons[1])
    )


def test_find_me_looks_at_every_interface():
    configuration = parse(SEGMENT.replace("b 10.1.1.2", "b 10.1.1.2 { D 10.1.1.2 C 10.2.1.2 }"))
    assert find_me(configuration, None, "h", ["10.2.1.2"]).name == "b"


def test_find_me_names_what_was_tried():
    with pytest.raises(ConfigurationError, match=r"\(h: 9\.9\.9\.9\)"):
        find_me(parse(SEGMENT), None, "h", ["9.9.9.9"])


def test_ids_lead_to_the_first_daemon_with_the_address():
    configuration = parse(
        "Spread_Segment 10.1.1.255 {\n a 10.1.1.1 { D 10.1.1.1 C 10.1.1.3 }\n b 10.1.1.3\n"
        " c 10.1.1.3\n d 10.1.1.4 { D 10.1.1.5 }\n}\n"
    )
    base = 0x0A010100
    assert [configuration.by_id[base + last].name for last in (1, 3, 4, 5)] == list("aadd")
    assert configuration.position[base + 3] == 1


def test_embedded_default_is_one_daemon_on_port_4803():
    configuration = load()
    me = find_me(configuration, None, "anything", ["127.0.0.1"])
    assert (me.name, me.address, me.port) == ("localhost", "127.0.0.1", 4803)
    assert configuration.hash == 3871598377  # of the file that upstream installs
    assert configuration.warnings == ()


def test_file_too_long_is_refused(tmp_path):
    file = tmp_path / "long.conf"
    file.write_bytes(b"#" * (MAX_FILE_SIZE + 1))
    with pytest.raises(ConfigurationError, match="is longer than"):
        load(file)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("spread_%h.log", "spread_node.log"),
        ("%H%h", "nodenode"),
        ("%x%%h%", "%x%node%"),
        ("plain", "plain"),
    ],
)
def test_log_file_name_takes_the_host_name(pattern, name):
    assert log_file_name(pattern, "node") == name


def test_report_tells_what_one_needs_to_compare():
    configuration = parse(SEGMENT, "f")
    report = check_report(configuration, configuration.daemons[1])
    later = configuration_hash(configuration.segments, accelerated=True)
    for piece in (
        "Configuration: f",
        f"Hash: {configuration.hash} (0x{configuration.hash:08x})",
        f"after a reload: {later} (0x{later:08x})",
        "Segment 0: 10.1.1.255:5000 (broadcast)",
        "id 167837954 (0x0a010102)  <- this daemon",
        "UDP ports 5000 (data) and 5001 (token) on any address",
        "Window 160, PersonalWindow 20, AcceleratedWindow 15",
        "(defaults for a LAN): Token 1250, Hurry 500",
        "a daemon dies: 2500 ms (idle ring) to 3000 ms (busy ring)",
        "Warnings: 1\n  f: AcceleratedRing is not stated",
    ):
        assert piece in report
    assert "This daemon" not in check_report(configuration, None)


def test_report_without_traps_has_no_warnings():
    configuration = load()
    report = check_report(configuration, configuration.daemons[0])
    assert report.endswith("Warnings: none")
    assert "after a reload" not in report


def test_report_shows_interfaces_and_multicast():
    configuration = parse(
        "AcceleratedRing = true\nSpread_Segment 239.1.1.1:5000 {\n"
        " a 10.1.1.1 { D 10.1.1.1 C 10.2.1.1 M 10.3.1.1 }\n b 10.1.1.2\n}\n"
    )
    report = check_report(configuration, configuration.daemons[0])
    assert "(IP multicast)" in report
    assert "      10.1.1.1: daemons\n      10.2.1.1: clients\n      10.3.1.1: monitors" in report
    assert "Ring protocol: accelerated\n" in report


def parses_or_is_refused(text: str | bytes) -> None:
    """Anything but a ConfigurationError escapes and fails the test."""
    try:
        configuration = parse(text, "f", lambda name: "127.0.0.1")
    except ConfigurationError as caught:
        error = caught
    else:
        assert isinstance(configuration, Configuration)
        assert check_report(configuration, None)
        assert parse(text, "f", lambda name: "127.0.0.1") == configuration
        return
    assert str(error).startswith("f:")
    assert error.line is None or error.line >= 1


@settings(deadline=None)
@given(st.text() | st.binary())
def test_any_text_parses_or_is_refused(text):
    parses_or_is_refused(text)


WORDS = st.sampled_from(
    [
        *OPTIONS,
        *FLAGS,
        *PRIORITIES,
        *["Spread_Segment", "RouteMatrix", "Hop", "TcpHop", "M", "C", "D"],
        *["true", "on", "auto", "{", "}", "=", ":", "!", "#", "'", '"', "", "\n", " ", "\t"],
        *["0", "1", "200", "1234567", "10.1.1.1", "10.1.1.255:4803", "300.1.1.1"],
        *["name", '"q n"', "'x'", "=1"],
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS | st.text(max_size=3), max_size=60), st.sampled_from(["", " "]))
def test_any_words_of_the_language_parse_or_are_refused(words, between):
    parses_or_is_refused(between.join(words))


FILES = [
    json.loads(path.read_text(encoding="utf-8"))["conf"].encode()
    for path in sorted(FOLDER.glob("v*.json"))
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([file for file in FILES if len(file) < 1000]),
    st.lists(st.tuples(st.integers(0, 999), st.integers(0, 3), st.binary(max_size=3)), max_size=4),
)
def test_any_damage_to_a_good_file_parses_or_is_refused(file, damages):
    for place, length, new in damages:
        file = file[:place] + new + file[place + length :]
    parses_or_is_refused(file)


ADDRESSES = st.tuples(*[st.integers(0, 255)] * 4).map(lambda quad: ".".join(map(str, quad)))
NAMES = st.text(st.characters(codec="utf-8", exclude_characters='"\0'), max_size=19).filter(
    lambda name: len(name.encode()) <= 19
)
LETTERS = st.lists(st.sampled_from("MCD"), max_size=4)
DAEMONS = st.tuples(
    ADDRESSES, st.none() | st.lists(st.tuples(LETTERS, ADDRESSES), min_size=1, max_size=10)
)


@settings(deadline=None)
@given(
    st.lists(NAMES, min_size=1, max_size=12, unique=True),
    st.data(),
    st.integers(0, 65535),
    st.sampled_from(["", "AcceleratedRing = true\n", "AcceleratedRing = False\n"]),
)
def test_written_segments_are_read_back(names, data, port, option):
    wanted = []
    lines = [option, f"Spread_Segment 10.1.1.255:{port} {{"]
    for name in names:
        address, stanza = data.draw(DAEMONS)
        line = f'"{name}" {address}'
        if stanza is None:
            types = [(address, 15)]
        else:
            types = []
            line += " {"
            for letters, interface in stanza:
                line += " " + " ".join([*letters, interface])
                mask = sum({"M": 1, "C": 2, "D": 4}[letter] for letter in set(letters))
                types.append((interface, mask or 7))
            line += " }"
        lines.append(line)
        wanted.append((name, address, types))
    lines.append("}")
    configuration = parse("\n".join(lines))
    assert [
        (
            daemon.name,
            daemon.address,
            [(interface.address, int(interface.types)) for interface in daemon.interfaces],
        )
        for daemon in configuration.daemons
    ] == wanted
    assert configuration.segments[0].port == (port or 4803)
    assert configuration.hash == configuration_hash(
        configuration.segments, option.startswith("AcceleratedRing = true")
    )
    assert all(
        bool(interface.types & InterfaceType.ANY) == (interface.types == 15)
        for daemon in configuration.daemons
        for interface in daemon.interfaces
    )
