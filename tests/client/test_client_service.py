"""The service that connects again."""

import pytest
from daemon_processes import daemon_command, running_daemon

from txspread.client import (
    AGREED_MESS,
    Connected,
    ConnectionClosed,
    CouldNotConnect,
    DataMessage,
    Disconnected,
    IllegalGroup,
    IllegalSession,
    MembershipMessage,
    SpreadService,
    connect,
)

pytest_plugins = ["client_fixtures"]


def test_a_session_is_kept_and_ends_with_the_service(run, reactor, daemon, unique):
    async def scenario():
        room = unique("room")
        service = SpreadService([daemon.tcp], unique("a"), reactor=reactor)
        with pytest.raises(ConnectionClosed):
            service.multicast(AGREED_MESS, room, b"")
        service.join(room)
        waiting = service.connected()
        service.startService()
        connection = await waiting
        notice = await service.receive()
        assert notice == Connected(connection.private_group, daemon.tcp, (room,), False)
        assert isinstance(await service.receive(), MembershipMessage)
        service.multicast(AGREED_MESS, room, b"hello")
        assert (await service.receive()).body == b"hello"
        with pytest.raises(IllegalGroup):
            service.join("not a name")
        receiver = service.receive()
        await service.stopService()
        with pytest.raises(IllegalSession):
            await receiver
        assert [event async for event in service] == []
        assert not connection.is_open

    run(scenario())


def test_a_gap_is_told_and_groups_are_joined_again(run, reactor, request, tmp_path, unique):
    command = daemon_command("txspread", request)
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    with (
        running_daemon(command, first, "d1") as one,
        running_daemon(command, second, "d2") as two,
    ):

        async def scenario():
            service = SpreadService(
                ["1@127.0.0.1", one.tcp, two.tcp],
                "worker",
                groups=["jobs", "news"],
                first_delay=0.05,
                reactor=reactor,
            )
            service.startService()
            notice = await service.receive()
            assert notice == Connected("#worker#d1", one.tcp, ("jobs", "news"), False)
            for _ in range(2):
                assert isinstance(await service.receive(), MembershipMessage)
            service.leave("news")
            await service.receive()
            one.process.kill()
            lost = await service.receive()
            assert isinstance(lost, Disconnected)
            assert lost.private_group == "#worker#d1"
            assert isinstance(lost.reason, ConnectionClosed)
            notice = await service.receive()
            assert notice == Connected("#worker#d2", two.tcp, ("jobs",), True)
            view = await service.receive()
            assert (view.group, view.members) == ("jobs", ("#worker#d2",))
            await service.stopService()

        run(scenario())


def test_after_the_given_rounds_it_gives_up(run, reactor):
    async def scenario():
        service = SpreadService(
            ["1@127.0.0.1", "2@127.0.0.1"], rounds=2, first_delay=0.01, reactor=reactor
        )
        waiting = service.connected()
        service.startService()
        with pytest.raises(CouldNotConnect):
            await service.receive()
        for late in (waiting, service.connected()):
            with pytest.raises(CouldNotConnect):
                await late
        await service.stopService()

    run(scenario())


def test_it_can_be_stopped_while_it_waits_and_started_again(run, reactor, daemon, unique):
    async def scenario():
        service = SpreadService(["1@127.0.0.1"], first_delay=60, reactor=reactor)
        service.startService()
        waiting = service.receive()
        await service.stopService()
        with pytest.raises(IllegalSession):
            await waiting
        service.daemons = (daemon.tcp,)
        service.startService()
        assert isinstance(await service.receive(), Connected)
        await service.stopService()

    run(scenario())


def test_events_that_nobody_takes_stop_the_reading(run, reactor, daemon, unique):
    async def scenario():
        name = unique("b")
        service = SpreadService([daemon.tcp], name, event_limit=10, reactor=reactor)
        service.startService()
        await service.receive()
        sender = await connect(daemon.tcp, unique("c"), membership=False, reactor=reactor)
        target = service.connection.private_group
        for number in range(500):
            await sender.drained()
            sender.multicast(AGREED_MESS, target, b"x" * 10_000, number)
        sender.multicast(AGREED_MESS, sender.private_group, b"")
        await sender.receive()
        for number in range(500):
            message = await service.receive()
            assert isinstance(message, DataMessage)
            assert message.mess_type == number
        await sender.disconnect()
        await service.stopService()

    run(scenario())


def test_a_service_needs_a_daemon():
    with pytest.raises(ValueError, match="at least one"):
        SpreadService([])
