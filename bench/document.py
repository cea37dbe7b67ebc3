"""Everything that a run has found, as JSON: what ``bench.page`` makes its page of."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, define, field

from bench.detection import Detection
from bench.memory import Memory
from bench.report import METRICS, Series, ratio
from bench.shapes import Storm
from bench.soak import Soak


@define
class Findings:
    """What has been measured so far."""

    kinds: list[str]
    base: str
    """The kind that ratios refer to."""
    versions: dict[str, str] = field(factory=dict)
    """What each kind says that it is."""
    table: list[list[Series]] = field(factory=list)
    """One row for each workload or storm, one series in it for each kind."""
    idle: dict[str, float] = field(factory=dict)
    """Share of a core for each daemon, by ring and kind."""
    detections: list[Detection] = field(factory=list)
    memory: list[Memory] = field(factory=list)
    soaks: list[Soak] = field(factory=list)
    failures: list[str] = field(factory=list)
    """What could not be measured at all."""

    def failed(self) -> bool:
        """Whether any measurement did."""
        return bool(
            self.failures
            or any(series.errors for row in self.table for series in row)
            or any(one.failure for one in self.soaks)
        )

    def document(self) -> dict[str, Any]:
        """As it is written."""
        return {
            "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "machine": {
                "system": platform.platform(),
                "processor": _processor(),
                "cores": os.cpu_count(),
                "python": platform.python_version(),
            },
            "kinds": self.kinds,
            "versions": self.versions,
            "base": self.base,
            "workloads": [_line(row, self.base) for row in self.table],
            "idle_share_of_a_core": dict(self.idle),
            "detection": [asdict(one) for one in self.detections],
            "memory": [asdict(one) for one in self.memory],
            "soak": [asdict(one) for one in self.soaks],
            "failures": self.failures,
        }


def write_json(document: dict[str, Any], path: Path) -> None:
    """Write a document, so that a run that is broken off leaves a whole one behind."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    partial.replace(path)


def read_json(paths: Sequence[Path]) -> dict[str, Any]:
    """Read documents into one: of a line that several have, the last one's counts.

    Raises:
        OSError: a file cannot be read.
        ValueError: it holds something else.

    """
    merged: dict[str, Any] = {}
    lines: dict[str, Any] = {}
    for path in paths:
        document = json.loads(path.read_text())
        if not isinstance(document, dict) or "workloads" not in document:
            raise ValueError(f"{path} is no result of python -m bench")
        for key, value in document.items():
            if isinstance(value, dict) and key != "machine":
                merged.setdefault(key, {}).update(value)
            elif isinstance(value, list) and key != "kinds":
                merged.setdefault(key, []).extend(value)
            elif key == "kinds":
                merged[key] = list(dict.fromkeys([*merged.get(key, []), *value]))
            else:
                merged[key] = value
        lines.update((line["name"], line) for line in document["workloads"])
    merged["workloads"] = list(lines.values())
    return merged


def _line(row: Sequence[Series], base: str) -> dict[str, Any]:
    work = row[0].workload
    line: dict[str, Any] = {
        "name": work.name,
        "daemons": work.shape.daemons,
        "accelerated": work.shape.accelerated,
    }
    if isinstance(work, Storm):
        line["groups"] = work.groups
    else:
        line |= {
            "body": work.body,
            "senders": work.senders,
            "receivers": work.receivers,
            "service": work.service.name,
        }
    reference = next((series for series in row if series.kind == base), None)
    line["kinds"] = {
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
    }
    return line


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # another system: the general name does
    return platform.processor()
