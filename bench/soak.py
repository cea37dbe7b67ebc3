"""Soaking rings in mixed load: the resident memory of every daemon, which should not grow.

The rings of all kinds run at the same time, each under the same load of its own.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence

from attrs import frozen

from bench.clusters import Cluster, Kind, Member
from bench.memory import resident
from bench.soak_load import SoakLoad

DAEMONS = 3
_SAMPLES = 600
"""Samples of a soak, at most one a second."""
_WARM_UP = 0.2
"""Share of the time at the beginning that growth is not judged by."""


@frozen
class Soak:
    """What became of one ring."""

    kind: str
    times: tuple[float, ...]
    """Seconds since the beginning, of each sample."""
    resident: tuple[tuple[float, ...], ...]
    """KiB: for each daemon, at these times."""
    growth: tuple[float, ...]
    """KiB a minute, for each daemon: slope of the line through all samples after warm-up."""
    later: tuple[float, ...]
    """KiB, for each daemon: median of the last fifth less that of the fifth after warm-up."""
    done: dict[str, int]
    """What the load has done: messages, changes of groups, visitors, megabytes received."""
    failure: str = ""
    """Why the load ended early, if it did."""


def growth(times: Sequence[float], values: Sequence[float]) -> float:
    """Slope after warm-up, in what ``values`` are, a minute."""
    first = _after_warm_up(times)
    if len(times) - first < 2:
        return 0.0
    return statistics.linear_regression(times[first:], values[first:]).slope * 60


def later(times: Sequence[float], values: Sequence[float]) -> float:
    """Median of the last fifth of the values less that of the fifth after warm-up."""
    first = _after_warm_up(times)
    part = max(1, len(values) // 5)
    if len(values) - first < 2:
        return 0.0
    return statistics.median(values[-part:]) - statistics.median(values[first : first + part])


def _resident(member: Member) -> float:
    """0 for a daemon that has ended."""
    assert member.process is not None
    try:
        return resident(member.process.pid)
    except (RuntimeError, OSError):
        return 0.0


def _after_warm_up(times: Sequence[float]) -> int:
    return sum(1 for when in times if when < _WARM_UP * times[-1])


def soak(
    kinds: Sequence[Kind],
    seconds: float,
    options: str = "",
    progress: Callable[[str], None] = lambda text: None,
) -> list[Soak]:
    """Run rings of three of all kinds at the same time.

    Raises:
        RuntimeError: a ring did not come up.

    """
    with contextlib.ExitStack() as stack:
        clusters: list[Cluster] = []
        for kind in kinds:
            clusters.append(Cluster.start(kind, DAEMONS, options=options))
            stack.callback(clusters[-1].stop)
        loads = [SoakLoad([member.address for member in one.members]) for one in clusters]
        for load in loads:
            stack.callback(load.stop)
            load.start()
        begin = time.monotonic()
        times: list[float] = []
        samples: list[list[list[float]]] = [[[] for _ in one.members] for one in clusters]
        failures = [""] * len(clusters)
        step = max(seconds / _SAMPLES, min(1.0, seconds / 20))
        while (passed := time.monotonic() - begin) < seconds:
            times.append(passed)
            for number, (cluster, load) in enumerate(zip(clusters, loads, strict=True)):
                for member, values in zip(cluster.members, samples[number], strict=True):
                    values.append(_resident(member))
                if not failures[number] and (
                    load.failed() or not all(values[-1] for values in samples[number])
                ):
                    failures[number] = f"ended after {passed:.0f} s: {cluster.log()}"
            if all(failures):
                break
            progress(f"soak: {passed:.0f} of {seconds:.0f} s")
            time.sleep(max(0.0, min(step, seconds - passed)))
        return [
            Soak(
                cluster.kind.name,
                tuple(times),
                tuple(tuple(values) for values in of_cluster),
                tuple(growth(times, values) for values in of_cluster),
                tuple(later(times, values) for values in of_cluster),
                load.counts(),
                failure,
            )
            for cluster, of_cluster, load, failure in zip(
                clusters, samples, loads, failures, strict=True
            )
        ]
