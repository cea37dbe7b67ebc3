"""``python -m bench``: run workloads on several daemons in turn and compare them."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.clusters import Cluster, Kind, idle_shares, parse_kind
from bench.detection import TIMEOUTS, Detection, detect
from bench.report import Series, print_detections, print_report, write_json
from bench.workloads import Result, Shape, Workload, matrix, measure, measure_loaded
from txspread.wire.constants import ServiceType

BODIES = (32, 100, 1024, 8192, 65536, 100000)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _services(text: str) -> list[ServiceType]:
    return [ServiceType[f"{word.strip().upper()}_MESS"] for word in text.split(",")]


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog="Example: python -m bench -d upstream:/opt/spread -d txspread --rounds 5",
    )
    parser.add_argument(
        "-d",
        "--daemon",
        action="append",
        type=parse_kind,
        metavar="[NAME=]SPEC[,SPEC...]",
        help="txspread, upstream:PREFIX, address:HOST:PORT, or 'command:WORDS' with {config} and "
        "{name}; several SPECs make mixed rings.  Default: txspread",
    )
    parser.add_argument("--base", help="kind that ratios refer to (default: the first)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--daemons", type=_numbers, default=[1], help="ring sizes: 1,3,8")
    parser.add_argument("--bodies", type=_numbers, default=list(BODIES))
    parser.add_argument("--receivers", type=_numbers, default=[1, 10], help="for each daemon")
    parser.add_argument("--services", type=_services, default=[ServiceType.AGREED_MESS])
    parser.add_argument("--rings", choices=("regular", "accelerated", "both"), default="regular")
    parser.add_argument("--only", metavar="REGEX", help="workloads whose name matches")
    parser.add_argument("--no-latency", action="store_true")
    parser.add_argument("--no-throughput", action="store_true")
    parser.add_argument(
        "--half-load",
        action="store_true",
        help="also measure latency while others send at half of the slowest kind's peak",
    )
    parser.add_argument(
        "--detection",
        action="store_true",
        help="also measure how long it takes to notice a killed daemon, for rings of --daemons",
    )
    parser.add_argument("--options", default="", help="further lines for spread.conf")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results there")
    parser.add_argument("--list", action="store_true", help="name the workloads, run nothing")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 1 if any measurement failed."""
    options = make_parser().parse_args(arguments)
    kinds: list[Kind] = options.daemon or [parse_kind("txspread")]
    accelerated = {"regular": [False], "accelerated": [True], "both": [False, True]}
    workloads = [
        workload
        for workload in matrix(
            options.daemons,
            options.bodies,
            options.receivers,
            options.services,
            accelerated[options.rings],
        )
        if options.only is None or re.search(options.only, workload.name)
    ]
    if options.list:
        for workload in workloads:
            print(workload.name)
        return 0
    table: list[list[Series]] = []
    idle: dict[str, float] = {}
    for shape in dict.fromkeys(workload.shape for workload in workloads):
        mine = [workload for workload in workloads if workload.shape == shape]
        table += run_shape(shape, mine, kinds, options, idle)
    detections = run_detections(kinds, options) if options.detection else []
    base = options.base or kinds[0].name
    print_report(table, base if len(kinds) > 1 else None, sys.stdout)
    if idle:
        print("\nidle, share of a core for each daemon", file=sys.stdout)
        for name, share in idle.items():
            print(f"  {name}  {100 * share:.2f}%", file=sys.stdout)
    print_detections(detections, [kind.name for kind in kinds], sys.stdout)
    if options.json is not None:
        write_json(table, base, options.json, idle, detections)
    return int(any(series.errors for row in table for series in row))


def run_shape(
    shape: Shape,
    workloads: list[Workload],
    kinds: list[Kind],
    options: argparse.Namespace,
    idle: dict[str, float],
) -> list[list[Series]]:
    """Measure all workloads of one shape, the kinds in turn within each round.

    The idle share of each kind is put into ``idle``.
    """
    table = [[Series(workload, kind.name) for kind in kinds] for workload in workloads]
    clusters: list[Cluster] = []
    try:
        for kind in kinds:
            clusters.append(
                Cluster.start(
                    kind, shape.daemons, accelerated=shape.accelerated, options=options.options
                )
            )
        _progress(f"{shape}: idle")
        for cluster, share in zip(clusters, idle_shares(clusters), strict=True):
            if share is not None:
                idle[f"{shape}, {cluster.kind.name}"] = share
        for number in range(options.rounds):
            for row in table:
                _run_round(clusters, row, number, options)
    finally:
        _progress("")
        for cluster in clusters:
            cluster.stop()
    return table


def _run_round(
    clusters: list[Cluster], row: list[Series], number: int, options: argparse.Namespace
) -> None:
    turns = list(zip(clusters, row, strict=True))
    if number % 2:
        turns.reverse()  # nobody is always first
    workload = row[0].workload
    for cluster, series in turns:
        _progress(f"{workload.name}: {series.kind}, round {number + 1}")
        result = Result()
        try:
            result = measure(
                cluster,
                workload,
                options.seconds,
                throughput=not options.no_throughput,
                latency=not options.no_latency,
            )
        except (RuntimeError, OSError) as error:
            series.errors.append(str(error))
        series.results.append(result)
    peaks = [series.results[-1].rate for series in row]
    if not options.half_load or workload.senders > 1 or None in peaks:
        return
    rate = min(peak for peak in peaks if peak is not None) / 2
    for cluster, series in turns:
        _progress(f"{workload.name}: {series.kind}, half load, round {number + 1}")
        try:
            measure_loaded(cluster, workload, options.seconds, rate, series.results[-1])
        except (RuntimeError, OSError) as error:
            series.errors.append(str(error))


def run_detections(kinds: list[Kind], options: argparse.Namespace) -> list[Detection]:
    """Kill the first and the last daemon of rings, in turn with each kind."""
    found = []
    for size in options.daemons:
        for timeouts in TIMEOUTS if size > 1 else ():
            for number in range(options.rounds):
                for kind in kinds:
                    if kind.external:
                        continue
                    victim = 0 if number % 2 else size - 1
                    _progress(f"{size} daemons, {timeouts} timeouts: {kind.name}")
                    found.append(detect(kind, size, timeouts, victim, options.options))
    _progress("")
    return found


def _progress(text: str) -> None:
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
