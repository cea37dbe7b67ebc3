"""The blocking API, used as programs written for SpreadModule use it."""

import gc
import select
import socket
import threading
import warnings

import pytest

import txspread.blocking as spread
from txspread.blocking.messages import message_object
from txspread.client.messages import RejectMessage, TransitionMessage
from txspread.wire.constants import ServiceType
from txspread.wire.identifiers import GroupId
from txspread.wire.message import encode_message
from txspread.wire.session import encode_accept, encode_auth_list

pytest_plugins = ["client_fixtures"]
ACCEPT = encode_auth_list([b"NULL"]) + encode_accept(b"#me#fake")


@pytest.fixture
def mailbox(daemon, unique):
    with spread.connect(daemon.tcp, unique("m"), 0, 1) as opened:
        yield opened


def test_a_program_for_spreadmodule_runs(daemon, unique):
    name, room = unique("s"), unique("room")
    mbox = spread.connect(daemon=daemon.tcp, name=name, priority=0, membership=1)
    assert mbox.private_group == f"#{name}#{daemon.name}"
    assert isinstance(mbox, spread.MailboxType)
    mbox.join(room)
    view = mbox.receive()
    assert isinstance(view, spread.MembershipMsgType)
    assert (view.group, view.reason) == (room, spread.CAUSED_BY_JOIN)
    assert view.members == view.extra == (mbox.private_group,)
    assert view.changed_member == mbox.private_group
    assert view.orig_members == ()
    assert view.msg_subtype == spread.REG_MEMB_MESS
    assert mbox.multicast(spread.AGREED_MESS, room, "hé", 5) == 3
    message = mbox.receive()
    assert isinstance(message, spread.RegularMsgType)
    assert (message.sender, message.groups) == (mbox.private_group, (room,))
    assert (message.message, message.msg_type, message.endian) == ("hé".encode(), 5, 0)
    assert message.service == spread.AGREED_MESS
    targets = (room, mbox.private_group)
    assert mbox.multigroup_multicast(spread.SAFE_MESS, targets, b"both") == 4
    assert mbox.receive().groups == targets
    assert mbox.poll() == 0
    mbox.leave(room)
    gone = mbox.receive()
    assert (gone.reason, gone.msg_subtype, gone.group) == (spread.CAUSED_BY_LEAVE, 0, room)
    mbox.disconnect()
    mbox.disconnect()
    with pytest.raises(spread.error) as caught:
        mbox.receive()
    assert caught.value.args == ("receive() called on closed mbox",)


def test_group_ids_compare_and_members_of_a_leave_are_told(daemon, unique, mailbox):
    room = unique("room")
    mailbox.join(room)
    first = mailbox.receive()
    other = spread.connect(daemon.tcp, unique("o"))
    other.join(room)
    joined = mailbox.receive()
    assert joined.group_id == other.receive().group_id != first.group_id
    assert joined.orig_members == (mailbox.private_group,)
    other.leave(room)
    left = mailbox.receive()
    assert left.reason == spread.CAUSED_BY_LEAVE
    assert set(left.orig_members) == set(joined.members)
    assert repr(left.group_id).startswith("<group_id ")
    other.disconnect()


def test_select_tells_when_receive_does_not_wait(mailbox):
    assert not select.select([mailbox], [], [], 0)[0]
    for number in range(3):
        mailbox.multicast(spread.AGREED_MESS, mailbox.private_group, b"x" * 2000, number)
    for number in range(3):
        assert select.select([mailbox], [], [], 20)[0]
        assert mailbox.poll() > 0
        assert mailbox.receive().msg_type == number
    assert not select.select([mailbox], [], [], 0)[0]
    with pytest.raises(TimeoutError):
        mailbox.receive(timeout=0.01)


def test_a_mailbox_that_reads_ahead_gives_the_same_messages(daemon, unique):
    with spread.connect(daemon.tcp, unique("r"), membership=0, read_ahead=True) as mbox:
        for number in range(50):
            mbox.multicast(spread.AGREED_MESS, mbox.private_group, b"x" * 100, number)
        seen = [mbox.receive().msg_type]
        while len(seen) < 50:
            waiting = mbox.poll()
            seen.append(mbox.receive().msg_type)
            assert waiting >= 0
        assert seen == list(range(50))
        assert mbox.poll() == 0


