"""The handshake: rejects, old clients, names, timers."""

from __future__ import annotations

import itertools

import pytest
from session_fakes import LOCALHOST, Client, RecordingAlarms, World, choice, connect_request

from txspread.engine.authentication import AccessRules, Authentication, IpRule
from txspread.engine.handshake import TABLE, Action, Event, Handshake, PeerAddress, State
from txspread.wire.constants import SpreadCode

ACCEPT = b"\x01\x04\x04\x00"
QUOTA = b"\xfd"
ILLEGAL_NAME = b"\xfb"
NOT_UNIQUE = b"\xfa"
VERSION = b"\xf9"
AUTH = b"\xf7"


def refused(client: Client) -> bytes:
    """What a refused client has read; insists that it is closed."""
    assert client.transport.closed
    return client.transport.take()


def test_table_is_complete_for_what_can_happen_and_every_refusal_is_final() -> None:
    assert {state for state, _ in TABLE} == {State.REQUEST, State.CHOICE, State.METHODS}
    for state in (State.REQUEST, State.CHOICE, State.METHODS):
        assert (state, Event.TIMEOUT) in TABLE
        assert (state, Event.END_OF_FILE) in TABLE
    for action, state in TABLE.values():
        assert (state is State.REFUSED) == (
            action.name.startswith("REJECT") or action in (Action.CLOSE, Action.EMPTY_LIST)
        )
        assert (state is State.ACCEPTED) == (action is Action.ACCEPT)


@pytest.mark.parametrize("piece", [1, 3, 200])
def test_new_client_chooses_null_and_is_accepted(piece: int) -> None:
    world = World()
    client = world.open()
    stream = connect_request(b"alice") + choice("NULL")
    for at in range(0, len(stream), piece):
        client.send(stream[at : at + piece])
    assert client.transport.take() == b"\x05NULL " + ACCEPT + b"\x09#alice#d1"
    assert client.session.wants_membership
    assert (
        "Sess_session_authorized: Accepting from 127.0.0.1 with private name alice on mailbox 11"
        in world.alarms.texts
    )


def test_messages_may_be_pipelined_behind_the_choice() -> None:
    world = World()
    client = world.open()
    client.name = b"alice"
    client.send(
        connect_request(b"alice")
        + choice("NULL")
        + client.message(0x10000, [b"g"])
        + client.message(4, [b"g"])[:60]
    )
    assert world.groups.members == {b"g": [b"#alice#d1"]}
    client.send(client.message(4, [b"g"])[60:])
    assert len(world.groups.delivered) == 2


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ((3, 0), "3.0.0"),
        ((0, 0), "0.0.0"),
        ((2, 200), "2.-56.0"),
        ((128, 1), "-128.1.0"),
        ((255, 255), "-1.-1.0"),
    ],
)
def test_old_and_negative_versions_are_rejected(version: tuple[int, ...], text: str) -> None:
    world = World()
    client = world.open()
    client.send(bytes(version))
    assert refused(client) == VERSION
    assert f"Sess_accept_continue: version {text} is not supported" in world.alarms.texts
    assert world.sessions.count == 0


def test_there_is_no_newest_version() -> None:
    client = World().open()
    client.send(connect_request(b"a", (127, 127, 127)))
    assert client.transport.take() == b"\x05NULL "


@pytest.mark.parametrize("version", [(3, 1), (3, 13), (3, 14)])
def test_client_before_3_15_is_accepted_at_once_and_told_two_version_bytes(
    version: tuple[int, ...],
) -> None:
    world = World()
    client = world.open()
    client.send(connect_request(b"old", version))
    assert client.transport.take() == b"\x01\x04\x04\x07#old#d1"
    assert client.session.operational


def test_client_3_15_is_accepted_at_once_and_told_three_version_bytes() -> None:
    client = World().open()
    client.send(connect_request(b"old", (3, 15, 9)))
    assert client.transport.take() == ACCEPT + b"\x07#old#d1"


@pytest.mark.parametrize("flags", range(256))
def test_membership_is_an_odd_flag_byte_below_128(flags: int) -> None:
    client = World().open()
    client.send(connect_request(b"m", (3, 15, 0), flags=flags))
    assert client.session.operational
    assert client.session.wants_membership == (flags < 128 and flags % 2 == 1)


@pytest.mark.parametrize("length", [11, 12, 127, 128, 255])
def test_name_length_outside_0_to_10_is_illegal(length: int) -> None:
    world = World()
    client = world.open()
    client.send(bytes((4, 4, 0, 1, length)))
    assert refused(client) == ILLEGAL_NAME
    assert world.sessions.count == 0


