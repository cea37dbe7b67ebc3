"""The client against recorded conversations: what it sends, what it understands."""

import json
import struct
from collections import defaultdict

import pytest
from recorded import VECTORS

from txspread.client.authentication import IPMethod, NullMethod, PasswordMethod
from txspread.client.errors import SpreadError
from txspread.client.messages import (
    DataMessage,
    MembershipMessage,
    RejectMessage,
    SelfLeave,
    TransitionMessage,
    name_bytes,
)
from txspread.client.protocol import ClientSession, SessionState
from txspread.wire.constants import SpreadCode
from txspread.wire.identifiers import format_address

FILES = sorted((VECTORS / "client").glob("*.json"))
NOT_OURS = {
    # A client of this library cannot be made to say these things.
    "handshake-name-late",
    "handshake-truncated",
    "handshake-timeout",
    "reject-auth-empty-choice",
    "reject-auth-not-allowed",
    "reject-auth-short-choice",
    "reject-illegal-name-char",
    "reject-illegal-name-highbit",
    "reject-illegal-name-pipelined",
    "reject-illegal-name-short",
    "reject-illegal-name-too-long",
}


def conversations():
    """Each connection of a client of version 3.16 or later, with its events."""
    for file in FILES:
        by_connection = defaultdict(list)
        for event in json.loads(file.read_text())["events"]:
            if event["dir"] != "note":
                by_connection[event.get("conn", "")].append(event)
        for label, events in by_connection.items():
            version = events[0].get("fields", {}).get("version")
            if file.stem not in NOT_OURS and version and tuple(version) >= (3, 16):
                yield pytest.param(events, id=f"{file.stem}-{label}" if label else file.stem)


def stream(events, direction):
    return b"".join(bytes.fromhex(event["hex"]) for event in events if event["dir"] == direction)


def session_for(events):
    """A session that asks for what the recorded client asked for."""
    request = events[0]["fields"]
    choice = next((e["fields"]["methods"] for e in events if e["what"] == "auth choice"), ["NULL"])
    sent = stream(events, "c2d")
    password_at = len(bytes.fromhex(events[0]["hex"])) + 90
    made = {
        "NULL": NullMethod,
        "IP": IPMethod,
        "PWORD": lambda: PasswordMethod(
            sent[password_at : password_at + 32].rstrip(b"\0"),
            sent[password_at + 32 : password_at + 40].rstrip(b"\0"),
        ),
    }
    return ClientSession(
        bytes.fromhex(events[0]["hex"])[5:],
        membership=bool(request["flags"] & 1),
        priority=request["flags"] >> 4,
        methods=[made[name]() for name in choice],
        max_groups=100,
        max_total=143200,
    )


def feed(session, data, step):
    """Give a session bytes in pieces; return messages, what it sent, and its error."""
    messages, sent = [], session.data_to_send()
    try:
        for at in range(0, len(data), step):
            messages += session.receive(data[at : at + step])
            sent += session.data_to_send()
    except SpreadError as problem:
        return messages, sent, problem
    return messages, sent, None


CONVERSATIONS = list(conversations())


def test_there_are_conversations():
    assert len(CONVERSATIONS) > 50


@pytest.mark.parametrize("step", [1, 7, 48, 1 << 20])
@pytest.mark.parametrize("events", CONVERSATIONS)
def test_a_recorded_conversation_is_understood_however_it_is_cut(events, step):
    data = stream(events, "d2c")
    if step < 48 and len(data) > 20000:
        step = 1009
    messages, sent, problem = feed(session := session_for(events), data, step)
    units = [event for event in events if event["dir"] == "d2c" and event["hex"]]
    expected = [
        e for e in units if "num_groups" in e["fields"] or e["what"] == "bytes before close"
    ]
    if problem is not None:
        assert isinstance(problem, SpreadError)
        assert problem.code == expected_code(units, session)
        assert session.state is SessionState.CLOSED
        return
    group = next((e["fields"]["private_group"] for e in units if e["what"] == "private group"), "")
    assert session.private_group == group
    assert len(messages) == len(expected)
    for message, event in zip(messages, expected, strict=True):
        check_message(message, event, group)
    if events[0]["fields"]["version"] == [4, 4, 0]:
        assert stream(events, "c2d").startswith(sent)


