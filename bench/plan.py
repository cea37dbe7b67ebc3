"""What a run measures and about how long it takes: the matrix, the quick set, all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define, field, frozen

from bench.shapes import Shape, Storm, Workload
from txspread.wire.constants import ServiceType

BODIES = (32, 100, 1024, 8192, 65536, 100000)
STORMS = (1, 10, 100, 1000)
_AGREED = ServiceType.AGREED_MESS
_OVERHEAD = 1.0
"""Seconds to connect, join, warm up and stop, for each measurement, about."""
_START = 4.0
"""Seconds for a ring to come up and to measure its idle share."""
_DETECTION = 9.0
"""Seconds for a ring to come up, and to notice a killed daemon with default timeouts."""
_MEMORY = 15.0


@frozen
class Job:
    """A line of the report, and what of it is measured."""

    work: Workload | Storm
    throughput: bool = True
    latency: bool = False
    half_load: bool = False
    """Latency while others send; needs ``throughput``, for half of it is the load."""


@define
class Plan:
    """Everything that one run measures."""

    jobs: list[Job] = field(factory=list)
    rounds: int = 3
    seconds: float = 2.0
    """Of each throughput measurement and each storm."""
    latency_seconds: float = 1.0
    """Of each latency measurement, idle or loaded."""
    idle: bool = True
    """Whether to see what idle daemons use."""
    detections: list[int] = field(factory=list)
    """Sizes of rings in which a daemon is killed."""
    memory: bool = False
    soak: float = 0.0
    """Seconds of the soak; 0: none."""

    def shapes(self) -> list[Shape]:
        """The rings to start, in order."""
        return list(dict.fromkeys(job.work.shape for job in self.jobs))

    def estimate(self, kinds: int) -> float:
        """Seconds that it takes for so many kinds, roughly."""
        total = 0.0
        for job in self.jobs:
            if job.throughput:
                total += self.seconds + _OVERHEAD
            if job.latency:
                total += self.latency_seconds + _OVERHEAD / 2
            if job.half_load:
                total += 1.6 * self.latency_seconds + _OVERHEAD
        starts = sum(_START + shape.daemons / 4 for shape in self.shapes())
        noticed = 2 * sum(_DETECTION + size / 4 for size in self.detections)
        memory = _MEMORY if self.memory else 0.0
        return kinds * (self.rounds * (total + noticed + memory) + starts) + self.soak


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


def jobs_of(
    workloads: Iterable[Workload],
    *,
    throughput: bool = True,
    latency: bool = True,
    half_load: bool = False,
) -> list[Job]:
    """Jobs for workloads; latency is measured where one daemon sends."""
    found = []
    for workload in workloads:
        alone = workload.senders == 1
        job = Job(
            workload,
            throughput,
            latency=latency and alone,
            half_load=half_load and throughput and alone,
        )
        if job.throughput or job.latency:
            found.append(job)
    return found


def storms(daemons: Iterable[int], groups: Iterable[int]) -> list[Job]:
    """Storms of each number of groups in rings of each size."""
    groups = list(groups)
    return [Job(Storm(Shape(size), count)) for size in daemons for count in groups]


def quick() -> Plan:
    """A small fixed set for comparing two states of a daemon: some minutes for two kinds."""
    one, three, eight = Shape(1), Shape(3), Shape(8)
    jobs = [
        Job(Workload(one, body, 1, 1), latency=body == 100)
        for body in (32, 100, 1024, 8192, 100000)
    ]
    jobs.append(Job(Workload(one, 100, 1, 10)))
    for ring in (three, eight):
        jobs += [Job(Workload(ring, body, ring.daemons, 1)) for body in (100, 1024)]
        jobs.append(Job(Workload(ring, 100, 1, 1), throughput=False, latency=True))
    jobs += storms([1, 3], STORMS)
    return Plan(jobs, rounds=3, seconds=0.8, latency_seconds=1.0)


def full() -> Plan:
    """Everything there is to know, but for the soak; hours."""
    services = [_AGREED, ServiceType.SAFE_MESS]
    workloads = matrix([1, 3, 8], BODIES, [1, 10, 100], services, [False, True])
    jobs = jobs_of(workloads, half_load=True)
    twenty = matrix([20], [32, 100, 1024, 8192], [1], services, [False, True])
    jobs += jobs_of([one for one in twenty if one.senders == 1], throughput=False)
    jobs += storms([1, 3, 8], STORMS)
    jobs.sort(key=lambda job: (job.work.shape.daemons, job.work.shape.accelerated))
    return Plan(jobs, rounds=3, detections=[3, 8, 20], memory=True)
