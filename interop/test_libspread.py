"""Programs on upstream's client library, every call of it, on each daemon in turn."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from interop.libspread import (
    SIGNATURES,
    AuthFunction,
    ConnectError,
    GroupId,
    LibSpread,
    Mailbox,
    pieces,
)
from txspread.testing.processes import (
    DaemonProcess,
    DaemonRing,
    txspread_command,
    upstream_command,
    wait_until,
)
from txspread.wire.constants import ServiceType, SpreadCode

pytestmark = [pytest.mark.upstream, pytest.mark.timeout(300)]

JOIN = int(ServiceType.CAUSED_BY_JOIN | ServiceType.REG_MEMB_MESS)
LEAVE = int(ServiceType.CAUSED_BY_LEAVE | ServiceType.REG_MEMB_MESS)
DISCONNECT = int(ServiceType.CAUSED_BY_DISCONNECT | ServiceType.REG_MEMB_MESS)
NETWORK = int(ServiceType.CAUSED_BY_NETWORK | ServiceType.REG_MEMB_MESS)
SELF_LEAVE = int(ServiceType.CAUSED_BY_LEAVE)
TRANSITION = int(ServiceType.TRANSITION_MESS)
DROP_RECV = 0x01000000
SERVICES = [int(service) for service in (1, 2, 4, 8, 16, 32)]
LARGEST_BODY = 143_120
"""Bytes that fit a message to one group (docs/protocol/client-session.md section 3.4)."""

ACCEPT = AuthFunction(lambda mailbox, data: 1)
"""An authentication method's client side that has nothing to say; the library keeps it."""

_numbers = iter(range(1, 100_000))


def unique(prefix: str) -> str:
    return f"{prefix}{next(_numbers)}"


def connected(library: LibSpread, daemon: DaemonProcess, prefix: str = "c") -> Mailbox:
    return library.connect(daemon.location, unique(prefix))


@pytest.fixture
def pair(libspread: LibSpread, daemon: DaemonProcess) -> Iterator[tuple[Mailbox, Mailbox, bytes]]:
    """Two members of one group, with both views received."""
    one, two = connected(libspread, daemon), connected(libspread, daemon)
    group = unique("g").encode()
    assert one.join(group) == 0
    assert one.receive().service == JOIN
    assert two.join(group) == 0
    for each in (one, two):
        message = each.receive()
        assert message.service == JOIN
        assert message.sender == group
        assert set(message.groups) == {one.private_group, two.private_group}
    yield one, two, group
    one.disconnect()
    two.disconnect()


