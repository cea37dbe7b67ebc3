"""The examples, run as their users run them."""

from pathlib import Path

import pytest
from daemon_processes import daemon_command, running_daemon
from tool_sessions import Tool

EXAMPLES = Path(__file__).parents[2] / "examples"
pytest_plugins = ["client_fixtures"]


@pytest.fixture
def address(request, tmp_path):
    with running_daemon(daemon_command("txspread", request), tmp_path) as daemon:
        yield daemon.tcp


def example(name, *words):
    return Tool(EXAMPLES / f"{name}.py", list(words))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_tell_how_to_use_them(path):
    text = path.read_text()
    assert len(text.splitlines()) < 150
    with Tool(path, []) as tool:
        assert tool.process.wait(60) == 1
        assert f"python examples/{path.name}" in tool.process.stderr.read().decode()


def test_presence(address):
    with example("presence", "anna", address) as anna:
        anna.wait_for("anna@d1 came - here: anna@d1\n")
        with example("presence", "bert", address) as bert:
            bert.wait_for("bert@d1 came - here: anna@d1, bert@d1\n")
            anna.wait_for("bert@d1 came - here: anna@d1, bert@d1\n")
            bert.end_input()
            assert bert.finish() == 0
        anna.wait_for("bert@d1 left - here: anna@d1\n")
        with example("presence", "carl", address) as carl:
            carl.wait_for("carl@d1 came")
            carl.process.kill()
        anna.wait_for("carl@d1 is gone - here: anna@d1\n")
        anna.end_input()
        assert anna.finish() == 0


def test_chat(address):
    with example("chat", "anna", address) as anna, example("chat", "bert", address) as bert:
        anna.wait_for("[lobby] anna joined")
        bert.wait_for("[lobby] bert joined")
        anna.type("hello all\n")
        bert.wait_for("[lobby] anna: hello all\n")
        bert.type("/to anna psst\n")
        anna.wait_for("[whispers] bert: psst\n")
        bert.type("/to nobody psst\n/join kitchen\n")
        bert.wait_for("nobody is not in lobby")
        anna.wait_for("[lobby] bert left")
        bert.type("/quit\n")
        assert bert.finish() == 0
        assert "[lobby] anna: hello all\n" in anna.printed
        anna.end_input()
        assert anna.finish() == 0


def test_replicas_hold_the_same_state(address):
    with example("replicated_state", "r1", address) as one:
        one.wait_for("up to date with 0 keys")
        one.type("set a 1\nset b 2\n")
        one.wait_for("b = 2")
        with example("replicated_state", "r0", address) as two:
            two.wait_for("up to date with 2 keys")
            two.type("set a 3\n")
            one.wait_for("a = 3")
            two.wait_for("a = 3")
            with example("replicated_state", "r2", address) as three:
                three.wait_for("up to date with 2 keys")
                three.type("show\n")
                three.wait_for('{"a": "3", "b": "2"}')
            two.process.kill()
        one.type("set c 4\n")
        one.wait_for("c = 4")
        one.type("show\n")
        one.wait_for('{"a": "3", "b": "2", "c": "4"}')
        one.end_input()
        assert one.finish() == 0


def test_jobs_of_a_dead_worker_are_done_by_another(address):
    with (
        example("work_queue", "work", "w1", address) as one,
        example("work_queue", "work", "w2", address) as two,
    ):
        for worker in (one, two):
            worker.wait_for("workers: #w1#d1, #w2#d1\n")
        with example("work_queue", "submit", "0.2", "0.2", "-s", address) as submit:
            assert submit.finish() == 0
        for worker in (one, two):
            worker.wait_for("done by #w1#d1: slept 0.2 s")
            worker.wait_for("done by #w2#d1: slept 0.2 s")
        with example("work_queue", "submit", "0.5", "3", "-s", address) as submit:
            assert submit.finish() == 0
        two.process.kill()
        one.wait_for("taking over")
        one.wait_for("done by #w1#d1: slept 3 s")
