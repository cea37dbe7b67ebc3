"""The flush layer against what upstream's two flush_user programs said.

Those programs read only when their user tells them to, so what had arrived at a
connection was not always known to it when it sent: here messages are read as late as
the recorded sends allow.
"""

import json
from collections import deque

import pytest
from recorded import VECTORS

from txspread.client.errors import SpreadError
from txspread.client.flush_group import FlushRequest, View
from txspread.client.flush_session import FlushSession
from txspread.client.frames import FrameParser
from txspread.client.messages import DataMessage
from txspread.client.requests import RequestEncoder


class Member:
    def __init__(self, private_group):
        self.session = FlushSession(private_group)
        self.parser = FrameParser(private_group)
        self.encoder = RequestEncoder(private_group.encode())
        self.unread = deque()
        self.delivered = []

    def arrived(self, frame):
        self.unread += self.parser.feed(frame)

    def read(self):
        self.session.receive(self.unread.popleft())
        self.delivered += self.session.events
        self.session.events.clear()

    def until(self, done):
        """Read until a call succeeds or something is to be sent."""
        while not self.session.outgoing:
            try:
                done()
            except SpreadError:
                self.read()

    def made(self):
        message = self.session.outgoing.popleft()
        return self.encoder.multicast(
            message.service_type, message.groups, message.body, message.mess_type
        )


def send(session, fields, frame):
    """Send what the program sent."""
    kind = int(fields["type"], 16) & ~0x80000080
    body = frame[48 + 32 * fields["num_groups"] :]
    mess_type = fields.get("fl_orig_mess_type", fields["mess_type"])
    if "user_body_hex" in fields:
        body = bytes.fromhex(fields["user_body_hex"])
    if kind & 0x40000000:
        target = frame[-32:].partition(b"\0")[0]
        if "user_body_hex" not in fields:
            body = body[:-32]
        session.subgroupcast(kind & ~0x40000000, target, fields["groups"], body, mess_type)
    else:
        session.multicast(kind, fields["groups"][0], body, mess_type)


@pytest.mark.parametrize("name", ["fl-two-members", "fl-vulnerable"])
def test_the_layer_sends_the_recorded_bytes_when_the_program_does_the_same(name):
    events = json.loads((VECTORS / "client" / f"{name}.json").read_text())["events"]
    members = {}
    compared = 0
    for event in events:
        fields = event.get("fields", {})
        if event["what"] == "private group":
            members[event["conn"]] = Member(fields["private_group"])
        if "num_groups" not in fields:
            continue
        member = members[event["conn"]]
        frame = bytes.fromhex(event["hex"])
        if event["dir"] == "d2c":
            member.arrived(frame)
        elif fields["type_names"] == "LEAVE":
            while not member.session._groups:
                member.read()
            member.session.leave(fields["groups"][0])
        elif fields["type_names"] not in ("JOIN", "KILL"):
            if fields.get("fl") in ("FLUSH_OK", "FLUSH_RECV"):
                member.until(lambda m=member, f=fields: m.session.flush(f["groups"][0]))
            else:
                member.until(lambda m=member, f=fields, b=frame: send(m.session, f, b))
            assert member.made().hex() == frame.hex()
            compared += 1
    assert compared >= 10
    for member in members.values():
        while member.unread:
            member.read()
        assert any(isinstance(item, View) and len(item.members) == 2 for item in member.delivered)
        data = [item for item in member.delivered if isinstance(item, DataMessage)]
        assert all(item.mess_type > -32766 for item in data)
        if name == "fl-vulnerable":
            assert [len(item.body) for item in data] == [20] * 10 + [5] * 10
            assert {item.mess_type for item in data} == {2}
    first = next(iter(members.values())).delivered
    assert [type(item) for item in first[:3]] == [View, FlushRequest, View]
