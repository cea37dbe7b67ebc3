"""txspuser and txsptuser against the recorded sessions of upstream's."""

import re

import pytest
from tool_sessions import Tool, arguments, outputs, pattern, play, recorded_session, replay

import txspread.blocking as spread
from txspread.client.messages import MembershipMessage, RejectMessage, TransitionMessage
from txspread.tools.printing import message_lines
from txspread.wire.constants import ServiceType
from txspread.wire.identifiers import GroupId

pytest_plugins = ["client_fixtures"]


@pytest.mark.parametrize(
    "name",
    [
        "spuser_usage",
        "spuser_bad_name",
        "spuser_no_daemon",
        "spuser_no_unix_socket",
        "sptuser_usage",
        "sptuser_no_daemon",
    ],
)
def test_what_is_printed_without_a_daemon(name):
    replay(name.partition("_")[0], name, "1" if "unix" in name else "1@127.0.0.1")


@pytest.mark.parametrize(
    "name", ["spuser_eof", "spuser_long_name", "spuser_random_name", "sptuser_eof"]
)
def test_a_session_alone(name, daemon):
    replay(name.partition("_")[0], name, daemon.tcp)


def test_a_name_in_use(daemon):
    with spread.connect(daemon.tcp, "dup"):
        replay("spuser", "spuser_name_in_use", daemon.tcp)


def test_two_users_talk_as_they_did_when_they_were_recorded(daemon):
    session, other = recorded_session("spuser_session"), recorded_session("sptuser_session")
    address = daemon.tcp
    with (
        Tool("spuser", arguments(session, address)) as anna,
        Tool("sptuser", arguments(other, address)) as bert,
    ):
        plays = {"a": (anna, session["transcript"]), "b": (bert, other["transcript"])}

        def go(who, steps):
            play(*plays[who], address, steps)

        go("a", 1)
        anna.wait_for("Due to the JOIN of #anna#d1")
        go("b", 3)
        go("a", 10)  # up to "private"
        go("a", 2)  # polls, disables reading
        go("b", 2)  # "while disabled"
        bert.wait_for("(15 bytes): while disabled")
        transcript = session["transcript"]
        anna.expect(pattern(transcript.pop(0)["out"], address))
        assert transcript.pop(0)["in"] == "p\n"
        assert transcript.pop(0)["out"] == "Polling sais: 95\n\nUser> "
        while not anna.printed.endswith("Polling sais: 95\n\nUser> "):
            with spread.connect(daemon.tcp, "probe") as probe:
                probe.multicast(spread.SAFE_MESS, probe.private_group, b"")
                probe.receive(timeout=60)
            anna.type("p\n")
            anna.expect(r"Polling sais: \d+\n\nUser> ")
        go("a", 9)  # receives; up to the "s" without a group
        anna.wait_for(" invalid group \n\nUser> ")
        go("b", 4)
        bert.expect(pattern(other["transcript"][-1]["out"], address))
        assert bert.finish() == 0
        go("a", 2)
        anna.expect(pattern(session["transcript"][-1]["out"], address))
        assert anna.finish() == 0


def test_a_piped_script_runs_line_by_line(daemon):
    session = recorded_session("spuser_piped_script")
    with Tool("spuser", arguments(session, daemon.tcp)) as tool:
        tool.type(session["transcript"][0]["in"])
        tool.end_input()
        assert tool.finish() == 0
        # What arrives meanwhile is printed or not, as time allows.
        without_messages = re.sub(r"\n={28}\n.*?\nUser> ", "", tool.printed, flags=re.DOTALL)
        assert re.fullmatch(pattern(outputs(session), daemon.tcp), without_messages)


def test_pasted_lines_do_not_wait_for_the_next_key(daemon):
    with Tool("spuser", ["-u", "paste", "-s", daemon.tcp]) as tool:
        tool.type("j g\nl g\nj h\n")
        tool.wait_for("left group g")
        tool.wait_for("membership for group h")


def test_a_long_line_goes_on_as_the_next_command(daemon):
    with Tool("spuser", ["-u", "long", "-s", daemon.tcp]) as tool:
        tool.type("s #long#d1\n" + "x" * 199 + "j more\n")
        tool.wait_for("(199 bytes): " + "x" * 199)
        tool.wait_for("membership for group more")


def test_the_end_of_the_daemon_is_told_and_ends_the_tool(own_daemon):
    session = recorded_session("spuser_daemon_gone")
    transcript = session["transcript"]
    with (
        spread.connect(own_daemon.tcp, "anna") as anna,
        Tool("spuser", arguments(session, own_daemon.tcp)) as bert,
    ):
        anna.join("room")
        anna.receive()
        bert.expect(pattern(transcript[0]["out"], own_daemon.tcp))
        bert.type(transcript[1]["in"])
        bert.wait_for("Due to the JOIN of #bert#d1")
        own_daemon.process.kill()
        bert.expect(pattern(transcript[2]["out"], own_daemon.tcp))
        assert bert.finish() == 0


def network_message():
    return MembershipMessage(
        ServiceType.REG_MEMB_MESS | ServiceType.CAUSED_BY_NETWORK,
        "room",
        ("#ud1#d1", "#ud3#d3"),
        0,
        GroupId(0xC0000201, -5, 1),
        (("#ud1#d1",), ("#ud3#d3",)),
        1,
    )


def test_a_network_change_lists_its_sets_and_signed_ids():
    assert message_lines(network_message()) == (
        "Received REGULAR membership for group room with 2 members, where I am member 0:\n"
        "\t#ud1#d1\n\t#ud3#d3\n"
        "grp id is -1073741311 -5 1\n"
        "Due to NETWORK change with 2 VS sets\n"
        "OTHER VS set 0 has 1 members:\n\t#ud1#d1\n"
        "LOCAL VS set 1 has 1 members:\n\t#ud3#d3\n"
    )


def test_transitions_and_rejects_are_printed():
    transition = TransitionMessage(ServiceType.TRANSITION_MESS, "room", GroupId(1, 2, 3))
    assert message_lines(transition) == "received TRANSITIONAL membership for group room\n"
    reject = RejectMessage(
        ServiceType(0x400004), "#a#d1", ("deny", "#a#d1"), 5, "<", b"text\0behind"
    )
    assert message_lines(reject) == (
        "REJECTED message from #a#d1, of servicetype 0x400004 messtype 5,"
        " (endian 0) to 2 groups \n(11 bytes): text\n"
    )