def test_messages_before_impossible_bytes_are_given_out_when_reading_ahead(listener):
    server, name = listener
    frame = encode_message(16, b"#x#fake", [b"g"], b"y")
    serve(server, ACCEPT + frame * 2 + b"\xff" * 100)
    with spread.connect(name, timeout=5, read_ahead=True) as mbox:
        for _ in range(2):
            assert mbox.receive().message == b"y"
        with pytest.raises(spread.error) as caught:
            mbox.receive()
        assert caught.value.args[0] == spread.ILLEGAL_MESSAGE


def test_errors_carry_upstreams_numbers_and_texts(daemon, mailbox):
    with pytest.raises(spread.error) as caught:
        mailbox.join("not a name")
    assert caught.value.args == (-14, "Illegal group")
    with pytest.raises(spread.error) as caught:
        mailbox.multicast(spread.AGREED_MESS, "g", b"x" * 150000)
    assert caught.value.args[0] == spread.MESSAGE_TOO_LONG
    assert "143119" in caught.value.detail
    with pytest.raises(ValueError, match="invalid service type"):
        mailbox.multicast(spread.REG_MEMB_MESS, "g", b"")
    with pytest.raises(spread.error) as caught:
        mailbox.multicast(0, "g", b"")
    assert caught.value.args == (-12, "Illegal service request")
    with pytest.raises(ValueError, match="at least one group"):
        mailbox.multigroup_multicast(spread.AGREED_MESS, (), b"")
    with pytest.raises(TypeError):
        mailbox.multigroup_multicast(spread.AGREED_MESS, "g", b"")
    name = mailbox.private_group.split("#")[1]
    with pytest.raises(spread.error) as caught:
        spread.connect(daemon.tcp, name)
    assert caught.value.args == (-6, "Connection rejected, name not unique")
    with pytest.raises(spread.error) as caught:
        spread.connect("1@127.0.0.1")
    assert caught.value.args == (-2, "Could not connect. Is Spread running?")
    with pytest.raises(spread.error) as caught:
        spread.connect("bogus")
    assert caught.value.args == (-1, "Illegal spread was provided")


def test_one_thread_receives_while_others_send(mailbox):
    senders, count, size = 4, 200, 3000
    seen = []

    def send(number):
        for turn in range(count):
            body = bytes([number]) * size + turn.to_bytes(4, "big")
            mailbox.multicast(spread.FIFO_MESS, mailbox.private_group, body, number)

    def receive():
        while len(seen) < senders * count:
            seen.append(mailbox.receive())

    threads = [threading.Thread(target=send, args=(number,)) for number in range(senders)]
    threads.append(threading.Thread(target=receive))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number in range(senders):
        bodies = [message.message for message in seen if message.msg_type == number]
        expected = [bytes([number]) * size + turn.to_bytes(4, "big") for turn in range(count)]
        assert bodies == expected


def test_a_disconnect_wakes_threads_that_receive(mailbox):
    results = []
    started = threading.Barrier(3)

    def receive():
        started.wait()
        try:
            results.append(mailbox.receive())
        except spread.error as problem:
            results.append(problem)

    threads = [threading.Thread(target=receive) for _ in range(2)]
    for thread in threads:
        thread.start()
    started.wait()
    mailbox.disconnect()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert all(isinstance(result, spread.error) for result in results)


def test_the_end_of_the_daemon_is_connection_closed_and_then_a_closed_mailbox(own_daemon):
    mbox = spread.connect(own_daemon.tcp, "z")
    own_daemon.process.kill()
    with pytest.raises(spread.error) as caught:
        mbox.receive()
    assert caught.value.args == (-8, "Connection closed by spread")
    for call in (mbox.receive, mbox.poll, mbox.fileno, lambda: mbox.join("g")):
        with pytest.raises(spread.error) as caught:
            call()
        assert "called on closed mbox" in caught.value.args[0]
    mbox.disconnect()