def expected_code(units, session):
    last = int.from_bytes(bytes.fromhex(units[-1]["hex"])[-1:], "little", signed=True)
    if last == 0:
        return SpreadCode.REJECT_AUTH
    return SpreadCode(last)


def check_message(message, event, private_group):
    fields = event["fields"]
    if not fields:
        return
    frame = bytes.fromhex(event["hex"])
    kind = int(fields["type"], 16) & ~0x80000080
    if kind & 0x400000:
        assert isinstance(message, RejectMessage)
        assert message.service_type == (int(fields["old_type"], 16) & ~0x80000080) | 0x400000
        assert message.groups[-1] == private_group == message.sender
    elif kind & 0x3F:
        assert isinstance(message, DataMessage)
        assert message.service_type == kind
        assert message.sender == fields["private_group"]
        assert message.mess_type == fields["mess_type"]
        assert message.body == frame[len(frame) - fields["data_len"] :]
        assert message.byte_order == ("<" if frame[40] & 0x80 else ">")
        assert [name_bytes(name) for name in message.groups] == [
            frame[at : at + 32].partition(b"\0")[0]
            for at in range(48, 48 + 32 * fields["num_groups"], 32)
        ]
    elif kind == 0x200:
        assert isinstance(message, SelfLeave)
        assert message.group == fields["private_group"]
    elif kind & 0x2000:
        assert isinstance(message, TransitionMessage)
        check_group_id(message.group_id, fields["body"]["group_id"])
    else:
        assert isinstance(message, MembershipMessage)
        body = fields["body"]
        assert list(message.members) == fields["groups"]
        assert [list(names) for names in message.vs_sets] == body["vs_sets"]
        check_group_id(message.group_id, body["group_id"])
        listed = fields["groups"]
        assert message.index == (listed.index(private_group) if private_group in listed else -1)
        if message.caused_by_network:
            assert private_group in message.vs_set
        else:
            assert message.changed_member == body["vs_sets"][0][0]


def check_group_id(group_id, recorded):
    assert format_address(group_id.proc_id) == recorded["proc_id"]
    assert (group_id.time, group_id.index) == (recorded["time"], recorded["index"])


LEGAL = [
    param
    for param in CONVERSATIONS
    if not str(param.id).startswith(("illegal-", "unchecked-names-A", "type-bits-passed"))
]


@pytest.mark.parametrize("events", LEGAL)
def test_the_same_calls_make_the_recorded_frames(events):
    session = session_for(events)
    feed(session, stream(events, "d2c"), 1 << 20)
    if session.state is not SessionState.OPEN:
        pytest.skip("the recorded client was refused")
    for event in events:
        fields = event["fields"]
        if event["dir"] != "c2d" or "num_groups" not in fields or fields["byte_order"] == "big":
            continue
        frame = bytes.fromhex(event["hex"])
        again = frame_again(session, frame, fields)
        assert again.hex() == without_garbage(frame).hex()


def frame_again(session, frame, fields):
    """The frame that the library makes for the same call."""
    kind = int(fields["type"], 16) & ~0x80000080
    names = [
        frame[at : at + 32].partition(b"\0")[0]
        for at in range(48, 48 + 32 * fields["num_groups"], 32)
    ]
    if kind == 0x10000:
        return session.join(names[0])
    if kind == 0x20000:
        return session.leave(names[0])
    if kind == 0x40000:
        return session.disconnect()
    hint = struct.unpack_from("<I", frame, 40)[0] >> 8 & 0xFFFF
    mess_type = hint - 0x10000 if hint & 0x8000 else hint
    return session.multicast(kind, names, frame[48 + 32 * len(names) :], mess_type)


def without_garbage(frame):
    """The frame with what stands behind a name's NUL zeroed."""
    (count,) = struct.unpack_from("<i", frame, 36)
    parts = [frame[:4], clean(frame[4:36]), frame[36:48]]
    end = 48 + 32 * count
    parts += [clean(frame[at : at + 32]) for at in range(48, end, 32)]
    return b"".join([*parts, frame[end:]])


def clean(field):
    return field.partition(b"\0")[0].ljust(32, b"\0")
