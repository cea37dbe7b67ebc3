"""What upstream made of 146 recorded files and command lines is what is made of them here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from txspread.config import Configuration, ConfigurationError, find_me, load, parse
from txspread.config.hashing import configuration_hash, hash_string
from txspread.config.model import Interface, InterfaceType
from txspread.config.options import PRIORITIES

FOLDER = Path(__file__).parents[1] / "vectors" / "configuration"


def vectors(prefix: str) -> list[dict]:
    return [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(FOLDER.glob(f"{prefix}*.json"))
    ]


def named(found: list[dict]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", found, ids=[vector["name"] for vector in found])


ACCEPTED = vectors("v")
REFUSED = vectors("x")


def read(vector: dict) -> Configuration:
    return parse(vector["conf"].encode("utf-8"), "test.conf", vector["environment"]["hosts"].get)


def identify(vector: dict, configuration: Configuration):
    environment = vector["environment"]
    argv = vector["argv"]
    name = argv[argv.index("-n") + 1] if "-n" in argv else None
    host_name = environment["hostname"]
    addresses = [environment["hosts"][host_name], *environment["local_addresses"]]
    return find_me(configuration, name, host_name, addresses)


def test_every_recorded_file_is_there():
    assert len(ACCEPTED) == 69
    assert len(REFUSED) == 67


FLAGS = {
    "ANY": InterfaceType.ANY,
    "D": InterfaceType.DAEMON,
    "C": InterfaceType.CLIENT,
    "M": InterfaceType.MONITOR,
}


def flags(interface: Interface) -> list[str]:
    return [word for word, bit in FLAGS.items() if interface.types & bit]


@named(ACCEPTED)
def test_accepted_file_gives_the_recorded_hash(vector):
    configuration = read(vector)
    assert configuration.hash == vector["hash"]
    string = hash_string(configuration.segments, bool(configuration.accelerated_ring))
    if vector.get("hash_string") is not None:
        assert string == vector["hash_string"].encode("utf-8")


@named([vector for vector in ACCEPTED if vector.get("parsed")])
def test_accepted_file_gives_the_recorded_segments(vector):
    configuration = read(vector)
    segments = [
        {
            "address": segment.address,
            "port": segment.port,
            "daemons": [
                {
                    "name": daemon.name,
                    "address": daemon.address,
                    "id": daemon.id,
                    "port": daemon.port,
                    "interfaces": [
                        {
                            "flags": flags(interface),
                            "address": interface.address,
                            "port": interface.port,
                        }
                        for interface in daemon.interfaces
                    ],
                }
                for daemon in segment.daemons
            ],
        }
        for segment in configuration.segments
    ]
    assert segments == vector["parsed"]["segments"]


@named([vector for vector in ACCEPTED if vector.get("parsed")])
def test_accepted_file_gives_the_recorded_options(vector):
    configuration = read(vector)
    recorded = vector["parsed"]["options"]
    timeouts = configuration.timeouts
    names = ("token", "hurry", "alive", "join", "rep", "seg", "gather", "form", "lookup")
    milliseconds = {name.title(): round(getattr(timeouts, name) * 1000) for name in names}
    stated = {f"{name}Timeout": number for name, number in milliseconds.items()}
    priorities = {number: word for word, number in PRIORITIES.items()}
    assert recorded == {
        "DangerousMonitor": configuration.dangerous_monitor,
        "SocketPortReuse": configuration.socket_port_reuse.value,
        "MaxSessionMessages": configuration.max_session_messages,
        "Window": configuration.window,
        "PersonalWindow": configuration.personal_window,
        "AcceleratedRing": configuration.accelerated_ring,
        "AcceleratedWindow": configuration.accelerated_window,
        "timeouts": stated if configuration.timeouts_configured else None,
        "DebugInitialSequence": configuration.debug_initial_sequence,
        "RuntimeDir": configuration.runtime_dir,
        "DaemonUser": configuration.daemon_user,
        "DaemonGroup": configuration.daemon_group,
        "debug_mask": 0x106 if configuration.debug_flags is None else configuration.debug_flags,
        "EventPriority": priorities[configuration.event_priority or PRIORITIES["INFO"]],
        "timestamp_format": configuration.event_time_stamp,
        "timestamp_microseconds": configuration.event_precise_time_stamp,
        "auth_enabled": list(configuration.allowed_auth_methods),
        "auth_required": list(configuration.required_auth_methods),
    }
    effective = vector["parsed"]["effective"]
    assert effective["wide_area"] == configuration.wide_area
    assert effective["timeouts_ms"] == milliseconds
    assert effective["accelerated_ring_in_use"] == bool(configuration.accelerated_ring)


@named([vector for vector in ACCEPTED if vector.get("parsed")])
def test_accepted_file_has_the_recorded_identity(vector):
    configuration = read(vector)
    if vector["name"] == "v48_interface_id_not_listed":
        with pytest.raises(ConfigurationError, match="not among its interfaces"):
            identify(vector, configuration)
        return
    me = identify(vector, configuration)
    recorded = vector["parsed"]["self"]
    assert recorded == {"name": me.name, "address": me.address, "port": me.port}
    together = len(configuration.segments[me.segment].daemons) > 1
    assert vector["parsed"]["effective"]["broadcast_used"] == together


LOGGED = re.compile(
    r"Set |disabling Danger|ENABLING|Setting SO|Successfully|\t|b: |Finished|Hash|Conf_set_link"
    r"|config_parse|Segment |The version string|Version: 4|Full hash"
)
STAMP = re.compile(r"^\d\d/\d\d/\d\d \d\d:\d\d:\d\d |^\[\w+ \d\d \w+ \d{4} [\d:]+\] \d+\.\d+ ")


@named(ACCEPTED)
def test_accepted_file_gives_the_recorded_log_lines(vector):
    # The lines are printed by the shell; the reader says which, in which order.
    log = list(vector["log"])
    for text in vector.get("files", {}).values():
        log += text.splitlines()
    lines = []
    for line in log:
        bare = STAMP.sub("", line)
        if bare.startswith("Conf_load_conf_file: My name"):
            break
        # The hash string has no line end, so upstream's next line continues its last one.
        if re.match("[01]Hash", bare):
            lines.append(bare[0])
            bare = bare[1:]
        if LOGGED.match(bare):
            lines.append(bare)
    # One name spans two lines, hence the joining and splitting.
    texts = "\n".join(notice.text for notice in read(vector).notices).split("\n")
    assert texts == lines


# line, column and a piece of the message; a column of None: no place in the file
PLACES: dict[str, tuple[int | None, int | None, str]] = {
    "x01_unknown_option": (1, 1, "found 'FooBar' where an option, Spread_Segment"),
    "x02_no_space_around_equals": (1, 1, "put a blank before and after '='"),
    "x03_space_after_number": (1, 10, "remove the blank after it"),
    "x04_comment_after_number": (1, 10, "remove the blank after it"),
    "x05_number_7_digits": (1, 22, "at most 6 digits"),
    "x06_name_20_bytes": (2, 2, "has 20 bytes; 19 are allowed"),
    "x07_duplicate_name": (3, 2, "is taken by the daemon at 127.0.0.1"),
    "x08_129_daemons": (130, 2, "more than 128 daemons"),
    "x09_21_segments": (21, 1, "more than 20 segments"),
    "x10_11_interfaces": (13, 5, "more than 10 interfaces"),
    "x11_empty_stanza": (2, 2, "hold no interface"),
    "x12_octet_256": (1, 16, "256 is above 255"),
    "x13_port_6_digits": (1, 16, "a port of 1 to 5 digits"),
    "x14_segment_by_name": (1, 16, "found 'localhost' where an IPv4 address is expected"),
    "x15_loopback_mixed": (1, 16, "on this machine only"),
    "x16_some_timeouts": (1, 16, "missing: AliveTimeout, JoinTimeout, RepTimeout"),
    "x17_zero_timeout": (1, 16, "TokenTimeout must be at least 1"),
    "x18_personal_gt_window": (1, 10, "PersonalWindow (20) is larger than Window (10)"),
    "x19_accel_gt_personal": (2, 18, "AcceleratedWindow (15) is larger than PersonalWindow (10)"),
    "x20_window_zero": (1, 10, "Window must be at least 1"),
    "x21_accelerated_on": (1, 19, "takes true or false"),
    "x22_portreuse_true": (1, 19, "takes on, off or auto"),
    "x23_priority_DEBUG": (1, 17, "written pDEBUG"),
    "x24_policy_unknown": (1, 23, "the only one is PERMIT"),
    "x26_name_not_in_conf": (None, None, "'nobody' is not in the configuration"),
    "x27_argv_name_too_long": (None, None, "has 20 bytes; 19 are allowed"),
    "x28_not_local": (None, None, "none of the addresses of this machine (alpha: "),
    "x29_unresolvable": (2, 2, "no such host 'nosuchhost'"),
    "x30_empty_segment_first": (1, 16, "has no daemons"),
    "x31_empty_segment_second": (4, 16, "has no daemons"),
    "x32_keyword_name": (2, 2, 'must be quoted: "C"'),
    "x34_numeric_name": (2, 2, "made of digits only must be quoted"),
    "x35_conf_string_too_long": (None, None, "daemons of Spread 4 hold 19986"),
    "x36_route_matrix_short": (8, 1, "a single cost must be followed by a blank"),
    "x37_debugflag_unknown": (1, 27, "did you mean MEMBERSHIP?"),
    "x38_comma": (1, 16, "flags are separated by blanks; did you mean PRINT?"),
    "x39_empty_file": (None, None, "it has no daemons"),
    "x40_missing_close_brace": (3, 1, "a '}' is missing"),
    "x41_user_33_bytes": (1, 14, "at most 32 bytes"),
    "x42_negative": (1, 10, "without sign"),
    "x47_semicolon_after_brace": (3, 2, "remove the semicolon"),
    "x48_wrong_case_keyword": (1, 1, "did you mean Spread_Segment? (case counts)"),
    "x49_ip_only_daemon": (2, 2, "a daemon begins with its name"),
    "x50_port_separate_token": (1, 28, "found '15500 ' where '{' is expected"),
    "x52_vertical_tab": (2, 1, "did you mean Spread_Segment? (form feeds are not blanks)"),
    "x53_dangerous_on": (1, 20, "takes true or false"),
    "x55_byte_order_mark": (1, 1, "remove the byte-order mark"),
    "x56_equals_glued_to_value": (1, 8, "put a blank after '=': = 200"),
    "x57_bang_before_brace": (1, 21, "'!' must stand before a flag"),
    "x58_hash_string_19987": (None, None, "come to 19987 bytes"),
    "x59_hash_string_19988": (None, None, "come to 19988 bytes"),
    "x60_hash_string_20001": (None, None, "come to 20001 bytes"),
    "x61_personal_window_zero": (1, 18, "PersonalWindow must be at least 1"),
    "x62_two_ips": (2, 22, "found '127.0.0.2' where '{', '}' or a string is expected"),
    "x63_unknown_interface_letter": (2, 24, "with M, C or D before it"),
    "x64_interface_by_name": (2, 26, "found 'localhost' where M, C or D or an IPv4 address"),
    "x65_runtime_dir_too_long": (1, 14, "at most 4096 bytes"),
    "x68_route_matrix_too_few": (11, 1, "2 route costs for 3 segments"),
    "x69_unset_hostname_monitor": (None, None, "'Monitor' is not in the configuration"),
}

COMMAND_LINES = {"x44_bad_option", "x45_option_without_value", "x46_l_bad_value"}
"""The command line alone decides; the tests of the daemon's command have these."""
SOCKETS = {"x66_client_address_not_local", "x67_daemon_address_not_local"}
"""The file is good, its addresses cannot be bound; the daemon finds out."""
FILES = {"x43_missing_file", "x51_file_name_too_long", "x70_config_is_directory"}