def test_a_program_that_uses_every_call(libspread: LibSpread, daemon: DaemonProcess) -> None:
    assert libspread.version() == (4, 4, 0)
    assert libspread.SP_set_auth_method(b"NULL", ACCEPT, None) == 1
    names = (ctypes.c_char_p * 1)(b"NULL")
    data = (ctypes.c_void_p * 1)(None)
    assert libspread.SP_set_auth_methods(1, names, (AuthFunction * 1)(ACCEPT), data) == 1
    one = connected(libspread, daemon, "one")
    two = libspread.connect(str(daemon.port), unique("two"), timeout=30.0)
    assert one.private_group.endswith(b"#d1")
    group, other = unique("g").encode(), unique("g").encode()
    assert one.join(group) == 0
    wait_until(lambda: one.poll() > 0)
    first = one.receive()
    assert two.join(group) == 0
    second = one.receive()
    assert (first.service, second.service) == (JOIN, JOIN)
    assert libspread.membership_of(second).vs_sets == ((two.private_group,),)
    assert libspread.membership_of_scattered(second) == libspread.membership_of(second)
    ids = [
        GroupId((ctypes.c_int * 3)(*libspread.membership_of(m).group_id)) for m in (first, second)
    ]
    assert libspread.SP_equal_group_ids(ids[0], ids[0]) == 1
    assert libspread.SP_equal_group_ids(ids[0], ids[1]) == 0
    assert evolve(two.receive(), mess_type=second.mess_type) == second  # the type is its index
    assert one.multicast(SERVICES[4], group, b"plain", 1) == 5
    assert one.scat_multicast(SERVICES[5], group, [b"in ", b"", b"pieces"], 2) == 9
    assert one.multigroup_multicast(SERVICES[2], [other, group], b"groups", 3) == 6
    assert one.multigroup_scat_multicast(SERVICES[3], [group, other], [b"both", b"!"], 4) == 5
    for each in (one, two):
        plain = each.receive()
        assert (plain.service, plain.body, plain.mess_type) == (SERVICES[4], b"plain", 1)
        assert (plain.sender, plain.groups) == (one.private_group, (group,))
        scattered = each.scat_receive([2, 3, 100])
        assert (scattered.service, scattered.body) == (SERVICES[5], b"in pieces")
        many = each.receive()
        assert (many.body, many.groups) == (b"groups", (other, group))
        both = each.scat_receive([1, 1000])
        assert (both.body, both.mess_type, both.endian_mismatch) == (b"both!", 4, 0)
    assert two.leave(group) == 0
    left = two.receive()
    assert (left.service, left.sender, left.result) == (SELF_LEAVE, group, 0)
    assert one.receive().service == LEAVE
    assert one.disconnect() == 0
    two.kill()
    assert two.poll() == SpreadCode.ILLEGAL_SESSION
    libspread.SP_error(int(SpreadCode.CONNECTION_CLOSED))
    assert libspread.called == set(SIGNATURES)


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_and_type_arrives_as_sent(
    pair: tuple[Mailbox, Mailbox, bytes], service: int
) -> None:
    one, two, group = pair
    for mess_type in (0, 1, 0x1234, 32767, -1, -32768):
        assert one.multicast(service, group, b"body", mess_type) == 4
        for each in (one, two):
            message = each.receive()
            assert (message.service, message.mess_type) == (service, mess_type)
            assert (message.sender, message.groups) == (one.private_group, (group,))
            assert (message.body, message.endian_mismatch) == (b"body", 0)


