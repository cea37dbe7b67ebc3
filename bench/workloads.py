"""What is measured: the matrix of workloads, and one measurement of one of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from attrs import define, field, frozen

from bench.clusters import Cluster, cpu_seconds
from bench.load import Load, latencies
from txspread.wire.constants import ServiceType

WARM_UP = 0.4
"""Seconds of load before the clock starts."""


@frozen
class Shape:
    """A ring to start; workloads of one shape run on the same daemons."""

    daemons: int = 1
    accelerated: bool = False

    def __str__(self) -> str:
        return f"{self.daemons} daemon{'s'[: self.daemons > 1]}" + (
            " accelerated" if self.accelerated else ""
        )


@frozen
class Workload:
    """One line of the report."""

    shape: Shape
    body: int
    senders: int
    """In all, spread over the daemons."""
    receivers: int
    """For each daemon."""
    service: ServiceType = ServiceType.AGREED_MESS

    @property
    def name(self) -> str:
        """How it is printed and selected."""
        service = (self.service.name or "").removesuffix("_MESS")
        return f"{self.shape}, {self.senders}→{self.receivers}, {self.body} B, {service}"


@define
class Result:
    """What one measurement gave; None where it was not taken."""

    rate: float | None = None
    """Messages a second at each receiver."""
    megabytes: float | None = None
    """Bodies, 10^6 bytes a second at each receiver."""
    cpu: float | None = None
    """Microseconds of the daemons' CPU for each message at each receiver."""
    daemon_busy: float | None = None
    """Share of one core that the busiest cluster used, summed over its daemons."""
    generator_busy: float | None = None
    """Share of one core that the busiest load generator used: at 1 it is the limit."""
    p50: float | None = None
    """Microseconds from writing to arrival, one message at a time."""
    p99: float | None = None
    half_p50: float | None = None
    """The same while others send at half of the slowest kind's peak."""
    half_p99: float | None = None
    samples: int = field(default=0)


def matrix(
    daemons: Iterable[int],
    bodies: Iterable[int],
    receivers: Iterable[int],
    services: Iterable[ServiceType],
    accelerated: Iterable[bool],
) -> Iterator[Workload]:
    """Every combination: one sender, and on a ring all daemons sending as well."""
    bodies, receivers, services = list(bodies), list(receivers), list(services)
    accelerated = list(accelerated)
    for size in daemons:
        for fast in accelerated if size > 1 else [False]:
            shape = Shape(size, fast)
            for service in services:
                for count in receivers:
                    for senders in sorted({1, size}):
                        for body in bodies:
                            yield Workload(shape, body, senders, count, service)


def measure(
    cluster: Cluster,
    workload: Workload,
    seconds: float,
    *,
    throughput: bool = True,
    latency: bool = True,
) -> Result:
    """Take one measurement.

    Raises:
        RuntimeError, OSError: the daemon or a generator did not play along.

    """
    result = Result()
    if throughput:
        _measure_throughput(cluster, workload, seconds, result)
    if latency and workload.senders == 1:
        found = _latencies(cluster, workload, min(seconds, 1.0))
        result.p50, result.p99 = _percentiles(found)
        result.samples = len(found)
    return result


def measure_loaded(
    cluster: Cluster, workload: Workload, seconds: float, rate: float, result: Result
) -> None:
    """Add the latency under a load of ``rate`` messages a second to a result.

    Raises:
        RuntimeError, OSError: the daemon or a generator did not play along.

    """
    load = _load(cluster, workload, rate)
    try:
        load.start()
        time.sleep(WARM_UP)
        found = _latencies(cluster, workload, min(seconds, 1.0))
        if load.failed():
            raise RuntimeError("a load generator has ended: " + cluster.log())
    finally:
        load.stop()
    result.half_p50, result.half_p99 = _percentiles(found)


def _load(cluster: Cluster, workload: Workload, rate: float | None = None) -> Load:
    addresses = [member.address for member in cluster.members]
    senders = [addresses[number % len(addresses)] for number in range(workload.senders)]
    receivers = [address for address in addresses for _ in range(workload.receivers)]
    return Load(senders, receivers, workload.body, int(workload.service), rate)


def _measure_throughput(
    cluster: Cluster, workload: Workload, seconds: float, result: Result
) -> None:
    load = _load(cluster, workload)
    receivers = len(cluster.members) * workload.receivers
    try:
        load.start()
        time.sleep(WARM_UP)
        generators = {pid: cpu_seconds(pid) for pid in load.pids()}
        cpu, count, begin = cluster.cpu(), load.received(), time.perf_counter()
        time.sleep(seconds)
        cpu_after, count_after, end = cluster.cpu(), load.received(), time.perf_counter()
        if load.failed():
            raise RuntimeError("a load generator has ended: " + cluster.log())
        busy = [(cpu_seconds(pid) - used) / (end - begin) for pid, used in generators.items()]
    finally:
        load.stop()
    delivered = count_after - count
    if not delivered:
        raise RuntimeError("nothing was delivered: " + cluster.log())
    result.rate = delivered / receivers / (end - begin)
    result.megabytes = result.rate * workload.body / 1e6
    result.generator_busy = max(busy)
    if cpu is not None and cpu_after is not None:
        result.cpu = (cpu_after - cpu) / delivered * 1e6
        result.daemon_busy = (cpu_after - cpu) / (end - begin)


def _latencies(cluster: Cluster, workload: Workload, seconds: float) -> list[float]:
    addresses = [member.address for member in cluster.members]
    receivers = [address for address in addresses for _ in range(workload.receivers)]
    return latencies(addresses[0], receivers, workload.body, int(workload.service), seconds)


def _percentiles(found: list[float]) -> tuple[float | None, float | None]:
    """Median and 99th percentile in microseconds."""
    if not found:
        return None, None
    found.sort()
    return (
        found[len(found) // 2] * 1e6,
        found[min(len(found) - 1, int(len(found) * 0.99))] * 1e6,
    )
