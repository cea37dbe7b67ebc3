"""One measurement of one workload: messages a second, and latencies of the kinds in turn."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from bench.clusters import Cluster
from bench.latency import Probe, percentiles
from bench.load import Load
from bench.metering import meter
from bench.shapes import Address, Result, Workload

WARM_UP = 0.4
"""Seconds of load before the clock starts."""
_LOADED_WARM_UP = 0.15
"""The same before each slice of a latency under load."""
SLICE = 0.25
"""Seconds for which one kind's latency is measured before it is the next one's turn."""
ENOUGH = 1000
"""Arrivals below which the 99th percentile says little."""
_PATIENCE = 5
"""Times the asked-for seconds that may be spent to get enough."""


def measure(cluster: Cluster, workload: Workload, seconds: float) -> Result:
    """Measure messages a second and CPU.

    Raises:
        RuntimeError, OSError: the daemon or a generator did not play along.

    """
    load = _load(cluster, workload)
    receivers = len(cluster.members) * workload.receivers
    result = meter(cluster, load, load.received, receivers, WARM_UP, seconds)
    if result.rate is not None:
        result.megabytes = result.rate * workload.body / 1e6
    return result


def measure_latencies(
    clusters: Sequence[Cluster],
    workload: Workload,
    seconds: float,
    results: Sequence[Result],
    rate: float | None = None,
) -> dict[int, str]:
    """Measure the latency of all clusters, in short slices in turn, so noise hits all alike.

    Args:
        clusters: of the kinds.
        workload: what is sent, and to whom.
        seconds: for each cluster, or more until there are enough arrivals.
        results: of the clusters; the percentiles are put there.
        rate: messages a second that others send meanwhile, to the slices' own cluster only.

    Returns:
        Why it failed, for those clusters by number where it did.

    """
    failed: dict[int, str] = {}
    found: list[list[float]] = [[] for _ in clusters]
    spent = [0.0] * len(clusters)
    probes: dict[int, Probe] = {}
    loads: dict[int, Load] = {}
    with contextlib.ExitStack() as stack:
        for number, cluster in enumerate(clusters):
            try:
                stack.callback(cluster.settle)
                if rate is not None:
                    loads[number] = _load(cluster, workload, rate)
                    stack.callback(loads[number].stop)
                    loads[number].prepare()
                probes[number] = Probe(
                    cluster.members[0].address,
                    _receivers(cluster, workload),
                    workload.body,
                    int(workload.service),
                )
                stack.callback(probes[number].close)
            except (RuntimeError, OSError) as error:
                failed[number] = f"{error}: {cluster.log()}"
        waiting = [number for number in range(len(clusters)) if number not in failed]
        while waiting:
            for number in list(waiting):
                try:
                    found[number] += _slice(probes[number], loads.get(number))
                except (RuntimeError, OSError) as error:
                    failed[number] = f"{error}: {clusters[number].log()}"
                    waiting.remove(number)
                spent[number] += SLICE
            waiting = [
                number
                for number in waiting
                if spent[number] < seconds
                or (len(found[number]) < ENOUGH and spent[number] < _PATIENCE * seconds)
            ]
    for number, result in enumerate(results):
        if rate is None:
            result.p50, result.p99 = percentiles(found[number])
            result.samples = len(found[number])
        else:
            result.half_p50, result.half_p99 = percentiles(found[number])
            result.half_samples = len(found[number])
    return failed


def _slice(probe: Probe, load: Load | None) -> list[float]:
    if load is None:
        return probe.run(SLICE)
    load.resume()
    try:
        time.sleep(_LOADED_WARM_UP)
        found = probe.run(SLICE)
    finally:
        load.pause()
    if load.failed():
        raise RuntimeError("a load generator has ended")
    return found


def _load(cluster: Cluster, workload: Workload, rate: float | None = None) -> Load:
    addresses = [member.address for member in cluster.members]
    senders = [addresses[number % len(addresses)] for number in range(workload.senders)]
    return Load(senders, _receivers(cluster, workload), workload.body, int(workload.service), rate)


def _receivers(cluster: Cluster, workload: Workload) -> list[Address]:
    return [member.address for member in cluster.members for _ in range(workload.receivers)]
