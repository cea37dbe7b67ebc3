"""Every recorded unit of the client stream decodes to its fields and encodes back."""

from __future__ import annotations

import pytest
from wire_vectors import address, files, load, name_in, name_of, order_of

from txspread.wire.byteorder import byte_order_of
from txspread.wire.constants import SpreadCode
from txspread.wire.errors import ProtocolError
from txspread.wire.identifiers import GroupId
from txspread.wire.layouts import message as layouts
from txspread.wire.layouts import session as handshake
from txspread.wire.membership_message import MembershipBody, decode_group_id, encode_group_id
from txspread.wire.message import (
    MessageHeader,
    encode_message,
    encode_reject,
    field_name,
    message_groups,
    rejected_type,
)
from txspread.wire.session import (
    AcceptReply,
    ConnectRequest,
    HandshakeError,
    decode_auth_choice,
    decode_auth_list,
    decode_password,
    encode_accept,
    encode_auth_choice,
    encode_auth_list,
    encode_password,
)

vectors = pytest.mark.parametrize("path", files("client"), ids=name_of)


def messages(path):
    for event in load(path)["events"]:
        if "type" in event["fields"]:
            yield bytes.fromhex(event["hex"]), event["fields"]


def half_marked(data):
    return data[0] >> 7 != data[3] >> 7


def cut_short(fields):
    """Frames sent without what their header promises, or with counts nobody can send."""
    return fields["num_groups"] < 0 or fields["data_len"] < 0


def latin(names):
    return [name.decode("latin-1") for name in names]


@vectors
def test_messages_decode_to_the_recorded_fields(path):
    for data, fields in messages(path):
        if half_marked(data):
            with pytest.raises(ProtocolError):
                MessageHeader.decode(data)
            continue
        header = MessageHeader.decode(data)
        assert header.type == int(fields["type"], 16)
        assert header.byteorder == order_of(fields)
        assert header.sender.decode("latin-1") == fields["private_group"]
        assert header.num_groups == fields["num_groups"]
        assert header.hint == int(fields["hint"], 16)
        assert header.data_len == fields["data_len"]
        if "mess_type" in fields:
            assert header.mess_type == fields["mess_type"]
        if not cut_short(fields) and len(data) >= 48 + 32 * header.num_groups:
            names = data if "old_type" not in fields else data[:48] + data[52:]
            assert latin(message_groups(names, header.num_groups)) == fields["groups"]
        if "old_type" in fields:
            assert rejected_type(data) == int(fields["old_type"], 16)


@vectors
def test_declared_messages_carry_every_byte(path):
    for data, fields in messages(path):
        if half_marked(data):
            continue
        order = byte_order_of(data)
        layout = layouts.REJECT if "old_type" in fields else layouts.MESSAGE
        header = layouts.HEADER.parse(data[:48], order)
        assert layouts.HEADER.build(header, order) == data[:48]
        assert name_in(header.sender) == fields["private_group"]
        if cut_short(fields) or len(data) != layout_size(fields):
            with pytest.raises(ProtocolError):
                layout.parse(data, order)
            continue
        parsed = layout.parse(data, order)
        assert layout.build(parsed, order) == data
        assert [name_in(name) for name in parsed.groups] == fields["groups"]


def layout_size(fields):
    extra = 4 if "old_type" in fields else 0
    return 48 + extra + 32 * fields["num_groups"] + fields["data_len"]


def without_garbage(data, fields):
    """The frame with zeros behind the NUL of each name, as this project writes it."""
    clean = bytearray(data)
    names = 52 if "old_type" in fields else 48
    for at in [4, *range(names, names + 32 * fields["num_groups"], 32)]:
        clean[at : at + 32] = field_name(data[at : at + 32]).ljust(32, b"\0")
    return bytes(clean)


@vectors
def test_codecs_write_the_recorded_messages(path):
    for data, fields in messages(path):
        if half_marked(data) or cut_short(fields) or len(data) != layout_size(fields):
            continue
        header = MessageHeader.decode(data)
        if "old_type" in fields:
            groups = [name.encode("latin-1") for name in fields["groups"]]
            original = encode_message(
                header.type & 0x40,
                header.sender,
                groups[:-1],
                data[52 + 32 * len(groups) :],
                header.mess_type,
            )
            original = original[:40] + data[40:44] + original[44:]
            assert encode_reject(original, rejected_type(data), groups) == data
            continue
        groups = message_groups(data, header.num_groups)
        body = data[48 + 32 * header.num_groups :]
        again = encode_message(
            header.type, header.sender, groups, body, header.mess_type, header.byteorder
        )
        if header.endian_mismatch is (header.byteorder == ">") and not header.hint & 0x7F00007F:
            assert again == without_garbage(data, fields)
        else:
            # a hint relayed from a client of the other order, or one that is illegal
            assert again[:40] + data[40:44] + again[44:] == without_garbage(data, fields)


@vectors
def test_membership_bodies_decode_and_encode(path):
    for data, fields in messages(path):
        recorded = fields.get("body")
        if recorded is None:
            continue
        header = MessageHeader.decode(data)
        body = data[48 + 32 * header.num_groups :]
        expected = recorded["group_id"]
        group_id = GroupId(address(expected["proc_id"]), expected["time"], expected["index"])
        assert decode_group_id(body, header.byteorder) == group_id
        if "vs_sets" not in recorded:
            assert encode_group_id(group_id, header.byteorder) == body
            continue
        decoded = MembershipBody.decode(body, header.byteorder)
        assert decoded.group_id == group_id
        assert decoded.local_vs_set_offset == recorded["local_vs_set_offset"]
        assert [latin(vs_set) for vs_set in decoded.vs_sets] == recorded["vs_sets"]
        assert len(decoded.vs_sets) == recorded["num_vs_sets"]
        assert decoded.local_vs_set in decoded.vs_sets
        assert decoded.encode(header.byteorder) == body
        declared = layouts.MEMBERSHIP_BODY.parse(body, header.byteorder)
        assert layouts.MEMBERSHIP_BODY.build(declared, header.byteorder) == body


