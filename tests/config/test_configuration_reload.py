"""Reading the file again: what the recorded reloads show, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from txspread.config import ConfigurationError, compare, load, parse, reload
from txspread.config.model import PortReuse

FOLDER = Path(__file__).parents[1] / "vectors" / "configuration"
RELOADS = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("r*.json"))]


def before(vector):
    return parse(vector["conf_before"], "s.conf")


def after(vector, previous):
    return parse(vector["conf_after"], "s.conf", previous=previous)


REFUSALS = {
    # the name of the file, the daemon: why it does not follow
    ("r02_remove_d3", "d3"): "is no longer in the file",
    ("r04_rename_d2", "d2"): "itself changed (name 'd2' to 'e2')",
    ("r05_iface_of_d2_changed", "d2"): "itself changed (interfaces)",
    ("r06_bcast_of_d2_changed", "d2"): "itself changed (segment address ",
    ("r10_port_of_d2_changed", "d2"): "itself changed (segment port 15520 to ",
}


def test_ten_reloads_are_recorded():
    assert len(RELOADS) == 10


@pytest.mark.parametrize(
    ("vector", "name"),
    [
        pytest.param(vector, name, id=f"{vector['name']}-{name}")
        for vector in RELOADS
        if vector["name"] != "r07_syntax_error"
        for name in vector["daemons"]
    ],
)
def test_reload_gives_the_recorded_hash_or_refusal(vector, name):
    previous = before(vector)
    assert previous.hash == vector["hash_before"]
    me = previous.by_name[name]
    new = after(vector, previous)
    recorded = vector["daemons"][name]
    if recorded.get("hash_after") is not None:
        assert new.hash == recorded["hash_after"]
    refusal = REFUSALS.get((vector["name"], name))
    if refusal is None:
        assert recorded["exit"] is None
        assert compare(previous, new, me).me.name == name
    else:
        # Upstream ends here, but for a changed port, which cuts it off silently.
        assert recorded["exit"] is not None or vector["name"].startswith("r10")
        with pytest.raises(ConfigurationError) as caught:
            compare(previous, new, me)
        assert refusal in str(caught.value)


def test_syntax_error_in_the_new_file_is_refused():
    vector = next(vector for vector in RELOADS if vector["name"] == "r07_syntax_error")
    with pytest.raises(ConfigurationError) as caught:
        after(vector, before(vector))
    assert caught.value.line is not None


@pytest.mark.parametrize(
    ("name", "singleton"),
    [
        ("r02_remove_d3", False),
        ("r03_unchanged_safe_monitor", False),
        ("r04_rename_d2", True),
        ("r05_iface_of_d2_changed", True),
        ("r06_bcast_of_d2_changed", True),
        ("r08_reorder", False),
        ("r09_accelerated_false_true", False),
    ],
)
def test_changed_daemons_make_everyone_leave_the_ring_first(name, singleton):
    vector = next(vector for vector in RELOADS if vector["name"] == name)
    previous = before(vector)
    result = compare(previous, after(vector, previous), previous.by_name["d1"])
    assert result.singleton_partition is singleton
    assert [daemon.id for daemon in result.changed] == (
        [previous.by_name["d2"].id] if singleton else []
    )
    assert result.reordered is (name == "r08_reorder")
    assert [daemon.name for daemon in result.removed] == (["d3"] if name == "r02_remove_d3" else [])
    assert result.hash_changed is (result.configuration.hash != previous.hash)


SEGMENT = "Spread_Segment 10.1.1.255:5000 {\n a 10.1.1.1\n b 10.1.1.2\n}\n"
ALONE = "Spread_Segment 10.1.1.255:5000 {\n a 10.1.1.1\n}\n"
FAR = "Spread_Segment 10.9.1.255:5000 {\n c 10.9.1.1\n}\n"


def again(old: str, new: str, name: str = "a"):
    previous = parse(old, "old.conf")
    return compare(previous, parse(new, "new.conf", previous=previous), previous.by_name[name])


def test_same_file_changes_nothing():
    result = again("AcceleratedRing = no\n" + SEGMENT, "AcceleratedRing = no\n" + SEGMENT)
    assert result.notes == ()
    assert not result.hash_changed
    assert not result.singleton_partition


def test_daemon_added_is_reported_and_gives_a_neighbour():
    result = again(ALONE, SEGMENT)
    assert [daemon.name for daemon in result.added] == ["b"]
    assert result.gained_neighbour
    assert not result.singleton_partition
    assert "daemon 'b' at 10.1.1.2 added" in result.notes


def test_unstated_accelerated_ring_is_decided_by_the_first_reload():
    first = parse(SEGMENT)
    second = parse(SEGMENT, previous=first)
    assert first.accelerated_ring is None
    assert second.accelerated_ring is True
    assert second.hash != first.hash
    assert parse("AcceleratedRing = true\n" + SEGMENT).hash == second.hash


def test_unstated_accelerated_ring_becomes_false_on_a_wan():
    first = parse(SEGMENT + FAR)
    second = parse(SEGMENT + FAR, previous=first)
    assert first.wide_area
    assert second.accelerated_ring is False
    assert second.hash == first.hash


def test_accelerated_ring_stated_once_keeps_its_value():
    first = parse("AcceleratedRing = false\n" + SEGMENT)
    assert parse(SEGMENT, previous=first).accelerated_ring is False
    assert parse(SEGMENT, previous=parse(SEGMENT, previous=first)).accelerated_ring is False


def test_guess_of_lan_or_wan_is_not_repeated():
    first = parse(SEGMENT)
    second = parse(SEGMENT + FAR, previous=first)
    assert not second.wide_area
    assert second.timeouts == first.timeouts


def test_small_personal_window_is_refused_once_the_ring_turns_accelerated():
    text = "PersonalWindow = 10\n" + SEGMENT
    first = parse(text)
    assert any("a reload will be refused" in warning for warning in first.warnings)
    with pytest.raises(ConfigurationError, match="AcceleratedWindow"):
        parse(text, previous=first)


def test_options_left_out_keep_their_values():
    first = parse(
        "Window = 99\nSocketPortReuse = on\nDebugFlags = { ALL }\nEventTimeStamp\n"
        "AcceleratedRing = true\n" + SEGMENT
    )
    second = parse("PersonalWindow = 30\n" + SEGMENT, previous=first)
    assert (second.window, second.personal_window) == (99, 30)
    assert second.socket_port_reuse is PortReuse.ON
    assert second.debug_flags == 0xFFFFFFFF
    assert second.event_time_stamp == first.event_time_stamp is not None
    assert second.accelerated_ring is True


def test_windows_are_checked_against_values_that_stay():
    first = parse("Window = 25\n" + SEGMENT)
    with pytest.raises(ConfigurationError, match=r"PersonalWindow \(26\)"):
        parse("PersonalWindow = 26\n" + SEGMENT, previous=first)


def test_authentication_methods_add_up():
    first = parse(SEGMENT)
    second = parse('AllowedAuthMethods = "IP"\n' + SEGMENT, previous=first)
    third = parse('AllowedAuthMethods = "NULL"\n' + SEGMENT, previous=second)
    assert second.allowed_auth_methods == ("IP",)
    assert third.allowed_auth_methods == ("IP", "NULL")


def test_null_method_once_stated_stays():
    first = parse('AllowedAuthMethods = "NULL"\n' + SEGMENT)
    second = parse('AllowedAuthMethods = "IP"\n' + SEGMENT, previous=first)
    assert second.allowed_auth_methods == ("NULL", "IP")


def test_custom_time_stamp_returns_with_microseconds():
    first = parse('EventTimeStamp = "%H"\n' + SEGMENT)
    second = parse("EventTimeStamp\n" + SEGMENT, previous=first)
    third = parse("EventPreciseTimeStamp\n" + SEGMENT, previous=second)
    assert second.event_time_stamp == "%m/%d/%y %H:%M:%S"
    assert third.event_time_stamp == "%H %s"
    assert third.event_precise_time_stamp


def test_timeouts_wait_for_the_next_start_and_say_so():
    names = ["Token", "Hurry", "Alive", "Join", "Rep", "Seg", "Gather", "Form", "Lookup"]
    stated = "".join(f"{name}Timeout = 700\n" for name in names)
    first = parse(SEGMENT)
    second = parse(stated + SEGMENT, previous=first)
    assert second.timeouts == first.timeouts
    assert any("take effect at the next start" in warning for warning in second.warnings)


def test_notes_name_old_and_new_values():
    result = again(
        SEGMENT + FAR, "Window = 200\nDaemonUser = nobody\n" + SEGMENT + FAR.replace("5000", "6000")
    )
    assert "Window: 160 to 200" in result.notes
    assert "DaemonUser: not stated to nobody, from the next start on" in result.notes
    assert any("port of 'c' changed from 5000 to 6000" in note for note in result.notes)
    assert any(note.startswith("hash changed from ") for note in result.notes)


def test_reload_reads_the_named_file(tmp_path):
    file = tmp_path / "spread.conf"
    file.write_text("AcceleratedRing = false\n" + ALONE)
    previous = load(file)
    file.write_text("AcceleratedRing = false\n" + ALONE + FAR)
    result = reload(previous, previous.by_name["a"], file)
    assert [daemon.name for daemon in result.added] == ["c"]
    file.write_text("AcceleratedRing = false\n" + FAR)
    with pytest.raises(ConfigurationError, match="the old configuration stays") as caught:
        reload(previous, previous.by_name["a"], file)
    assert caught.value.file_name == str(file)