@pytest.mark.parametrize("byte", range(256))
def test_names_consist_of_bytes_from_dollar_to_tilde(byte: int) -> None:
    world = World()
    client = world.open()
    client.send(connect_request(b"a%cb" % byte))
    if 0x24 <= byte <= 0x7E:
        assert client.transport.take() == b"\x05NULL "
    else:
        assert refused(client) == ILLEGAL_NAME
        assert "Sess_accept_continue: illegal private name a" in world.alarms.texts[-1]
        assert world.alarms.texts[-1].endswith("on mailbox 11")


def test_name_in_use_is_not_unique_and_names_are_case_sensitive() -> None:
    world = World()
    world.connect(b"dup")
    client = world.open()
    client.send(connect_request(b"dup"))
    assert refused(client) == NOT_UNIQUE
    assert "Sess_accept_continue: non unique private name dup on mailbox 12" in world.alarms.texts
    world.connect(b"DUP")
    assert world.sessions.count == 2


def test_name_in_authentication_is_taken_too() -> None:
    world = World()
    first = world.open()
    first.send(connect_request(b"dup"))
    second = world.open()
    second.send(connect_request(b"dup"))
    assert refused(second) == NOT_UNIQUE
    first.end()
    third = world.open()
    third.send(connect_request(b"dup"))
    assert third.transport.take() == b"\x05NULL "


def test_empty_name_is_invented_from_number_and_socket() -> None:
    world = World()
    seen = set()
    for _ in range(300):
        world.mailbox = 76543
        client = world.open()
        client.send(connect_request(b"", (3, 15, 0)))
        private_group = client.transport.take()[5:]
        name, daemon = private_group[1:].split(b"#")
        assert daemon == b"d1"
        number, socket = name[1:].split(b"-")
        assert name[:1] == b"r"
        assert 0 <= int(number) <= 9998
        assert len(name) <= 9
        assert b"76544".startswith(socket)
        seen.add(name)
    assert len(seen) == 300


def test_an_invented_name_steps_aside_for_the_same_name_given() -> None:
    world = World()
    world.sessions._admission._random = lambda: 0.5
    world.connect(b"r4999-12")
    client = world.open()
    client.send(connect_request(b"", (3, 15, 0)))
    assert client.transport.take()[5:] == b"#r5000-12#d1"


def test_998th_name_is_rejected_even_if_its_connection_was_there_before() -> None:
    world = World()
    early = world.open()
    for number in range(997):
        world.connect(b"c%d" % number)
    early.send(connect_request(b"early"))
    assert refused(early) == QUOTA
    assert world.sessions.count == 997


def test_place_of_a_session_is_free_again_when_its_kill_is_delivered() -> None:
    world = World(immediate=False)
    clients = [world.connect(b"c%d" % number) for number in range(997)]
    clients[0].disconnect()
    assert refused(world.open()) == QUOTA
    world.ordering.run()
    world.connect(b"again")


# --- timers


def test_silent_connection_is_closed_after_a_second_and_delays_nobody() -> None:
    world = World()
    silent = world.open()
    world.timer(0.5)
    other = world.connect(b"other")
    world.timer(0.49)
    assert not silent.transport.closed
    world.timer(0.01)
    assert refused(silent) == b""
    assert other.alive
    assert world.sessions.next_timer() is None


def test_each_connection_has_its_own_second() -> None:
    world = World()
    first = world.open()
    world.timer(0.6)
    second = world.open()
    second.send(b"\x04")
    world.timer(0.6)
    assert first.transport.closed
    assert not second.transport.closed
    world.timer(0.4)
    assert refused(second) == b""


@pytest.mark.parametrize("sent", [b"", bytes(89)])
def test_choice_is_waited_for_thirty_seconds(sent: bytes) -> None:
    world = World()
    client = world.open()
    client.send(connect_request(b"slow"))
    client.transport.take()
    client.send(sent)
    world.timer(29.9)
    assert not client.transport.closed
    world.timer(0.1)
    assert refused(client) == AUTH
    assert world.sessions.count == 0
    assert "Sess_session_denied: Authorization denied for slow on mailbox 11" in world.alarms.texts


def test_accepted_session_has_no_timer() -> None:
    world = World()
    client = world.connect(b"quiet")
    assert world.sessions.next_timer() is None
    client.send(b"half a header")
    assert world.sessions.next_timer() is None


