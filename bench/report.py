"""Printing medians, spreads and ratios, and writing them as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from attrs import asdict, define, field

from bench.detection import Detection
from bench.workloads import Result, Workload

METRICS = (
    "rate",
    "megabytes",
    "cpu",
    "p50",
    "p99",
    "half_p50",
    "half_p99",
    "daemon_busy",
    "generator_busy",
)


@define
class Series:
    """All rounds of one workload on one kind of daemon."""

    workload: Workload
    kind: str
    results: list[Result] = field(factory=list)
    errors: list[str] = field(factory=list)

    def values(self, metric: str) -> list[float]:
        """What the rounds gave, those without a value left out."""
        return [value for result in self.results if (value := getattr(result, metric)) is not None]

    def median(self, metric: str) -> float | None:
        """Median over the rounds."""
        values = self.values(metric)
        return statistics.median(values) if values else None

    def spread(self, metric: str) -> float | None:
        """(largest - smallest) / median."""
        values = self.values(metric)
        middle = self.median(metric)
        return (max(values) - min(values)) / middle if middle else None


def ratio(series: Series, base: Series, metric: str) -> float | None:
    """Median of the ratios of the rounds, which were measured next to each other."""
    pairs = [
        (getattr(mine, metric), getattr(other, metric))
        for mine, other in zip(series.results, base.results, strict=False)
    ]
    ratios = [mine / other for mine, other in pairs if mine is not None and other]
    return statistics.median(ratios) if ratios else None


def print_report(table: Sequence[Sequence[Series]], base: str | None, output: TextIO) -> None:
    """One block for each workload, one line for each kind."""
    width = max((len(series.kind) for row in table for series in row), default=4)
    for row in table:
        print(f"\n{row[0].workload.name}", file=output)
        reference = next((series for series in row if series.kind == base), None)
        for series in row:
            print(f"  {series.kind:<{width}}  {_line(series, reference)}", file=output)
            for error in dict.fromkeys(series.errors):
                print(f"  {'':<{width}}  failed: {error}", file=output)


def _line(series: Series, reference: Series | None) -> str:
    parts = []
    for metric, label, digits in (
        ("rate", "msg/s", 0),
        ("megabytes", "MB/s", 1),
        ("cpu", "µs CPU", 2),
        ("p50", "µs p50", 0),
        ("p99", "µs p99", 0),
        ("half_p50", "µs p50 loaded", 0),
        ("half_p99", "µs p99 loaded", 0),
    ):
        value = series.median(metric)
        if value is None:
            continue
        text = f"{value:>9,.{digits}f} {label}"
        if reference is not None and reference is not series and metric != "megabytes":
            times = ratio(series, reference, metric)
            if times is not None:
                text += f" (x{times:.2f})"
        if metric == "rate":
            text += f" ±{100 * (series.spread(metric) or 0) / 2:.0f}%"
        parts.append(text)
    busy = series.median("generator_busy")
    if busy is not None:
        parts.append(f"generators {100 * busy:.0f}% busy")
    return "  ".join(parts)


def print_detections(detections: Sequence[Detection], kinds: Sequence[str], output: TextIO) -> None:
    """How long it took the survivors' clients to hear of a killed daemon."""
    for what in dict.fromkeys((one.daemons, one.timeouts) for one in detections):
        print(f"\n{what[0]} daemons, one killed, {what[1]} timeouts", file=output)
        for kind in kinds:
            values = [
                value
                for one in detections
                if (one.daemons, one.timeouts) == what and one.kind == kind
                for value in one.seconds
            ]
            if values:
                print(
                    f"  {kind}  median {1000 * statistics.median(values):,.0f} ms, "
                    f"largest {1000 * max(values):,.0f} ms, {len(values)} clients",
                    file=output,
                )


def write_json(
    table: Sequence[Sequence[Series]],
    base: str | None,
    path: Path,
    idle: Mapping[str, float],
    detections: Sequence[Detection],
) -> None:
    """Everything that was measured, and the machine it was measured on."""
    document = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "base": base,
        "workloads": [_workload(row, base) for row in table],
        "idle_share_of_a_core": dict(idle),
        "detection": [asdict(one) for one in detections],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _workload(row: Sequence[Series], base: str | None) -> dict[str, object]:
    workload = row[0].workload
    reference = next((series for series in row if series.kind == base), None)
    return {
        "name": workload.name,
        "daemons": workload.shape.daemons,
        "accelerated": workload.shape.accelerated,
        "body": workload.body,
        "senders": workload.senders,
        "receivers": workload.receivers,
        "service": workload.service.name,
        "kinds": {
            series.kind: {
                "median": {metric: series.median(metric) for metric in METRICS},
                "spread": {metric: series.spread(metric) for metric in METRICS},
                "ratio": {
                    metric: ratio(series, reference, metric)
                    for metric in METRICS
                    if reference is not None
                },
                "rounds": [asdict(result) for result in series.results],
                "errors": series.errors,
            }
            for series in row
        },
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # another system: the general name does
    return platform.processor()
