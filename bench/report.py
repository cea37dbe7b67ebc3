"""Medians, spreads and ratios, and how they are printed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TextIO

from attrs import define, field

from bench.detection import Detection
from bench.memory import Memory
from bench.shapes import Result, Storm, Workload
from bench.soak import Soak

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

    workload: Workload | Storm
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
            if isinstance(series.workload, Storm):
                text = text.replace("msg/s", "changes/s")
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


def memory_median(found: Sequence[Memory], kind: str, what: str) -> float:
    """Median over the rounds of one kind."""
    return float(statistics.median(getattr(one, what) for one in found if one.kind == kind))


def print_memory(found: Sequence[Memory], output: TextIO) -> None:
    """Medians over the rounds, for each kind."""
    if found:
        print("\nresident memory of one daemon, KiB", file=output)
    for kind in dict.fromkeys(one.kind for one in found):
        parts = [
            f"{memory_median(found, kind, what):,.{digits}f} {label}"
            for what, label, digits in (
                ("base", "after the start", 0),
                ("session", "for each idle session", 2),
                ("member", "for each member of a group", 3),
                ("group", "for each group", 3),
                ("again", "more when all sessions come again", 0),
            )
        ]
        print(f"  {kind}  " + ", ".join(parts), file=output)


def print_soaks(found: Sequence[Soak], output: TextIO) -> None:
    """One line for each daemon."""
    for one in found:
        done = ", ".join(f"{count:,} {what}" for what, count in one.done.items())
        minutes = one.times[-1] / 60 if one.times else 0
        print(f"\nsoak, {one.kind}, {minutes:.1f} minutes: {done}", file=output)
        for number, values in enumerate(one.resident):
            print(
                f"  d{number}  {values[0]:,.0f} KiB at first, {values[-1]:,.0f} at last, "
                f"{max(values):,.0f} at most, after warm-up {one.growth[number]:+,.1f} a minute, "
                f"{one.later[number]:+,.0f} from the first fifth to the last",
                file=output,
            )
        if one.failure:
            print(f"  failed: {one.failure}", file=output)