def test_every_refused_file_is_judged_somewhere():
    assert {vector["name"] for vector in REFUSED} == (set(PLACES) | COMMAND_LINES | SOCKETS | FILES)


@named([vector for vector in REFUSED if vector["name"] in PLACES])
def test_refused_file_is_refused_with_place_and_expectation(vector):
    line, column, piece = PLACES[vector["name"]]
    with pytest.raises(ConfigurationError) as caught:
        identify(vector, read(vector))
    error = caught.value
    assert (error.line, error.column) == (line, column)
    assert error.file_name == "test.conf"
    assert piece in str(error)
    for logged in vector["log"]:
        recorded = re.match(r"Parser error on or before line (\d+)", logged)
        if recorded:
            # Upstream counts from 0 the lines it has read so far.
            assert line is not None or "x60" in vector["name"]
            assert (line or 1) <= int(recorded[1]) + 1
    if "Error type; syntax error" in vector["log"]:
        offending = next(text for text in vector["log"] if text.startswith("Offending token: "))
        assert error.found is not None
        assert error.found.strip("\"' ") == offending[len("Offending token: ") :].strip("\"' ")
        assert error.expected


@named([vector for vector in REFUSED if vector["name"] in SOCKETS | COMMAND_LINES])
def test_file_whose_addresses_or_command_line_are_at_fault_is_good(vector):
    configuration = read(vector)
    if "hash" in vector:
        assert configuration.hash == vector["hash"]
        assert identify(vector, configuration) in configuration.daemons


@named([vector for vector in REFUSED if vector["name"] in FILES])
def test_file_that_cannot_be_read_is_refused(vector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("spread.conf").write_text("")
    name = vector["argv"][1]
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        load(name)
    assert caught.value.file_name == name


@pytest.mark.parametrize(
    ("vector", "dialect"),
    [
        pytest.param(vector, dialect, id=vector["name"])
        for prefix, dialect in (("d430_", "4.3"), ("d501_", "5.0"))
        for vector in vectors(prefix)
    ],
)
def test_hash_of_other_versions(vector, dialect):
    configuration = read(vector)
    if vector.get("hash") is None:
        # 5.0 refuses two daemons of one address, which 4 accepts.
        assert vector["name"] == "d501_v42_duplicate_addresses"
        return
    accelerated = bool(configuration.accelerated_ring)
    string = hash_string(configuration.segments, accelerated, dialect)
    assert string == vector["hash_string"].encode("utf-8")
    assert configuration_hash(configuration.segments, accelerated, dialect) == vector["hash"]
