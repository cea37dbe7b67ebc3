"""Recorded ring messages of the groups layer, and what clients were told."""

from __future__ import annotations

import pytest
from wire_vectors import address, files, load, name_in, name_of, order_of, plain

from txspread.wire.groups import GroupsMessage
from txspread.wire.identifiers import GroupId, MembershipId
from txspread.wire.layouts import groups as layouts
from txspread.wire.layouts.message import MESSAGE
from txspread.wire.membership_message import MembershipBody, decode_group_id
from txspread.wire.message import (
    MessageHeader,
    encode_message,
    message_groups,
    normalize,
    packet_type_of,
)

vectors = pytest.mark.parametrize("path", files("groups"), ids=name_of)


def memb_id(recorded):
    return MembershipId(address(recorded["proc"]), recorded["time"])


def group_id(recorded):
    return GroupId(address(recorded["proc"]), recorded["time"], recorded["index"])


def latin(names):
    return [name.decode("latin-1") for name in names]


def check_header(data, fields):
    header = MessageHeader.decode(data)
    assert header.type == int(fields["type"], 16)
    assert header.sender.decode("latin-1") == fields["name"]
    assert header.num_groups == fields["num_groups"]
    assert header.hint == int(fields["hint"], 16)
    assert header.data_len == fields["data_len"]
    if "mess_type" in fields:
        assert header.mess_type & 0xFFFF == fields["mess_type"]
    return header


@vectors
def test_ring_messages_decode_to_the_recorded_fields(path):
    for message in load(path)["daemon_messages"]:
        data = bytes.fromhex(message["hex"])
        header = check_header(data, message["fields"])
        assert header.byteorder == order_of(message["fields"])
        if message["kind"] == "groups":
            continue
        assert latin(message_groups(data, header.num_groups)) == message["fields"]["groups"]
        assert packet_type_of(header.type) == message["packet_type"]
        parsed = MESSAGE.parse(data)
        assert MESSAGE.build(parsed, header.byteorder) == data
        little = MessageHeader.decode(normalize(data))
        assert little.byteorder == "<"
        assert little.num_groups == header.num_groups
        assert little.data_len == header.data_len
        assert little.type == header.type | 0x80000080
        assert little.mess_type == header.mess_type
        assert normalize(data)[40:44] == data[40:44]


@vectors
def test_state_messages_decode_and_encode(path):
    for message in load(path)["daemon_messages"]:
        if message["kind"] != "groups":
            continue
        data = bytes.fromhex(message["hex"])
        fields = message["fields"]
        order = order_of(fields)
        state = GroupsMessage.decode(data)
        assert state.representative.decode() == fields["name"]
        assert state.set_size == fields["synced_set_size"]
        assert state.memb_id == memb_id(fields["memb_id"])
        assert state.last is (message["packet_type"] == 8)
        if fields["flag"]:
            assert state.synced_set == tuple(address(daemon) for daemon in fields["synced_set"])
        else:
            assert state.synced_set is None
        for entry, recorded in zip(state.groups, fields["groups"], strict=True):
            assert entry.name.decode("latin-1") == recorded["name"]
            assert entry.group_id == group_id(recorded["gid"])
            assert entry.changed == bool(recorded["changed"])
            for daemon, told in zip(entry.daemons, recorded["daemons"], strict=True):
                assert daemon.proc_id == address(told["proc"])
                assert daemon.memb_id == memb_id(told["memb_id"])
                assert latin(daemon.members) == told["members"]
        assert state.encode(order) == data
        declared = layouts.GROUPS_MESSAGE.parse(data)
        assert layouts.GROUPS_MESSAGE.build(declared, order) == data
        assert [name_in(group.start.name) for group in declared.groups] == [
            group["name"] for group in fields["groups"]
        ]
        assert plain(declared.preamble.flag) == fields["flag"]


@vectors
def test_client_messages_decode_and_encode(path):
    for message in load(path)["client_messages"]:
        data = bytes.fromhex(message["hex"])
        fields = message["fields"]
        header = check_header(data, fields)
        groups = message_groups(data, header.num_groups)
        assert latin(groups) == fields["groups"]
        body = data[48 + 32 * header.num_groups :]
        if "vs_sets" in fields:
            decoded = MembershipBody.decode(body)
            assert decoded.group_id == group_id(fields["gid"])
            assert [latin(vs_set) for vs_set in decoded.vs_sets] == fields["vs_sets"]
            assert len(decoded.vs_sets) == fields["num_vs_sets"]
            assert decoded.local_vs_set_offset == fields["local_vs_offset"]
            assert decoded.local_vs_set_index == fields["local_vs_index"]
            assert decoded.encode() == body
        elif "gid" in fields:
            assert decode_group_id(body) == group_id(fields["gid"])
        parsed = MESSAGE.parse(data)
        assert MESSAGE.build(parsed) == data
        again = encode_message(header.type, header.sender, groups, body, header.mess_type)
        assert again[:40] == data[:40]
        assert again[44:48] == data[44:48]
        assert len(again) == len(data)
