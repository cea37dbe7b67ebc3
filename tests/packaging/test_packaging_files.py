"""Packages, unit files, containers, manual pages."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import attrs
import pytest

from txspread.config import load
from txspread.daemon.command import make_parser
from txspread.tools.render import make_parser as make_render_parser

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"


def man_maker():
    spec = importlib.util.spec_from_file_location("make_man", PACKAGING / "man" / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_manual_pages_are_what_the_documentation_and_the_parsers_say():
    for name, text in man_maker().pages().items():
        kept = (PACKAGING / "man" / name).read_text(encoding="utf-8")
        assert kept == text, f"run python packaging/man/make.py: {name} is out of date"


def test_manual_pages_name_every_option():
    page = (PACKAGING / "man" / "txspread.1").read_text().replace("\\-", "-")
    for action in make_parser()._actions:
        for option in action.option_strings:
            assert option in page


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_manual_pages_are_clean_roff():
    for page in sorted((PACKAGING / "man").glob("*.[15]")):
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", "-z", str(page)],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert done.stderr == ""


def unit(name: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for line in (PACKAGING / "systemd" / name).read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


@pytest.mark.parametrize("name", ["txspread.service", "realtime.conf"])
def test_the_units_command_line_is_one_the_daemon_takes(name):
    command = unit(name)["ExecStart"][-1].split()
    assert command[0] == "/usr/bin/txspread"
    options = make_parser().parse_args(command[1:])
    assert options.config == "/etc/spread.conf"
    assert (options.realtime is not None) == (name == "realtime.conf")


def test_the_unit_lets_the_daemon_do_what_it_needs():
    values = unit("txspread.service")
    assert values["Type"] == ["notify"]
    assert {"AF_INET", "AF_UNIX"} <= set(values["RestrictAddressFamilies"][0].split())
    assert "CAP_SYS_NICE" in values["AmbientCapabilities"][0]
    assert values["RuntimeDirectory"] == ["txspread"]
    assert "/run/txspread/4803" in unit("txspread.socket")["ListenStream"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    for name in ("txspread.service", "txspread.socket"):
        text = (PACKAGING / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/bin/txspread", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "txspread" in line] == []


def test_the_compose_files_configuration_is_good_and_its_commands_too():
    configuration = load(str(PACKAGING / "docker" / "spread.conf"), lambda name: None)
    names = [daemon.name for daemon in configuration.daemons]
    assert names == ["red", "green", "blue"]
    assert all(len(segment.daemons) == 1 for segment in configuration.segments)
    text = (PACKAGING / "docker" / "compose.yaml").read_text()
    for daemon in configuration.daemons:
        assert f"ipv4_address: {daemon.address}\n" in text
        assert f'"--name", "{daemon.name}"' in text


def test_kubernetes_and_compose_are_yaml_with_options_that_exist():
    yaml = pytest.importorskip("yaml")
    compose = yaml.safe_load((PACKAGING / "docker" / "compose.yaml").read_text())
    for service in compose["services"].values():
        assert make_parser().parse_args(service["command"]).http == ("", 9480)
    documents = list(yaml.safe_load_all((PACKAGING / "kubernetes" / "txspread.yaml").read_text()))
    (stateful,) = [one for one in documents if one["kind"] == "StatefulSet"]
    pod = stateful["spec"]["template"]["spec"]
    containers = {one["name"]: one for one in pod["containers"] + pod["initContainers"]}
    options = make_parser().parse_args(containers["daemon"]["args"])
    assert (options.http, options.log_format) == (("", 9480), "json")
    for name in ("render", "follow"):
        options = make_render_parser().parse_args(containers[name]["args"])
        assert options.count == stateful["spec"]["replicas"]
        assert options.names == "txspread-{}." + stateful["spec"]["serviceName"]
    assert make_render_parser().parse_args(containers["follow"]["args"]).watch == 5


def makes_wheels() -> bool:
    """Whether the setuptools of this environment can; else pip fetches one that can."""
    import setuptools

    major, minor = map(int, setuptools.__version__.split(".")[:2])
    return (major, minor) >= (70, 1) or importlib.util.find_spec("wheel") is not None


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist and the wheel made from it."""
    where = tmp_path_factory.mktemp("built")
    source = where / "source"
    kept = ("txspread", "twisted", "setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in")
    kept += ("README.md", "LICENSE")
    (source / "packaging").mkdir(parents=True)
    shutil.copy(ROOT / "packaging" / "build_backend.py", source / "packaging")
    for name in kept:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source)
    make = "from setuptools.build_meta import build_sdist; import sys; build_sdist(sys.argv[1])"
    run([sys.executable, "-c", make, str(where)], source)
    (sdist,) = where.glob("*.tar.gz")
    unpacked = where / "unpacked"
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (tree,) = unpacked.iterdir()
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(where)]
    if makes_wheels():
        pip.append("--no-build-isolation")
    run([*pip, str(tree)], where)
    (wheel,) = where.glob("*.whl")
    return where, wheel


def run(command: list[str], where: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["TXSPREAD_COMPILE"] = "0"
    done = subprocess.run(
        command, cwd=where, env=environment, capture_output=True, text=True, timeout=280,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_from_the_sdist_has_all_files(built):
    _where, wheel = built
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "txspread").rglob("*"):
        if (
            path.is_file()
            and path.suffix not in {".pyc", ".so"}
            and "__pycache__" not in path.parts
        ):
            assert str(path.relative_to(ROOT)) in names
    assert "twisted/plugins/txspread_plugin.py" in names
    assert not any(name.startswith(("tests/", "bench/")) for name in names)


def test_the_wheel_works_in_an_environment_of_its_own(built):
    where, wheel = built
    home = where / "environment"
    # Dependencies come from this interpreter's environment: no network is needed.
    run([sys.executable, "-m", "venv", "--without-pip", str(home)], where)
    (site,) = home.glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
    run([*pip, "install", "--no-deps", "--no-index", "--quiet", str(wheel)], where)
    (site / "dependencies.pth").write_text(str(Path(attrs.__file__).parents[1]) + "\n")
    told = run([str(home / "bin" / "txspread"), "--version"], where)
    assert told.startswith("txspread ")
    place = run(
        [str(home / "bin" / "python"), "-c", "import txspread; print(txspread.__file__)"], where
    )
    assert Path(place.strip()).is_relative_to(home)
    report = run([str(home / "bin" / "txspread"), "--check"], where)
    assert "Hash: " in report
    page = run(
        [str(home / "bin" / "python"), "-c",
         "from txspread.observe.page import PAGE; print(len(PAGE))"], where,
    )  # fmt: skip
    assert int(page) > 10_000
