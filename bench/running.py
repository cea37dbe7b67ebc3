"""Carrying out a plan: rings are started, and the kinds measured in turn in every round."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from attrs import define, field

from bench.clusters import Cluster, Kind, idle_shares
from bench.detection import TIMEOUTS, detect
from bench.document import Findings
from bench.memory import measure_memory
from bench.plan import Job, Plan
from bench.report import Series
from bench.shapes import Result, Shape, Storm, Workload
from bench.soak import soak
from bench.storms import measure_storm
from bench.workloads import measure, measure_latencies


@define
class Runner:
    """One run.

    Args:
        plan: what to measure.
        kinds: of daemons, in the order of the report.
        findings: where everything is put.
        options: further lines for the daemons' spread.conf.
        saved: called with the findings whenever a ring is done.

    """

    plan: Plan
    kinds: Sequence[Kind]
    findings: Findings
    options: str = ""
    saved: Callable[[Findings], None] = field(default=lambda findings: None)

    def run(self) -> None:
        """Do it all."""
        try:
            for shape in self.plan.shapes():
                self._run_shape(shape)
                self.saved(self.findings)
            started = [kind for kind in self.kinds if not kind.external]
            self._run_detections(started)
            if self.plan.memory:
                self._run_memory(started)
            if self.plan.soak:
                found = soak(started, self.plan.soak, self.options, progress)
                self.findings.soaks += found
            self.saved(self.findings)
        finally:
            progress("")

    def _run_shape(self, shape: Shape) -> None:
        """Measure everything of one ring."""
        jobs = [job for job in self.plan.jobs if job.work.shape == shape]
        rows = [[Series(job.work, kind.name) for kind in self.kinds] for job in jobs]
        clusters: list[Cluster] = []
        try:
            for kind in self.kinds:
                progress(f"{shape}: starting {kind.name}")
                clusters.append(
                    Cluster.start(
                        kind, shape.daemons, accelerated=shape.accelerated, options=self.options
                    )
                )
                self.findings.versions.setdefault(kind.name, clusters[-1].version())
            if self.plan.idle:
                progress(f"{shape}: idle")
                for cluster, share in zip(clusters, idle_shares(clusters), strict=True):
                    if share is not None:
                        self.findings.idle[f"{shape}, {cluster.kind.name}"] = share
            self.findings.table += rows
            for number in range(self.plan.rounds):
                for job, row in zip(jobs, rows, strict=True):
                    self._run_round(clusters, job, row, number)
        except (RuntimeError, OSError) as error:
            self.findings.failures.append(f"{shape}: {error}")
        finally:
            for cluster in clusters:
                cluster.stop()

    def _run_round(
        self, clusters: Sequence[Cluster], job: Job, row: Sequence[Series], number: int
    ) -> None:
        turns = list(zip(clusters, row, strict=True))
        if number % 2:
            turns.reverse()  # nobody is always first
        work, where = job.work, f"round {number + 1} of {self.plan.rounds}"
        for cluster, series in turns:
            progress(f"{work.name}: {series.kind}, {where}")
            result = Result()
            try:
                if isinstance(work, Storm):
                    result = measure_storm(cluster, work, self.plan.seconds)
                elif job.throughput:
                    result = measure(cluster, work, self.plan.seconds)
            except (RuntimeError, OSError) as error:
                series.errors.append(str(error))
            series.results.append(result)
        if isinstance(work, Storm):
            return
        if job.latency:
            progress(f"{work.name}: latency, {where}")
            self._latencies(turns, work, None)
        peaks = [series.results[-1].rate for series in row]
        known = [peak for peak in peaks if peak is not None]
        if job.half_load and len(known) == len(peaks):
            progress(f"{work.name}: latency at half load, {where}")
            self._latencies(turns, work, min(known) / 2)

    def _latencies(
        self, turns: Sequence[tuple[Cluster, Series]], work: Workload, rate: float | None
    ) -> None:
        failed = measure_latencies(
            [cluster for cluster, _ in turns],
            work,
            self.plan.latency_seconds,
            [series.results[-1] for _, series in turns],
            rate,
        )
        for number, error in failed.items():
            turns[number][1].errors.append(error)

    def _run_detections(self, kinds: Sequence[Kind]) -> None:
        """Kill the first and the last daemon of rings, in turn with each kind."""
        for size in self.plan.detections:
            for timeouts in TIMEOUTS if size > 1 else ():
                for number in range(self.plan.rounds):
                    victim = 0 if number % 2 else size - 1
                    for kind in kinds:
                        what = f"{size} daemons, one killed, {timeouts} timeouts: {kind.name}"
                        progress(what)
                        try:
                            found = detect(kind, size, timeouts, victim, self.options)
                        except (RuntimeError, OSError) as error:
                            self.findings.failures.append(f"{what}: {error}")
                        else:
                            self.findings.detections.append(found)

    def _run_memory(self, kinds: Sequence[Kind]) -> None:
        for number in range(self.plan.rounds):
            for kind in kinds:
                what = f"memory, round {number + 1}: {kind.name}"
                progress(what)
                try:
                    self.findings.memory.append(measure_memory(kind, self.options))
                except (RuntimeError, OSError) as error:
                    self.findings.failures.append(f"{what}: {error}")


def progress(text: str) -> None:
    """Show what is being done, in one line that is written over, if somebody looks at it."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