@pytest.mark.parametrize(
    "size",
    [0, 1, 1000, 1351, 1352, 1353, 1432, 10_000, 65_536, 100_000, 140_000, 143_000, LARGEST_BODY],
)
def test_bodies_of_every_size(
    pair: tuple[Mailbox, Mailbox, bytes], size: int, daemon: DaemonProcess, ours: DaemonProcess
) -> None:
    if size == LARGEST_BODY and daemon is not ours:
        pytest.skip("upstream's daemon ends itself after a few of these")
    one, two, group = pair
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    for service in (SERVICES[1], SERVICES[4], SERVICES[5]):
        assert one.multicast(service, group, body) == size
        assert one.scat_multicast(service, group, pieces(body, [size // 3, size // 2])) == size
        for each in (one, two):
            for message in (each.receive(), each.scat_receive([size // 2 + 1, size // 2 + 1])):
                assert message.result == size
                assert message.body == body


def test_self_discard_and_private_messages(pair: tuple[Mailbox, Mailbox, bytes]) -> None:
    one, two, group = pair
    discard = int(ServiceType.SELF_DISCARD)
    one.multicast(SERVICES[4] | discard, group, b"for the others")
    one.multicast(SERVICES[4], two.private_group, b"for you")
    two.multicast(SERVICES[4], one.private_group, b"an answer")
    assert two.receive().body == b"for the others"
    message = two.receive()
    assert (message.body, message.groups) == (b"for you", (two.private_group,))
    assert one.receive().body == b"an answer"


def test_each_member_gets_one_copy_whatever_the_targets(
    pair: tuple[Mailbox, Mailbox, bytes],
) -> None:
    one, two, group = pair
    targets = [group, b"nobody", two.private_group, group, b"#no#one", b"#malformed"]
    targets += [b"g%d" % number for number in range(37)]
    assert one.multigroup_multicast(SERVICES[4], targets, b"once") == 4
    one.multicast(SERVICES[4], group, b"next")
    for each in (one, two):
        message = each.receive()
        assert (message.body, message.groups) == (b"once", tuple(targets))
        assert each.receive().body == b"next"


def test_short_buffers(pair: tuple[Mailbox, Mailbox, bytes]) -> None:
    one, two, group = pair
    one.multigroup_multicast(SERVICES[4], [group, b"other", b"third"], b"0123456789")
    short = two.receive(size=4, max_groups=1)
    assert short.result in (SpreadCode.GROUPS_TOO_SHORT, SpreadCode.BUFFER_TOO_SHORT)
    whole = two.receive()
    assert (whole.body, whole.num_groups) == (b"0123456789", 3)
    one.multicast(SERVICES[4], group, b"0123456789")
    dropped = two.receive(size=4, flags=DROP_RECV)
    assert dropped.result == SpreadCode.BUFFER_TOO_SHORT
    one.multicast(SERVICES[4], group, b"in step")
    assert two.receive().body == b"in step"


def test_a_hundred_scattered_pieces(pair: tuple[Mailbox, Mailbox, bytes]) -> None:
    one, two, group = pair
    parts = [b"%d;" % number for number in range(100)]
    assert one.scat_multicast(SERVICES[4], group, parts) == len(b"".join(parts))
    assert two.scat_receive([4] * 100).body == b"".join(parts)


def test_codes_for_connections_that_are_refused(
    libspread: LibSpread, daemon: DaemonProcess
) -> None:
    def refused(location: str, name: str) -> int:
        with pytest.raises(ConnectError) as failure:
            libspread.connect(location, name, timeout=30.0)
        return failure.value.code

    name = unique("once")
    mailbox = libspread.connect(daemon.location, name)
    assert refused(daemon.location, name) == SpreadCode.REJECT_NOT_UNIQUE
    assert refused(str(daemon.port), name) == SpreadCode.REJECT_NOT_UNIQUE
    assert refused(daemon.location, "no space") == SpreadCode.REJECT_ILLEGAL_NAME
    assert refused(daemon.location, "hash#") == SpreadCode.REJECT_ILLEGAL_NAME
    assert refused(f"1@{daemon.address}", unique("c")) == SpreadCode.COULD_NOT_CONNECT
    assert libspread.SP_set_auth_method(b"NOPE", ACCEPT, None) == 1
    try:
        assert refused(daemon.location, unique("c")) == SpreadCode.REJECT_AUTH
    finally:
        assert libspread.SP_set_auth_method(b"NULL", ACCEPT, None) == 1
    invented = libspread.connect(daemon.location, "")
    assert invented.private_group.startswith(b"#r")
    for each in (mailbox, invented):
        assert each.disconnect() == 0


def test_a_name_is_free_again_after_its_owner_has_gone(
    libspread: LibSpread, daemon: DaemonProcess
) -> None:
    watcher, name, group = connected(libspread, daemon), unique("n"), unique("g").encode()
    watcher.join(group)
    watcher.receive()
    for way in ("disconnect", "kill"):
        mailbox = libspread.connect(daemon.location, name)
        mailbox.join(group)
        assert watcher.receive().service == JOIN
        getattr(mailbox, way)()
        gone = watcher.receive()
        assert (gone.service, gone.groups) == (DISCONNECT, (watcher.private_group,))
        assert libspread.membership_of(gone).changed == mailbox.private_group
    watcher.disconnect()


def test_a_client_without_membership_messages(libspread: LibSpread, daemon: DaemonProcess) -> None:
    quiet = libspread.connect(daemon.location, unique("q"), membership=False)
    loud, group = connected(libspread, daemon), unique("g").encode()
    quiet.join(group)
    loud.join(group)
    view = loud.receive()
    if quiet.private_group not in view.groups:  # the other join was read first
        view = loud.receive()
    assert set(view.groups) == {quiet.private_group, loud.private_group}
    loud.multicast(SERVICES[4], group, b"data")
    assert quiet.receive().body == b"data"
    for each in (quiet, loud):
        each.disconnect()


def test_messages_longer_than_a_ring_carries_cost_only_their_sender(
    libspread: LibSpread, ours: DaemonProcess
) -> None:
    # The library lets them pass; upstream's daemon ends with an assertion.
    watcher = connected(libspread, ours)
    for size in (LARGEST_BODY + 1, 143_900):
        sender = connected(libspread, ours)
        watcher.join(b"watch")
        watcher.receive()
        sender.join(b"watch")
        watcher.receive()
        sender.multicast(SERVICES[4], b"watch", b"x" * size)
        gone = watcher.receive()
        assert (gone.service, gone.groups) == (DISCONNECT, (watcher.private_group,))
        sender.receive()  # its own view
        assert sender.receive().result == SpreadCode.CONNECTION_CLOSED
        watcher.leave(b"watch")
        assert watcher.receive().service == SELF_LEAVE
    watcher.disconnect()


def test_threads_with_a_connection_each(upstream: Path, daemon: DaemonProcess) -> None:
    library = LibSpread(upstream / "lib" / "libtspread-core.so.3")
    group, each, count = unique("g").encode(), 200, 6
    failures: list[str] = []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        mailbox = library.connect(daemon.location, unique("t"))
        mailbox.join(group)
        while len(mailbox.receive().groups) < count:
            pass
        barrier.wait(60)
        got: list[bytes] = []
        for index in range(each):
            mailbox.multicast(SERVICES[4], group, b"%d:%d" % (number, index))
        while len(got) < each * count:
            message = mailbox.receive()
            if message.service == SERVICES[4]:
                got.append(message.body)
        for sender in range(count):
            own = [body for body in got if body.startswith(b"%d:" % sender)]
            if own != [b"%d:%d" % (sender, index) for index in range(each)]:
                failures.append(f"{number} got the messages of {sender} as {own}")
        orders.append(got)
        barrier.wait(60)
        mailbox.disconnect()

    orders: list[list[bytes]] = []
    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    assert all(order == orders[0] for order in orders)


@pytest.mark.parametrize("pattern", ["tt", "tu", "ut", "uu"])
def test_vs_sets_after_a_loss_and_a_merge(
    libspread: LibSpread, upstream: Path, pattern: str
) -> None:
    commands = {"t": txspread_command(), "u": upstream_command(upstream)}
    with DaemonRing([commands[kind] for kind in pattern]) as ring:
        second = ring.daemons[1]
        mailboxes = []
        for daemon in ring.daemons:
            mailbox = libspread.connect(daemon.location, "member")
            mailbox.join(b"group")
            mailboxes.append(mailbox)
        one, two = mailboxes
        for each in mailboxes:
            while len((view := each.receive()).groups) < 2:
                pass
            assert view.groups == (b"#member#d1", b"#member#d2")
        second.pause()
        assert one.receive().service == TRANSITION
        alone = one.receive()
        assert (alone.service, alone.groups) == (NETWORK, (b"#member#d1",))
        assert libspread.membership_of(alone).vs_sets == ((b"#member#d1",),)
        second.resume()
        merged = one.receive()
        message = two.receive()
        while message.service != NETWORK or len(message.groups) < 2:
            message = two.receive()
        for view, own in ((merged, b"#member#d1"), (message, b"#member#d2")):
            told = libspread.membership_of(view)
            assert told == libspread.membership_of_scattered(view)
            assert view.groups == (b"#member#d1", b"#member#d2")
            assert sorted(told.vs_sets) == [(b"#member#d1",), (b"#member#d2",)]
            assert told.vs_sets[told.mine] == (own,)
        assert libspread.membership_of(merged).group_id == libspread.membership_of(message).group_id
        for each in mailboxes:
            each.disconnect()
