"""The access files and the choice of methods."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txspread.engine.authentication import (
    AccessFileError,
    Authentication,
    IpRule,
    parse_access_ip,
    parse_access_pword,
)


def test_each_kind_of_line() -> None:
    access = parse_access_ip("# comment\nunix\nlocalhost too\n10.1.2.3\n10.0.0.0/8\n")
    assert access.rules == (
        IpRule(0, 32),
        IpRule(0x7F000000, 8),
        IpRule(0x0A010203, 32),
        IpRule(0x0A000000, 8),
    )
    assert access.warnings == ()
    assert access.allows(0)
    assert access.allows(0x7F123456)
    assert access.allows(0x0AFFFFFF)
    assert not access.allows(0x0B000000)


def test_host_bits_make_a_rule_that_never_matches() -> None:
    access = parse_access_ip("127.0.0.1/24\n")
    assert not access.allows(0x7F000001)
    assert not access.allows(0x7F000000)


def test_prefix_zero_matches_only_the_unix_socket() -> None:
    access = parse_access_ip("0.0.0.0/0")
    assert access.allows(0)
    assert not access.allows(0x7F000001)


@pytest.mark.parametrize("end", ["", "10.0.0", "  ", "nonsense", " unix"])
def test_a_line_with_fewer_than_three_dots_ends_the_file(end: str) -> None:
    access = parse_access_ip(f"10.0.0.1\n{end}\n10.0.0.2\n")
    assert access.allows(0x0A000001)
    assert not access.allows(0x0A000002)
    assert len(access.warnings) == 1


@pytest.mark.parametrize(
    "line", ["a.b.c.d", "1.2.3.x", "1.2.3", "256.0.0.1", "1.2.3.4/33", "1.2.3.4/x", "1..2.3"]
)
def test_three_dots_without_an_address_are_an_error_with_its_line(line: str) -> None:
    if line.count(".") < 3:
        assert parse_access_ip(line).rules == ()
        return
    with pytest.raises(AccessFileError, match="line 2") as caught:
        parse_access_ip(f"# first\n{line}\n")
    assert caught.value.line_number == 2


def test_a_long_line_is_an_error() -> None:
    assert parse_access_ip("#" * 200).rules == ()
    assert len(parse_access_ip("1.2.3.4 " + "x" * 123).rules) == 1
    with pytest.raises(AccessFileError):
        parse_access_ip("1.2.3.4 " + "x" * 124)


def test_words_behind_an_address_and_line_ends_of_windows_are_fine() -> None:
    assert parse_access_ip("1.2.3.4 the gateway\r\n5.6.7.8/32\r\n").rules == (
        IpRule(0x01020304, 32),
        IpRule(0x05060708, 32),
    )


@settings(deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        access = parse_access_ip(text)
    except AccessFileError:
        return
    access.allows(0x7F000001)


def test_password_file() -> None:
    text = "# users\nroger:abhv/ZnAzL36k\nbob:first\nbob:second\nend of file\nlate:x\n"
    assert parse_access_pword(text) == {b"roger": b"abhv/ZnAzL36k", b"bob": b"second"}


@pytest.mark.parametrize("line", [":x", "two words:x", f"{'u' * 33}:x", "u:" + "x" * 130])
def test_malformed_password_lines_are_errors(line: str) -> None:
    with pytest.raises(AccessFileError, match="line 1"):
        parse_access_pword(line)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_password_file_is_read_or_refused(text: str) -> None:
    try:
        users = parse_access_pword(text)
    except AccessFileError:
        return
    assert all(len(user) <= 32 for user in users)


def test_methods_run_in_the_order_chosen_then_the_required_ones() -> None:
    authentication = Authentication.build(
        ("NULL", "IP", "PWORD"), ("PWORD", "IP"), verify=lambda password, crypted: True
    )
    assert authentication.methods_chosen([b"PWORD", b"NULL"]) == ("PWORD", "NULL", "IP")
    assert authentication.methods_chosen([b"NULL", b"NULL"]) == ("NULL", "NULL", "IP", "PWORD")
    assert authentication.methods_chosen([]) is None
    assert authentication.methods_chosen([b"NULL", b"X"]) is None
