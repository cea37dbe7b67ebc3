"""Recorded conversations of upstream's daemon, played against this one."""

from __future__ import annotations

import pytest
from session_fakes import World, choice
from session_replay import Recording, load, names

SEVERAL_DAEMONS = names("network-*")
OTHER_VERSIONS = {"other-version-daemon-4.3.0": (4, 3, 0), "other-version-daemon-5.0.1": (5, 0, 1)}
DEVIATIONS = names(
    "quirk-*",
    "reject-illegal-name-short",
    "reject-illegal-name-pipelined",
    "reject-auth-short-choice",
    "unchecked-names",
    "type-bits-passed-through",
    "reject-message",
    "reject-quota",
)
SAME = [name for name in names("*") if name not in {*SEVERAL_DAEMONS, *OTHER_VERSIONS, *DEVIATIONS}]


@pytest.mark.parametrize("name", SAME)
def test_conversation_is_answered_byte_for_byte(name: str) -> None:
    Recording(name).play()


@pytest.mark.parametrize("piece", [1, 7, 47])
@pytest.mark.parametrize("name", [name for name in SAME if name != "largest-message"])
def test_cutting_the_stream_anywhere_changes_nothing(name: str, piece: int) -> None:
    Recording(name, piece=piece).play()


def test_largest_message_passes_in_pieces_of_a_socket_buffer() -> None:
    Recording("largest-message", piece=65536).play()


@pytest.mark.parametrize("name", OTHER_VERSIONS)
def test_other_daemon_versions_differ_in_the_version_they_claim(name: str) -> None:
    Recording(name, version=OTHER_VERSIONS[name]).play()


def test_there_are_recordings() -> None:
    assert len(SAME) > 40


# --- where this daemon does better, see docs/protocol/client-session.md section 9


def test_44_groups_are_delivered_where_upstream_forgets_them() -> None:
    recording = Recording("quirk-44-groups")
    events = recording.vector["events"]
    quiet = next(number for number, event in enumerate(events) if event["dir"] == "note")
    sent = bytes.fromhex(events[quiet - 1]["hex"])
    recording.play(events[: quiet - 1])
    recording.send("A", sent)
    assert recording.take("A", len(sent)) == sent


def test_required_method_cannot_be_got_round_with_an_old_version() -> None:
    recording = Recording("quirk-required-bypass-3.13-client")
    recording.send(None, bytes.fromhex(recording.vector["events"][0]["hex"]))
    _, transport = recording.client(None)
    assert transport.written == b"\xf7"
    assert transport.closed
    assert recording.sessions.count == 0


def test_name_that_arrives_late_is_waited_for() -> None:
    recording = Recording("reject-illegal-name-short")
    recording.send(None, bytes.fromhex(recording.vector["events"][0]["hex"]))
    assert recording.take(None, 100) == b""
    recording.send(None, b"c" + choice("NULL"))
    assert recording.take(None, 100) == b"\x05NULL \x01\x04\x04\x00\x07#abc#d1"


def test_name_that_never_comes_is_closed_without_a_byte() -> None:
    recording = Recording("reject-illegal-name-short")
    recording.send(None, bytes.fromhex(recording.vector["events"][0]["hex"]))
    recording.pass_time()
    _, transport = recording.client(None)
    assert transport.closed
    assert transport.written == b""


def test_choice_may_be_pipelined_behind_any_name() -> None:
    recording = Recording("reject-illegal-name-pipelined")
    recording.send(None, bytes.fromhex(recording.vector["events"][0]["hex"]))
    assert recording.take(None, 100) == b"\x05NULL \x01\x04\x04\x00\x07#abc#d1"


def test_choice_may_come_in_pieces() -> None:
    recording = Recording("reject-auth-short-choice")
    half = next(e for e in recording.vector["events"] if e["what"].startswith("first half"))
    recording.send(None, bytes.fromhex(recording.vector["events"][0]["hex"]))
    recording.send(None, bytes.fromhex(half["hex"]))
    assert recording.take(None, 6) == b"\x05NULL "
    assert recording.take(None, 100) == b""
    recording.send(None, bytes(45))
    assert recording.take(None, 100) == b"\x01\x04\x04\x00\x06#x3#d1"


def test_choice_that_stays_short_is_rejected_like_upstream_does_at_once() -> None:
    for how in ("time", "end"):
        recording = Recording("reject-auth-short-choice")
        half = next(e for e in recording.vector["events"] if e["what"].startswith("first half"))
        recording.send(None, bytes.fromhex(recording.vector["events"][0]["hex"]))
        recording.send(None, bytes.fromhex(half["hex"]))
        recording.take(None, 6)
        if how == "time":
            recording.pass_time()
        else:
            recording.end(None)
        _, transport = recording.client(None)
        assert transport.written == b"\xf7"
        assert transport.closed
        assert recording.sessions.count == 0


def _requests_of(name: str, what: str) -> list[bytes]:
    events = load(name)["events"]
    return [
        bytes.fromhex(event["hex"])
        for event in events
        if event["dir"] == "c2d" and event["what"].startswith(what)
    ]


@pytest.mark.parametrize("number", range(4))
def test_illegal_group_names_are_not_joined(number: int) -> None:
    joins = _requests_of("unchecked-names", "join")[:4]
    world = World()
    client = world.connect(b"a")
    client.send(joins[number])
    assert not client.alive
    assert world.groups.members == {}


def test_group_name_of_31_bytes_is_joined_and_one_of_32_is_not() -> None:
    joins = _requests_of("unchecked-names", "join")
    world = World()
    client = world.connect(b"a")
    client.send(joins[4])
    assert world.groups.members == {b"n" * 31: [b"#a#d1"]}
    client.send(joins[5])
    assert not client.alive


def test_requests_that_change_nothing_are_ignored_as_upstream_ignores_them() -> None:
    recording = Recording("unchecked-names")
    events = recording.vector["events"]
    start = next(number for number, event in enumerate(events) if "two groups" in event["what"])
    connects = [event for event in events[:start] if len(event["hex"]) <= 180]
    recording.play(event for event in connects if not event["what"].startswith("join"))
    recording.play(events[start:])


def test_bits_that_flush_programs_use_pass_and_membership_bits_do_not() -> None:
    recording = Recording("type-bits-passed-through")
    events = recording.vector["events"]
    forged = next(n for n, event in enumerate(events) if "CAUSED_BY_LEAVE" in event["what"])
    recording.play(events[:forged])
    others = [event for event in events[forged:] if event["what"].startswith("FIFO")]
    refused = [bytes.fromhex(event["hex"]) for event in others if event["dir"] == "c2d"]
    assert len(refused) == 7
    for message in refused:
        world = World()
        client = world.connect(b"a")
        client.send(message)
        assert not client.alive
        assert world.groups.delivered[:-1] == []


def test_refused_join_is_answered_with_the_recorded_reject_message() -> None:
    recording = Recording("reject-message")
    events = recording.vector["events"]
    refused = next(n for n, event in enumerate(events) if event["what"] == "REJECT")
    recording.sessions.join_allowed = lambda group: group != b"denyjoin"
    assert events[refused - 1]["fields"]["groups"] == ["denyjoin"]
    recording.play(events[: refused + 3])


def test_connection_998_is_rejected_before_it_says_anything() -> None:
    world = World()
    for number in range(997):
        world.connect(b"c%d" % number)
    late = world.open()
    assert late.transport.written.hex() == load("reject-quota")["events"][0]["hex"]
    assert late.transport.closed
    assert "Sess_accept: rejecting session due to quota" in world.alarms.texts