def test_a_forgotten_mailbox_disconnects(daemon, unique):
    name = unique("f")
    spread.connect(daemon.tcp, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
    with spread.connect(daemon.tcp, unique("g")) as other:
        other.multicast(spread.SAFE_MESS, other.private_group, b"")
        other.receive()
    spread.connect(daemon.tcp, name).disconnect()


def test_kill_closes_without_telling(daemon, unique):
    mbox = spread.connect(daemon.tcp, unique("k"))
    mbox.kill()
    with pytest.raises(spread.error):
        mbox.multicast(spread.AGREED_MESS, "g", b"")


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server, f"{server.getsockname()[1]}@127.0.0.1"


def serve(server, answer, then=None):
    def talk():
        peer, _ = server.accept()
        with peer:
            peer.sendall(answer)
            if then is not None:
                then(peer)
            while peer.recv(4096):
                pass

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("size", [0, 3, 6, 9])
def test_a_handshake_that_stalls_ends_at_the_deadline(listener, size):
    server, name = listener
    serve(server, ACCEPT[:size])
    with pytest.raises(spread.error) as caught:
        spread.connect(name, timeout=0.2)
    assert caught.value.args[0] == spread.CONNECTION_CLOSED
    assert "in time" in caught.value.detail


def test_a_message_that_arrives_in_pieces_survives_a_timeout(listener):
    server, name = listener
    frame = encode_message(16, b"#x#fake", [b"g"], b"y" * 100, 3)
    go = threading.Event()

    def rest(peer):
        go.wait(60)
        peer.sendall(frame[60:])

    serve(server, ACCEPT + frame[:60], rest)
    with spread.connect(name, timeout=5) as mbox:
        with pytest.raises(TimeoutError):
            mbox.receive(timeout=0.2)
        go.set()
        assert mbox.receive().message == b"y" * 100


def test_a_broken_stream_is_an_illegal_message(listener):
    server, name = listener
    serve(server, ACCEPT + b"\xff" * 100)
    with spread.connect(name, timeout=5) as mbox, pytest.raises(spread.error) as caught:
        mbox.receive()
    assert caught.value.args[0] == spread.ILLEGAL_MESSAGE


def test_a_silent_daemon_is_given_up(listener):
    server, name = listener
    serve(server, ACCEPT)
    with spread.connect(name, timeout=5, silence_timeout=0.3) as mbox:
        with pytest.raises(TimeoutError):
            mbox.receive(timeout=0.05)
        with pytest.raises(spread.error) as caught:
            mbox.receive()
    assert caught.value.args[0] == spread.CONNECTION_CLOSED
    assert "silent" in caught.value.detail


def test_an_idle_daemon_that_answers_probes_is_kept(daemon, unique):
    with spread.connect(daemon.tcp, unique("i"), silence_timeout=0.2) as mbox:
        with pytest.raises(TimeoutError):
            mbox.receive(timeout=0.7)
        mbox.multicast(spread.AGREED_MESS, mbox.private_group, b"mine")
        assert mbox.receive(timeout=60).message == b"mine"


def test_a_rejected_request_is_an_error_as_in_spreadmodule(listener):
    server, name = listener
    frame = encode_message(0x400000, b"#me#fake", [b"g", b"#me#fake"])
    serve(server, ACCEPT + frame[:48] + b"\x80\x01\x00\x80" + frame[48:])
    with spread.connect(name, timeout=5) as mbox, pytest.raises(spread.error) as caught:
        mbox.receive()
    assert "Unknown message type" in caught.value.args[0]


def test_a_transition_is_a_membership_message_without_members():
    message = message_object(TransitionMessage(ServiceType(0x2000), "room", GroupId(1, 2, 3)))
    assert (message.reason, message.msg_subtype) == (0, spread.TRANSITION_MESS)
    assert (message.members, message.extra, message.changed_member) == ((), (), "")
    assert message.group_id == spread.GroupId(1, 2, 3)
    reject = RejectMessage(ServiceType(0x400010), "#a#d", ("g",), 0, "<", b"")
    assert message_object(reject) is None


def test_the_constants_have_upstreams_values():
    assert spread.version() == (4, 4, 0)
    assert spread.SAFE_MESS == 0x20
    assert spread.REGULAR_MESS == 0x3F
    assert spread.MEMBERSHIP_MESS == 0x3F00
    assert spread.DEFAULT_SPREAD_PORT == 4803
    assert spread.NET_ERROR_ON_SESSION == -18
    assert spread.MAX_GROUP_NAME == 32