def test_a_flood_of_silent_connections_is_bounded_and_shuts_nobody_out() -> None:
    world = World()
    silent = [world.open() for _ in range(2000)]
    open_now = [client for client in silent if not client.transport.closed]
    assert len(open_now) == 997
    assert open_now == silent[-997:]
    world.connect(b"honest")


def test_end_of_file_before_the_request_is_complete_closes_without_a_byte() -> None:
    client = World().open()
    client.send(b"\x04\x04\x00")
    client.end()
    assert refused(client) == b""


# --- authentication


def ip(*rules: IpRule, allowed: str = "IP", required: str = "") -> Authentication:
    return Authentication.build(allowed.split(), required.split(), AccessRules(rules))


LOCAL = IpRule(0x7F000000, 8)
ELSEWHERE = IpRule(0x0A000000, 8)


def login(authentication: Authentication, *methods: str, address: int = LOCALHOST) -> bytes:
    client = World(authentication=authentication).open(address)
    client.send(connect_request(b"x") + choice(*methods))
    return client.transport.take()


def test_list_has_the_allowed_methods_in_registration_order() -> None:
    authentication = Authentication.build(("IP", "bogus", "NULL", "NULL"), ("IP",))
    assert login(authentication, "NULL").startswith(b"\x08NULL IP ")


def test_without_an_allowed_method_the_list_is_empty_and_the_client_rejected() -> None:
    world = World(authentication=Authentication.build((), ("NULL",)))
    client = world.open()
    client.send(connect_request(b"x"))
    assert refused(client) == b"\0" + AUTH
    assert world.sessions.count == 0


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"IP",
        b"null",
        b"NULL ",
        b"N" * 30,
        b"NULL".ljust(30, b"\0") + b"IP",
        b"\xff" * 90,
        b"".join(b"NULL".ljust(30, b"\0") for _ in range(2)) + b"X" * 30,
    ],
)
def test_choice_that_is_not_allowed_is_rejected(bad: bytes) -> None:
    world = World()
    client = world.open()
    client.send(connect_request(b"x"))
    client.send(bad.ljust(90, b"\0"))
    assert refused(client) == b"\x05NULL " + AUTH
    assert world.sessions.count == 0
    assert world.ordering.submitted == []


def test_text_behind_a_name_and_behind_an_empty_slot_is_ignored() -> None:
    slots = b"NULL\0garbage".ljust(30, b"x") + bytes(30) + b"BOGUS".ljust(30, b"\0")
    world = World()
    client = world.open()
    client.send(connect_request(b"x") + slots)
    assert client.session.operational


def test_three_slots_and_a_required_method_are_fine() -> None:
    authentication = ip(LOCAL, allowed="NULL IP", required="IP")
    assert ACCEPT in login(authentication, "NULL", "NULL", "NULL")


@pytest.mark.parametrize(
    ("rules", "methods", "address", "accepted"),
    [
        ([LOCAL], ["IP"], LOCALHOST, True),
        ([ELSEWHERE], ["IP"], LOCALHOST, False),
        ([ELSEWHERE, LOCAL], ["IP"], LOCALHOST, True),
        ([LOCAL], ["IP"], 0, False),
        ([IpRule(0, 32)], ["IP"], 0, True),
        ([ELSEWHERE], ["NULL"], LOCALHOST, True),
        ([ELSEWHERE], ["NULL", "IP"], LOCALHOST, False),
    ],
)
def test_ip_method(rules: list[IpRule], methods: list[str], address: int, accepted: bool) -> None:
    answer = login(ip(*rules, allowed="NULL IP"), *methods, address=address)
    assert answer.startswith(b"\x08NULL IP ")
    assert (answer[9:10] == b"\x01") == accepted
    assert (answer[9:] == AUTH) == (not accepted)


def test_required_method_is_run_although_the_client_did_not_choose_it() -> None:
    assert login(ip(ELSEWHERE, allowed="NULL", required="IP"), "NULL") == b"\x05NULL " + AUTH


def test_without_access_file_every_ip_check_fails_and_says_so() -> None:
    world = World(authentication=Authentication.build(("IP",), ()))
    client = world.open()
    client.send(connect_request(b"x") + choice("IP"))
    assert refused(client) == b"\x03IP " + AUTH
    assert any("No spread.access_ip file loaded" in text for text in world.alarms.texts)


