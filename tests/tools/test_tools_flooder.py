"""txspflooder against the recorded runs of upstream's."""

import re

import pytest
from tool_sessions import Tool, arguments, outputs, pattern, recorded_session, replay

import txspread.blocking as spread
from txspread.tools.spflooder import parse_flood_options

pytest_plugins = ["client_fixtures"]


@pytest.mark.parametrize(
    "name", ["spflooder_usage", "spflooder_too_many_members", "spflooder_no_daemon"]
)
def test_what_is_printed_without_a_daemon(name):
    replay("spflooder", name, "1@127.0.0.1")


@pytest.mark.parametrize("name", ["spflooder_default", "spflooder_wo", "spflooder_too_big"])
def test_a_run_alone(name, daemon):
    replay("spflooder", name, daemon.tcp)


def test_a_receiver_and_a_sender(daemon):
    session = recorded_session("spflooder_ro")
    with Tool("spflooder", arguments(session, daemon.tcp)) as receiver:
        receiver.wait_for("Only receiving")
        joined = wait_for_receiver(daemon)
        with Tool(
            "spflooder", ["-u", "fl4", "-s", daemon.tcp, *["-m", "2500", "-b", "100", "-wo"]]
        ) as s:
            assert s.finish() == 0
        assert receiver.finish() == 0
        joined.disconnect()
        assert re.fullmatch(pattern(outputs(session), daemon.tcp), receiver.printed)


def wait_for_receiver(daemon):
    """Wait until the flooder is in its group: join it as well and look."""
    mbox = spread.connect(daemon.tcp, "look")
    mbox.join("flooder")
    while True:
        message = mbox.receive(timeout=60)
        if len(message.members) == 2:
            mbox.leave("flooder")
            return mbox


def test_flooders_wait_for_each_other(daemon):
    one, two = recorded_session("spflooder_members_a"), recorded_session("spflooder_members_b")
    with Tool("spflooder", arguments(one, daemon.tcp)) as first:
        first.wait_for("with 1 members")
        with Tool("spflooder", arguments(two, daemon.tcp)) as second:
            assert first.finish() == 0
            assert second.finish() == 0
            assert re.fullmatch(pattern(outputs(one), daemon.tcp), first.printed)
            assert re.fullmatch(pattern(outputs(two), daemon.tcp), second.printed)


def test_a_message_that_no_daemon_takes_ends_the_run(daemon):
    with Tool("spflooder", ["-u", "big", "-s", daemon.tcp, "-m", "1", "-b", "150000"]) as tool:
        assert tool.finish() == 1
    assert tool.printed.endswith(
        "SP_error: (-17) The message body + group names was too large to fit in a message\n"
    )


def test_the_last_of_read_only_and_write_only_wins():
    options = parse_flood_options(["-ro", "-wo"])
    assert (options.read_only, options.write_only) == (False, True)
    options = parse_flood_options(["-wo", "-ro", "-m", "5", "-bxx", "7"])
    assert (options.read_only, options.write_only) == (True, False)
    assert (options.messages, options.size) == (5, 7)
