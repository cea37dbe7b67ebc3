"""What the benchmark makes of its measurements: medians, ratios, growth, plans."""

import io
import json
from itertools import cycle, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.__main__ import make_parser, make_plan
from bench.clusters import parse_kind
from bench.document import Findings, read_json, write_json
from bench.latency import percentiles
from bench.plan import Plan, full, quick
from bench.report import Series, print_memory, print_report, ratio
from bench.shapes import Result, Shape, Storm, Workload
from bench.soak import growth, later
from bench.storms import FrameCounter
from txspread.wire.constants import ServiceType
from txspread.wire.message import encode_message

ONE = Workload(Shape(1), 100, 1, 1)
STORM = Storm(Shape(3), 10)


def series(kind, rates, work=ONE):
    return Series(work, kind, [Result(rate=rate) for rate in rates])


def test_a_ratio_is_the_median_of_the_ratios_of_rounds_that_lie_next_to_each_other():
    # The machine was twice as fast in the second round; the medians' ratio would be 4.
    mine, base = series("mine", [200, 400, 400]), series("base", [100, 200, 50])
    assert ratio(mine, base, "rate") == 2
    assert mine.median("rate") == 400
    assert base.spread("rate") == 1.5


def test_rounds_without_a_value_are_left_out():
    mine, base = series("mine", [None, 300]), series("base", [100, 100])
    assert mine.values("rate") == [300]
    assert ratio(mine, base, "rate") == 3
    assert ratio(mine, base, "cpu") is None
    assert series("none", []).spread("rate") is None


def test_the_report_names_what_a_rate_counts_and_what_failed():
    output = io.StringIO()
    broken = series("broken", [None])
    broken.errors += ["cut off", "cut off"]
    storm = [series("mine", [5, 6], STORM), series("base", [2, 3], STORM)]
    print_report([[series("mine", [1000]), broken], storm], "base", output)
    text = output.getvalue()
    assert "1,000 msg/s" in text
    assert text.count("cut off") == 1
    assert "3 daemons, storm, 10 groups" in text
    assert "6 changes/s (x2.25)" in text


def test_percentiles():
    assert percentiles([]) == (None, None)
    values = [number / 1e6 for number in range(1, 1001)]
    assert percentiles(values[::-1]) == pytest.approx((501, 991))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=8),
    st.lists(st.integers(1, 100), min_size=1, max_size=8),
)
def test_frames_are_counted_however_the_stream_is_cut(frames, cuts):
    stream = b"".join(
        encode_message(ServiceType.REG_MEMB_MESS, b"group", [b"#a#b"] * groups, bytes(body))
        for groups, body in frames
    )
    counter, seen, position = FrameCounter(), 0, 0
    for size in cycle(cuts):
        if position >= len(stream):
            break
        seen = counter.feed(stream[position : position + size])
        position += size
    assert seen == len(frames)


def test_growth_is_judged_after_warm_up():
    times = list(range(100))
    values = [when * 50 if when < 20 else 1000 + when / 2 for when in times]
    assert growth(times, values) == pytest.approx(30)
    assert later(times, values) == pytest.approx(30)
    assert growth(times, [7.0] * 100) == 0
    assert growth([0.0], [7.0]) == later([0.0], [7.0]) == 0


def names(plan):
    return [job.work.name for job in plan.jobs]


def test_the_full_plan_has_every_line_of_the_matrix():
    plan = full()
    for line in (
        "1 daemon, 1→100, 100000 B, SAFE",
        "3 daemons accelerated, 3→10, 32 B, AGREED",
        "8 daemons, 8→1, 65536 B, SAFE",
        "20 daemons, 1→1, 1024 B, AGREED",
        "3 daemons, storm, 1000 groups",
    ):
        assert names(plan).count(line) == 1
    assert plan.detections == [3, 8, 20]
    assert plan.memory
    assert not any(
        job.throughput and not isinstance(job.work, Storm)
        for job in plan.jobs
        if job.work.shape.daemons == 20
    )
    # Workloads of one ring stand together: it is started once.
    shapes = [job.work.shape for job in plan.jobs]
    assert len(plan.shapes()) == 1 + sum(one != other for one, other in pairwise(shapes))
    assert plan.estimate(2) > 3600


def test_the_quick_plan_takes_some_minutes():
    assert 120 < quick().estimate(2) < 360
    assert Plan().estimate(2) == 0


def test_the_command_line_makes_the_plan():
    def plan(*words):
        return make_plan(make_parser().parse_args(words))

    assert len(names(plan())) == 12
    assert names(plan("--no-messages", "--storms", "1,5", "--daemons", "3")) == [
        "3 daemons, storm, 1 group",
        "3 daemons, storm, 5 groups",
    ]
    assert len(names(plan("--no-messages", "--storms"))) == 4
    assert names(plan("--quick", "--only", "1→10,")) == ["1 daemon, 1→10, 100 B, AGREED"]
    asked = plan("--quick", "--rounds", "7", "--latency-seconds", "9", "--soak", "60", "--memory")
    assert (asked.rounds, asked.latency_seconds, asked.soak, asked.memory) == (7, 9.0, 60.0, True)
    assert plan("--daemons", "1,3,20", "--detection").detections == [3, 20]


def test_kinds():
    assert parse_kind("txspread").name == "txspread"
    mixed = parse_kind("mixed=txspread,upstream:/opt/spread")
    assert (mixed.name, len(mixed.specs)) == ("mixed", 2)
    less = parse_kind("less=without:trains").specs[0].command
    assert less[1:4] == ("-m", "bench.without", "trains")
    assert parse_kind("there=address:127.0.0.1:4803").external
    with pytest.raises(ValueError, match="not txspread, without:STEP, upstream:PREFIX"):
        parse_kind("nonsense")


def test_documents_of_several_runs_become_one(tmp_path):
    paths = [tmp_path / "first.json", tmp_path / "second.json"]
    for path, rate in zip(paths, (1, 2), strict=True):
        findings = Findings(["mine"], "mine", table=[[series("mine", [rate])]])
        findings.failures.append(path.name)
        if rate == 2:
            findings.table.append([series("mine", [3], STORM)])
        write_json(findings.document(), path)
    merged = read_json(paths)
    rates = [line["kinds"]["mine"]["median"]["rate"] for line in merged["workloads"]]
    assert rates == [2, 3]
    assert merged["failures"] == ["first.json", "second.json"]
    assert [line.get("groups") for line in merged["workloads"]] == [None, 10]
    other = tmp_path / "other.json"
    other.write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="no result of python -m bench"):
        read_json([other])


def test_memory_is_printed_only_if_it_was_measured():
    output = io.StringIO()
    print_memory([], output)
    assert output.getvalue() == ""