@pytest.mark.parametrize(
    ("allowed", "required", "rules", "accepted"),
    [
        ("NULL", "", [], True),
        ("IP NULL", "", [ELSEWHERE], False),
        ("IP", "", [LOCAL], True),
        ("", "NULL", [LOCAL], False),
        ("NULL", "IP", [LOCAL], True),
        ("NULL", "IP", [ELSEWHERE], False),
    ],
)
def test_old_client_is_checked_by_address_or_not_at_all_and_by_required_methods(
    allowed: str, required: str, rules: list[IpRule], accepted: bool
) -> None:
    authentication = ip(*rules, allowed=allowed, required=required)
    world = World(authentication=authentication)
    client = world.open()
    client.send(connect_request(b"old", (3, 13)))
    if accepted:
        assert client.transport.take() == b"\x01\x04\x04\x07#old#d1"
    else:
        assert refused(client) == AUTH
        assert world.sessions.count == 0


def pword(allowed: str = "PWORD", required: str = "") -> Authentication:
    return Authentication.build(
        allowed.split(),
        required.split(),
        passwords={b"bob": b"crypted"},
        verify=lambda password, crypted: (password, crypted) == (b"secret", b"crypted"),
    )


def login_data(user: bytes, password: bytes) -> bytes:
    return user.ljust(32, b"\0") + password.ljust(8, b"\0")


@pytest.mark.parametrize(
    ("user", "password", "accepted"),
    [
        (b"bob", b"secret", True),
        (b"bob", b"wrong", False),
        (b"eve", b"secret", False),
        (b"", b"", False),
        (b"b" * 32, b"p" * 8, False),
    ],
)
@pytest.mark.parametrize("piece", [1, 40])
def test_pword_method(user: bytes, password: bytes, accepted: bool, piece: int) -> None:
    world = World(authentication=pword())
    client = world.open()
    client.send(connect_request(b"x") + choice("PWORD"))
    assert client.transport.take() == b"\x06PWORD "
    data = login_data(user, password)
    for at in range(0, len(data), piece):
        client.send(data[at : at + piece])
    answer = client.transport.take()
    assert answer == (b"\x01" + ACCEPT + b"\x05#x#d1" if accepted else b"\x00" + AUTH)
    assert client.transport.closed == (not accepted)


def test_all_methods_are_run_even_if_the_first_has_failed() -> None:
    authentication = Authentication.build(
        ("IP", "PWORD"),
        (),
        AccessRules((ELSEWHERE,)),
        {b"bob": b"crypted"},
        lambda password, crypted: True,
    )
    client = World(authentication=authentication).open()
    client.send(connect_request(b"x") + choice("IP", "PWORD"))
    assert client.transport.take() == b"\x09IP PWORD "
    client.send(login_data(b"bob", b"any"))
    assert refused(client) == b"\x01" + AUTH


def test_password_that_never_comes_blocks_nobody_and_is_rejected_in_the_end() -> None:
    world = World(authentication=pword("PWORD NULL"))
    slow = world.open()
    slow.send(connect_request(b"slow") + choice("PWORD") + login_data(b"bob", b"")[:32])
    slow.transport.take()
    other = world.open()
    other.send(connect_request(b"x") + choice("NULL"))
    assert other.session.operational
    world.timer(30)
    assert refused(slow) == AUTH


def test_old_client_cannot_pass_a_required_password() -> None:
    client = World(authentication=pword("NULL", "PWORD")).open()
    client.send(connect_request(b"old", (3, 13)))
    assert refused(client) == AUTH


def test_pword_is_unknown_without_a_verifier() -> None:
    authentication = Authentication.build(("NULL", "PWORD"), ("PWORD",))
    assert login(authentication, "PWORD") == b"\x05NULL " + AUTH
    assert not authentication.allows_password(b"", b"")


def test_reload_changes_methods_for_later_clients() -> None:
    from session_fakes import configuration

    world = World()
    world.connect(b"before")
    world.sessions.reconfigure(configuration(allowed_auth_methods=("NULL", "IP")))
    client = world.open()
    client.send(connect_request(b"after"))
    assert client.transport.take() == b"\x08NULL IP "


def test_handshake_takes_no_event_after_its_end() -> None:
    taken = itertools.count()
    handshake = Handshake(
        Authentication(),
        lambda name: SpreadCode.REJECT_QUOTA if next(taken) else name,
        b"d1",
        (4, 4, 0),
        PeerAddress(0, 1),
        RecordingAlarms(),
    )
    handshake.receive(b"\x01\x01")
    assert handshake.state is State.REFUSED
    assert handshake.take_output() == VERSION
    handshake.receive(connect_request(b"x"))
    handshake.expire()
    handshake.end_of_file()
    assert handshake.take_output() == b""
    assert handshake.state is State.REFUSED