@vectors
def test_handshake_units_decode_and_encode(path):
    for event in load(path)["events"]:
        data = bytes.fromhex(event["hex"])
        fields = event["fields"]
        if event["what"] == "connect request":
            check_connect_request(data, fields)
        elif "auth_list" in fields:
            check_auth_list(data, fields)
        elif "methods" in fields:
            methods = [name.encode() for name in fields["methods"]]
            assert decode_auth_choice(data) == tuple(methods)
            declared = handshake.AUTH_CHOICE.parse(data)
            assert handshake.AUTH_CHOICE.build(declared) == data
            if not any(name_field_has_garbage(slot) for slot in declared.slots):
                assert encode_auth_choice(methods) == data
        elif "code" in fields:
            assert handshake.RESULT.parse(data).code == fields["code"]
            assert handshake.RESULT.build({"code": fields["code"]}) == data


def name_field_has_garbage(slot):
    return slot != field_name(slot).ljust(len(slot), b"\0")


def refused(request):
    """The code that this project answers a connect request with."""
    try:
        ConnectRequest.decode(request)
    except HandshakeError as error:
        return error.code
    return None


# a name that comes in pieces is waited for, bytes behind it belong to what follows
PATIENCE = ("reject-illegal-name-short", "reject-illegal-name-pipelined")


@vectors
def test_requests_are_refused_with_the_code_that_upstream_sent(path):
    answers = {
        SpreadCode.REJECT_VERSION.to_bytes(1, "big", signed=True),
        SpreadCode.REJECT_ILLEGAL_NAME.to_bytes(1, "big", signed=True),
    }
    events = load(path)["events"]
    requests = [event for event in events if event["what"].startswith("connect request")]
    if path.stem.startswith(("reject-version", "reject-illegal-name")):
        sent = [bytes.fromhex(event["hex"]) for event in events if event["dir"] == "d2c"]
        (answer,) = [data for data in sent if data]
        assert answer in answers
        code = None if path.stem in PATIENCE else int.from_bytes(answer, "big", signed=True)
        assert [refused(bytes.fromhex(event["hex"])) for event in requests] == [code]
    else:
        assert all(refused(bytes.fromhex(event["hex"])) is None for event in requests)


def check_connect_request(data, fields):
    if refused(data) is not None:
        return
    decoded = ConnectRequest.decode(data)
    if decoded is None:
        # the recordings of truncated requests
        assert "name" not in fields or len(fields["name"]) < fields["name_len"]
        return
    request, used = decoded
    if "version" in fields:
        version = [request.major, request.minor, request.patch]
        assert version[: len(fields["version"])] == fields["version"]
        assert request.name == fields["name"].encode("latin-1")
        assert request.membership is (fields["flags"] & 0x81 == 1)
        assert request.priority == fields["flags"] >> 4
    if data[used - 2 - len(request.name)] & 0x0E == 0:
        assert request.encode() == data[:used]
    declared = handshake.CONNECT_REQUEST.parse(data)
    assert declared.name == request.name
    assert handshake.CONNECT_REQUEST.build(declared) == data[:used]


def check_auth_list(data, fields):
    whole = bytes([len(data)]) + data
    methods = fields["auth_list"].split()
    assert decode_auth_list(whole) == (tuple(name.encode() for name in methods), len(whole))
    assert encode_auth_list([name.encode() for name in methods]) == whole
    declared = handshake.AUTH_LIST.parse(whole)
    assert declared.methods.decode() == fields["auth_list"]
    assert handshake.AUTH_LIST.build(declared) == whole


@vectors
def test_accept_replies_decode_and_encode(path):
    replies: dict[str, list[tuple[bytes, dict]]] = {}
    units = ("accept", "daemon version", "private group")
    for event in load(path)["events"]:
        if event["dir"] == "d2c" and event["what"].startswith(units) and event["hex"]:
            fields = event["fields"]
            replies.setdefault(event.get("conn", ""), []).append(
                (bytes.fromhex(event["hex"]), fields)
            )
    for parts in replies.values():
        data = b"".join(part for part, _ in parts)
        if data[0] != SpreadCode.ACCEPT_SESSION:
            with pytest.raises(HandshakeError):
                AcceptReply.decode(data)
            continue
        code, version, length, group = (part for part, _ in parts[:4])
        data = code + version + length + group
        patch = len(version) == 3
        reply, used = AcceptReply.decode(data, patch=patch)
        assert used == len(data)
        assert reply.version == tuple(version)
        assert reply.private_group == group
        declared = handshake.ACCEPT_WITH_PATCH if patch else handshake.ACCEPT
        assert declared.build(declared.parse(data)) == data
        if patch:
            assert encode_accept(group, tuple(version)) == data
        else:
            assert encode_accept(group, (*version, 0), patch=False) == data


def test_password_units_decode_and_encode():
    users = 0
    for path in files("client"):
        units = [
            (bytes.fromhex(event["hex"]), event["fields"])
            for event in load(path)["events"]
            if "user" in event["fields"] or "password" in event["fields"]
        ]
        for (user, user_fields), (password, password_fields) in zip(
            units[::2], units[1::2], strict=True
        ):
            expected = (user_fields["user"].encode(), password_fields["password"].encode())
            assert decode_password(user + password) == expected
            assert encode_password(*expected) == user + password
            users += 1
    assert users
