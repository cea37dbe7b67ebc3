"""The file that a running daemon reads again: changed, gone, out of reach."""

from __future__ import annotations

import os

import pytest

from txspread.config import ConfigurationError, parse
from txspread.daemon.reloading import ConfigurationFile, Reloader, open_file, read_again

TEXT = "AcceleratedRing = false\nSpread_Segment 10.0.0.255:4803 {\n a 10.0.0.1\n b 10.0.0.2\n}\n"


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "spread.conf"
    made.write_text(TEXT)
    return made


@pytest.fixture
def file(path):
    opened = ConfigurationFile(str(path))
    yield opened
    opened.close()


def outcome(file, text=TEXT, **keywords):
    previous = parse(text, file.name)
    return read_again(file, previous, previous.by_name["a"], **keywords)


def test_a_file_edited_in_place_or_replaced_is_read_anew(file, path):
    assert file.read() == TEXT.encode()
    path.write_text(TEXT + "# more\n")
    assert file.read().endswith(b"# more\n")
    other = path.with_name("new")
    other.write_text("# other\n" + TEXT)
    other.rename(path)
    assert file.read().startswith(b"# other\n")


def test_a_relative_name_is_found_after_the_directory_was_changed(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = ConfigurationFile("spread.conf")
    monkeypatch.chdir("/")
    assert file.read() == TEXT.encode()
    file.close()


def test_a_file_that_is_gone_or_too_long_is_refused(file, path):
    path.write_bytes(b"#" * (5 << 20))
    with pytest.raises(ConfigurationError, match="longer than"):
        outcome(file)
    path.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        outcome(file)


def test_a_directory_in_its_place_is_refused(file, path):
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        outcome(file)


@pytest.mark.skipif(os.getuid() != 0, reason="changes its user")
def test_a_file_that_may_no_longer_be_opened_is_read_where_it_was(file, path):
    path.chmod(0o600)
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            path_is_shut = not os.access(path, os.R_OK)
            good = file.read() == TEXT.encode()
            os._exit(0 if good and path_is_shut else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(os.getuid() != 0, reason="changes its root directory")
def test_a_file_outside_the_new_root_is_still_found(file, path, tmp_path):
    path.write_text(TEXT + "# after\n")
    inside = tmp_path / "inside"
    inside.mkdir()
    child = os.fork()
    if child == 0:
        try:
            os.chdir(inside)
            os.chroot(".")
            os._exit(0 if file.read().endswith(b"# after\n") else 1)
        except BaseException:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_only_a_changed_text_is_wanted(file, path):
    assert outcome(file, only_if_changed=True) is None
    assert outcome(file) is not None
    path.write_text(TEXT + "Window = 30\n")
    text, reload = outcome(file, only_if_changed=True)
    assert text == path.read_bytes()
    assert reload.notes == ("Window: 160 to 30",)


def test_a_name_without_an_address_keeps_the_one_it_had(file, path):
    text = TEXT.replace(" b 10.0.0.2", " no-such.invalid 10.0.0.2")
    path.write_text(text.replace("no-such.invalid 10.0.0.2", "no-such.invalid"))
    _, reload = outcome(file, text)
    assert reload.configuration.by_name["no-such.invalid"].address == "10.0.0.2"
    assert not reload.changed


def test_there_is_no_file_for_a_configuration_from_nowhere(tmp_path):
    assert open_file(parse(TEXT)) is None
    assert open_file(parse(TEXT, str(tmp_path / "gone"))) is None


class Told:
    def __init__(self):
        self.lines = []

    def wants(self, category, priority):
        return True

    def alarm(self, category, priority, text, *args):
        self.lines.append(text % args)


def test_a_request_without_a_file_is_reported():
    told = Told()
    Reloader(None, None, None, told).request()
    assert told.lines == [
        "reload refused, the old configuration stays: it was not read from a file"
    ]
