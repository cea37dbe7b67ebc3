"""Hypothesis strategies for everything that travels."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from txspread.wire.dialect import DIALECTS
from txspread.wire.groups import DaemonEntry, GroupEntry, GroupsMessage
from txspread.wire.identifiers import GroupId, MembershipId
from txspread.wire.membership import (
    Form1,
    Form2,
    Join,
    Representative,
    RepresentativeType,
    RingBlock,
)
from txspread.wire.membership_message import MembershipBody
from txspread.wire.monitor import Status
from txspread.wire.token import RetransmissionRequest, Token

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

u16 = st.integers(0, 0xFFFF)
i16 = st.integers(-0x8000, 0x7FFF)
u32 = st.integers(0, 0xFFFFFFFF)
i32 = st.integers(-0x80000000, 0x7FFFFFFF)
orders = st.sampled_from(["<", ">"])
dialects = st.sampled_from(DIALECTS)

names = st.binary(max_size=32).filter(lambda name: b"\0" not in name)
membership_ids = st.builds(MembershipId, u32, i32)
group_ids = st.builds(GroupId, u32, i32, i32)
NOT_MARKER = 0xFFFFFFFF & ~0x80000080

requests = st.builds(
    RetransmissionRequest, membership_ids, u32, i16, st.lists(i32, max_size=6).map(tuple)
)
tokens = st.builds(
    Token,
    u32.map(lambda word: word & NOT_MARKER & ~0x3000),
    u32,
    u32,
    membership_ids,
    i32,
    i32,
    u32,
    i16,
    u32,
    st.lists(requests, max_size=4).map(tuple),
)
reps = st.builds(Representative, u32, st.sampled_from(list(RepresentativeType)), i16)
joins = st.builds(
    Join, st.lists(u32, max_size=128).map(tuple), st.lists(reps, max_size=25).map(tuple), i16
)


@st.composite
def ring_blocks(draw):
    commit = draw(st.lists(u32, min_size=1, max_size=5).map(tuple))
    return RingBlock(
        draw(membership_ids),
        draw(i32),
        draw(i32),
        draw(i32),
        draw(st.lists(i32, max_size=5).map(tuple)),
        commit,
        draw(st.integers(1, len(commit))),
    )


# few enough for the tokens of 4.3, which fit one packet
rings = st.lists(ring_blocks(), min_size=1, max_size=8).map(tuple)


@st.composite
def form1s(draw):
    members = draw(st.lists(u32, max_size=64).map(tuple))
    pending = draw(st.lists(u32, max_size=64).map(tuple))
    representatives = draw(st.lists(reps, max_size=25).map(tuple))
    return Form1(
        transmiter_id=draw(u32),
        proc_id=draw(u32),
        attempt=draw(membership_ids),
        seq=draw(i32),
        conf_hash=draw(u32),
        members=members,
        pending=pending,
        reps=representatives,
        rep_index=draw(st.integers(0, len(representatives))),
        rings=draw(rings),
        byteorder=draw(orders),
    )


@st.composite
def form2s(draw):
    return Form2(
        transmiter_id=draw(u32),
        proc_id=draw(u32),
        attempt=draw(membership_ids),
        seq=draw(i32),
        conf_hash=draw(u32),
        members=draw(st.lists(u32, max_size=64).map(tuple)),
        pending=draw(st.lists(u32, min_size=1, max_size=64).map(tuple)),
        future_memb_id=draw(membership_ids),
        rings=draw(rings),
        byteorder=draw(orders),
    )


daemon_entries = st.builds(DaemonEntry, u32, membership_ids, st.lists(names, max_size=4).map(tuple))
group_entries = st.builds(
    GroupEntry, names, group_ids, st.booleans(), st.lists(daemon_entries, max_size=4).map(tuple)
)
groups_messages = st.builds(
    GroupsMessage,
    st.binary(max_size=28).filter(lambda name: b"\0" not in name),
    st.integers(0, 128),
    membership_ids,
    st.none() | st.lists(u32, max_size=128).map(tuple),
    st.lists(group_entries, max_size=4).map(tuple),
    st.booleans(),
)
membership_bodies = st.builds(
    MembershipBody,
    group_ids,
    u32,
    st.lists(st.lists(names, max_size=4).map(tuple), max_size=4).map(tuple),
)


@st.composite
def statuses(draw):
    values = {name: draw(i32) for name in Status.__slots__ if not name.startswith("_")}
    for name in ("my_id", "leader_id"):
        values[name] = draw(u32)
    short = list(values)[list(values).index("membership_changes") :]
    values.update({name: draw(i16) for name in short})
    return Status(**values)
