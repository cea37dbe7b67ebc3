"""The flush layer over real connections."""

import pytest

from txspread.client import (
    AGREED_MESS,
    FIFO_MESS,
    ConnectionClosed,
    DataMessage,
    IllegalGroup,
    SelfLeave,
    ServiceType,
    connect,
)
from txspread.client.errors import (
    IllegalMessageType,
    IllegalReceivers,
    IllegalService,
    IllegalState,
)
from txspread.client.flush import (
    FlushConnection,
    FlushRequest,
    FlushTransition,
    View,
    connect_flush,
)

pytest_plugins = ["client_fixtures"]


async def next_of(connection, kind):
    event = await connection.receive()
    assert isinstance(event, kind), event
    return event


def test_views_are_agreed_on_and_messages_stay_in_them(run, reactor, daemon, unique):
    async def scenario():
        room = unique("room")
        one = await connect_flush(daemon.tcp, unique("a"), reactor=reactor)
        one.join(room)
        first = await next_of(one, View)
        assert first.members == first.vs_set == (one.private_group,)
        assert first.service_type == 0x1100
        two = await connect_flush(daemon.tcp, unique("b"), reactor=reactor)
        two.join(room)
        assert (await next_of(one, FlushRequest)).group == room
        one.multicast(FIFO_MESS, room, b"still in the old view", 3)
        assert (await next_of(one, DataMessage)).mess_type == 3
        one.flush(room)
        with pytest.raises(IllegalState):
            one.multicast(FIFO_MESS, room, b"too late")
        with pytest.raises(IllegalState):
            one.flush(room)
        for member in (one, two):
            view = await next_of(member, View)
            assert view.vs_set == (two.private_group,)
            assert view.members[view.index] == member.private_group
        two.multicast(FIFO_MESS, room, [b"now", b" both"], 4)
        for member in (one, two):
            message = await next_of(member, DataMessage)
            assert (message.body, message.mess_type) == (b"now both", 4)
            assert message.service_type == FIFO_MESS
        one.subgroupcast(AGREED_MESS, room, [two.private_group], b"you only", 5)
        message = await next_of(two, DataMessage)
        assert message.groups == (two.private_group, room)
        assert (message.body, message.mess_type) == (b"you only", 5)
        one.multicast(AGREED_MESS, two.private_group, b"private")
        assert (await next_of(two, DataMessage)).body == b"private"
        await two.disconnect()
        await next_of(one, FlushRequest)
        await next_of(one, FlushTransition)
        one.flush(room)
        view = await next_of(one, View)
        assert view.service_type & ServiceType.CAUSED_BY_DISCONNECT
        one.leave(room)
        await next_of(one, SelfLeave)
        await one.disconnect()
        assert [event async for event in one] == []

    run(scenario())


def test_calls_that_upstream_refuses_are_refused(run, reactor, daemon, unique):
    async def scenario():
        room = unique("room")
        member = await connect_flush(daemon.tcp, unique("c"), reactor=reactor)
        for call in (
            lambda: member.multicast(FIFO_MESS, room, b""),
            lambda: member.leave(room),
            lambda: member.flush(room),
        ):
            with pytest.raises(IllegalGroup):
                call()
        member.join(room)
        await next_of(member, View)
        with pytest.raises(IllegalGroup):
            member.join(room)
        with pytest.raises(IllegalService):
            member.multicast(FIFO_MESS | ServiceType.REJECT_MESS, room, b"")
        with pytest.raises(IllegalMessageType):
            member.multicast(FIFO_MESS, room, b"", -32766)
        with pytest.raises(IllegalReceivers):
            member.subgroupcast(FIFO_MESS, room, ["#nobody#here"], b"")
        plain = await connect(daemon.tcp, unique("d"), membership=False, reactor=reactor)
        with pytest.raises(ValueError, match="membership"):
            FlushConnection(plain)
        await plain.disconnect()
        await member.disconnect()

    run(scenario())


def test_a_program_that_does_not_take_events_stops_the_reading(run, reactor, daemon, unique):
    async def scenario():
        connection = await connect(daemon.tcp, unique("e"), reactor=reactor)
        member = FlushConnection(connection, event_limit=10)
        room = unique("room")
        member.join(room)
        await next_of(member, View)
        other = await connect_flush(daemon.tcp, unique("f"), reactor=reactor)
        for number in range(500):
            await other.drained()
            other.multicast(AGREED_MESS, member.private_group, b"x" * 10_000, number)
        other.multicast(AGREED_MESS, other.private_group, b"")
        await other.receive()
        seen = [await next_of(member, DataMessage) for _ in range(500)]
        assert [message.mess_type for message in seen] == list(range(500))
        await member.disconnect()
        await other.disconnect()

    run(scenario())


def test_the_end_of_the_daemon_is_told(run, reactor, own_daemon):
    async def scenario():
        member = await connect_flush(own_daemon.tcp, "z", reactor=reactor)
        waiting = member.receive()
        own_daemon.process.kill()
        with pytest.raises(ConnectionClosed):
            await waiting
        with pytest.raises(ConnectionClosed):
            await member.receive()

    run(scenario())
