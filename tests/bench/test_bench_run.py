"""Short real runs: a daemon, load generators, and everything that is written of it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from bench.clusters import Cluster, parse_kind
from bench.detection import TIMEOUTS
from bench.memory import measure_memory
from bench.shapes import Shape, Storm
from bench.soak import soak
from bench.storms import measure_storm

ROOT = Path(__file__).parents[2]


def test_a_short_run_of_one_daemon(tmp_path):
    results, page = tmp_path / "results.json", tmp_path / "page.html"
    drawn = all(importlib.util.find_spec(name) for name in ("jinja2", "matplotlib"))
    command = [sys.executable, "-m", "bench", "--no-idle", "--half-load", "--storms", "10"]
    command += ["--bodies", "100", "--receivers", "2", "--rounds", "1"]
    command += ["--seconds", "0.3", "--latency-seconds", "0.2"]
    command += ["--json", str(results), *(["--html", str(page)] * drawn)]
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(results.read_text())
    messages, storm = (line["kinds"]["txspread"] for line in document["workloads"])
    assert not messages["errors"] + storm["errors"]
    for metric in ("rate", "megabytes", "cpu", "p50", "p99", "half_p50", "generator_busy"):
        assert messages["median"][metric] > 0
    assert messages["rounds"][0]["samples"] >= 1000
    assert storm["median"]["rate"] > 0
    assert storm["median"]["cpu"] > 0
    assert "txspread" in document["versions"]["txspread"]
    assert "1 daemon, storm, 10 groups" in done.stdout
    assert page.exists() == drawn


def test_a_storm_on_a_ring_is_seen_by_all():
    cluster = Cluster.start(parse_kind("txspread"), 2, options=TIMEOUTS["low"])
    try:
        result = measure_storm(cluster, Storm(Shape(2), 3), 0.3)
    finally:
        cluster.stop()
    assert result.rate > 0
    assert result.cpu > 0
    assert result.generator_busy > 0


def test_memory_of_sessions_and_groups():
    found = measure_memory(parse_kind("txspread"), sessions=30, groups=2000, rest=0.05)
    assert found.kind == "txspread"
    assert found.base > 10_000
    assert 0 < found.group < 20
    assert found.session < 100


def test_a_soak_watches_every_daemon():
    lines = []
    (found,) = soak([parse_kind("txspread")], 1.0, TIMEOUTS["low"], progress=lines.append)
    assert found.failure == ""
    assert len(found.resident) == len(found.growth) == len(found.later) == 3
    assert all(len(values) == len(found.times) > 5 for values in found.resident)
    assert all(value > 10_000 for values in found.resident for value in values)
    assert found.done["messages"] > 0
    assert found.done["changes"] > 0
    assert lines
