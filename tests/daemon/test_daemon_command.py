"""The command as a process: options, exit codes, signals, files."""

from __future__ import annotations

import os
import pwd
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from txspread.daemon import command
from txspread.daemon.command import (
    EXIT_CONFIGURATION,
    EXIT_SOCKET,
    EXIT_USAGE,
    choose_daemon,
    find_configuration_file,
    make_parser,
)

LIMIT = 60


class Started:
    """A daemon as a process."""

    def __init__(self, *arguments, directory=None, program=("-m", "txspread")):
        if program == ("-m", "txspread"):
            arguments = (*arguments, "--state-directory", directory)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # These tests run in the background of a shell, and so would the daemon.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        environment = dict(os.environ, PYTHONPATH=str(Path(command.__file__).parents[2]))
        self.process = subprocess.Popen(
            [sys.executable, *program, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=directory,
            env=environment,
        )

    def end(self, number=signal.SIGTERM):
        """Send a signal; exit code and output."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        output, _ = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, output


@pytest.fixture
def start(tmp_path):
    started = []

    def run(*arguments, **options):
        options.setdefault("directory", tmp_path)
        one = Started(*arguments, **options)
        started.append(one)
        return one

    yield run
    for one in started:
        one.process.kill()
        one.process.communicate(timeout=LIMIT)


@pytest.fixture
def port(free_port):
    return free_port()


@pytest.fixture
def configure(tmp_path, port):
    """Write a configuration of one daemon."""

    def write(options=""):
        path = tmp_path / "given.conf"
        path.write_text(
            f"{options}\nAcceleratedRing = false\n"
            f"Spread_Segment 127.0.0.255:{port} {{ alone 127.0.0.1 {{ 127.0.0.1 }} }}\n"
        )
        return path

    return write


@pytest.fixture
def connected(port, eventually):
    """Wait until the daemon serves, and connect as a client."""
    opened = []

    def connect():
        def attempt():
            try:
                client = socket.create_connection(("127.0.0.1", port))
            except ConnectionRefusedError:
                return False
            client.settimeout(20)
            client.sendall(bytes((4, 4, 0, 0, 1)) + b"c")
            opened.append(client)
            return client.recv(1) == b"\x05"

        eventually(attempt, LIMIT)
        return opened[-1]

    yield connect
    for client in opened:
        client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(start, configure, connected, socket_directory, port, number):
    daemon = start("-c", configure(), "-n", "alone", "--socket-directory", socket_directory)
    client = connected()
    assert (socket_directory / str(port)).is_socket()
    code, output = daemon.end(number)
    assert code == 0
    assert not (socket_directory / str(port)).exists()
    assert client.recv(10) == b"NULL "
    assert client.recv(1) == b""
    lines = output.splitlines()
    assert any(line.startswith("| Version 4.04.00 Built ") for line in lines)
    assert lines[-1] == "Spread daemon exiting normally!"


def test_the_lines_that_scripts_look_for(start, configure, connected, port):
    path = configure("DangerousMonitor = true\nSocketPortReuse = ON")
    daemon = start("--config", path, "--name", "alone", "--no-unix-socket")
    connected()
    output = daemon.end()[1]
    for line in (
        f"Conf_load_conf_file: using file: {path}",
        "ENABLING Dangerous Monitor Commands! Make sure Spread network is secured",
        "Setting SO_REUSEADDR to always on -- make sure Spread daemon host is secured!",
        f"Successfully configured Segment 0 [127.0.0.255:{port}] with 1 procs:",
        "\t" + "alone".rjust(20) + ": 127.0.0.1",
        "Finished configuration file.",
        f"Conf_load_conf_file: My name: alone, id: 127.0.0.1, port: {port}",
    ):
        assert line in output.splitlines()
    assert re.search(r"^Hash value for this configuration is: \d+$", output, re.MULTILINE)


def test_a_mistyped_file_is_an_error_although_another_is_there(
    tmp_path, configure, monkeypatch, capsys
):
    configure().rename(tmp_path / "spread.conf")
    monkeypatch.chdir(tmp_path)
    assert command.main(["-c", "spraed.conf"]) == EXIT_CONFIGURATION
    assert "spraed.conf: cannot be read" in capsys.readouterr().err


def test_a_bad_file_is_refused_with_its_place(configure, capsys):
    path = configure("Window = 0")
    assert command.main(["-c", str(path), "-n", "alone"]) == EXIT_CONFIGURATION
    assert "given.conf:1" in capsys.readouterr().err


def test_an_unknown_name_is_refused(start, configure):
    code, output = start("-c", configure(), "-n", "nobody").wait()
    assert code == EXIT_CONFIGURATION
    assert "'nobody' is not in the configuration" in output


@pytest.mark.parametrize("arguments", [["-l", "maybe"], ["--frobnicate"], ["-c"]])
def test_wrong_usage_has_an_exit_code_of_its_own(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == EXIT_USAGE
    assert "usage: txspread" in capsys.readouterr().err


def test_a_taken_port_has_an_exit_code_of_its_own(start, configure, port):
    with socket.create_server(("127.0.0.1", port)):
        code, output = start("-c", configure(), "-n", "alone", "--no-unix-socket").wait()
    assert code == EXIT_SOCKET
    assert f"Sess_init: INET unable to bind to port {port}, already running" in output


def test_a_live_unix_socket_has_it_too(start, configure, connected, socket_directory, port):
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(socket_directory / str(port)))
        living.listen()
        code, output = start(
            "-c", configure(), "-n", "alone", "--socket-directory", socket_directory
        ).wait()
    assert code == EXIT_SOCKET
    assert "already running" in output
    assert (socket_directory / str(port)).is_socket()


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--version"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert re.match(r"txspread \S+ \(speaks Spread 4\.4\.0; (compiled|plain Python)\)", told)


class TestCheck:
    def test_a_good_file_is_explained(self, configure, capsys):
        assert command.main(["--check", "-c", str(configure()), "-n", "alone"]) == 0
        output = capsys.readouterr().out
        assert "Hash: " in output
        assert "127.0.0.1" in output

    def test_a_file_for_other_machines_is_good(self, tmp_path, capsys):
        path = tmp_path / "other.conf"
        path.write_text("Spread_Segment 192.0.2.255 { elsewhere 192.0.2.1 }\n")
        assert command.main(["--check", "-c", str(path)]) == 0
        captured = capsys.readouterr()
        assert "elsewhere" in captured.out
        assert "note: " in captured.err

    def test_a_named_daemon_must_be_in_it(self, configure, capsys):
        assert command.main(["--check", "-c", str(configure()), "-n", "nobody"]) == 1
        assert "'nobody'" in capsys.readouterr().err

    def test_a_bad_file_is_refused(self, configure, capsys):
        assert command.main(["--check", "-c", str(configure("Window = 0"))]) == 1
        assert "given.conf:1" in capsys.readouterr().err

    def test_the_embedded_default_is_good(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(command, "SEARCHED", ())
        assert command.main(["--check"]) == 0
        assert "127.0.0.1" in capsys.readouterr().out


def test_hang_up_opens_the_log_file_again(start, configure, connected, tmp_path, eventually):
    log = tmp_path / "spread.log"
    daemon = start("-c", configure(f'EventLogFile = "{log}"'), "-n", "alone", "--no-unix-socket")
    connected()
    log.rename(tmp_path / "rotated.log")
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: log.exists() and "SIGHUP: log reopened" in log.read_text())
    daemon.end()
    assert log.read_text().endswith("Spread daemon exiting normally!\n")
    assert "My name: alone" in (tmp_path / "rotated.log").read_text()


def test_without_option_the_file_of_the_directory_is_used(start, configure, tmp_path, connected):
    configure().rename(tmp_path / "spread.conf")
    daemon = start("-n", "alone", "--no-unix-socket")
    connected()
    assert "using file: spread.conf" in daemon.end()[1]


def test_search_order(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "SEARCHED", (str(tmp_path / "one"), str(tmp_path / "two")))
    assert find_configuration_file("stated") == "stated"
    assert find_configuration_file(None) is None
    (tmp_path / "two").touch()
    assert find_configuration_file(None) == str(tmp_path / "two")
    (tmp_path / "one").touch()
    assert find_configuration_file(None) == str(tmp_path / "one")


def test_options_are_not_abbreviated():
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--conf", "x"])


def test_without_a_name_the_addresses_of_the_machine_decide(one_daemon):
    assert choose_daemon(one_daemon(), None).name == "alone"


def test_twist_runs_it(start, configure, connected, tmp_path):
    daemon = start(
        "spread",
        "--config",
        configure(),
        "--name",
        "alone",
        "--no-unix-socket",
        "--state-directory",
        tmp_path,
        program=("-m", "twisted", "--log-format=text"),
    )
    connected()
    code, output = daemon.end(signal.SIGINT)
    assert "Successfully configured Segment 0" in output
    assert code in (0, -signal.SIGINT)


def test_twist_refuses_a_bad_configuration(start, tmp_path):
    code, output = start(
        "spread", "--config", tmp_path / "none.conf", program=("-m", "twisted")
    ).wait()
    assert code != 0
    assert "none.conf: cannot be read" in output


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
class TestAsRoot:
    def test_a_missing_user_is_a_warning(self, start, configure, connected):
        daemon = start(
            "-c", configure('DaemonUser = "nosuchuser"'), "-n", "alone", "--no-unix-socket"
        )
        connected()
        code, output = daemon.end()
        assert code == 0
        assert "SECURITY RISK! no privilege drop to user/group 'nosuchuser/spread'" in output

    def test_root_is_given_up_and_the_root_directory_changed(
        self, start, configure, connected, tmp_path, socket_directory, port
    ):
        nobody = pwd.getpwnam("nobody")
        runtime = tmp_path / "run"
        runtime.mkdir()
        for directory in (socket_directory, *tmp_path.parents):
            if str(directory) != "/":
                directory.chmod(directory.stat().st_mode | 0o1777)
        daemon = start(
            "-c",
            configure(
                f'DebugFlags = {{ ALL }}\nDaemonUser = "nobody"\nDaemonGroup = "nogroup"\n'
                f'RuntimeDir = "{runtime}"'
            ),
            "-n",
            "alone",
            "--socket-directory",
            socket_directory,
        )
        connected()
        pid = daemon.process.pid
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(rf"^Uid:\t{nobody.pw_uid}\t{nobody.pw_uid}\t", status, re.MULTILINE)
        assert os.readlink(f"/proc/{pid}/root") == str(runtime)
        code, output = daemon.end()
        assert code == 0, output
        assert "Spread: setugid and chroot successeful" in output
        assert not (socket_directory / str(port)).exists(), "it can be removed from inside"

    def test_a_runtime_directory_that_is_not_there_is_an_error(self, start, configure, tmp_path):
        code, output = start(
            "-c",
            configure(
                'DaemonUser = "nobody"\nDaemonGroup = "nogroup"\n'
                f'RuntimeDir = "{tmp_path / "none"}"'
            ),
            "-n",
            "alone",
            "--no-unix-socket",
        ).wait()
        assert code == command.EXIT_PRIVILEGES
        assert "FAILED chroot" in output
