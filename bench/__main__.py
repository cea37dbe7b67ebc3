"""``python -m bench``: run workloads on several daemons in turn and compare them."""

from __future__ import annotations

import argparse
import re
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.clusters import Kind, parse_kind
from bench.document import Findings, write_json
from bench.page import PageError, check_library, write_page
from bench.plan import BODIES, STORMS, Plan, full, jobs_of, matrix, quick, storms
from bench.report import print_detections, print_memory, print_report, print_soaks
from bench.running import Runner
from txspread.wire.constants import ServiceType


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
        help="txspread, without:STEP (plain txspread that lacks something; see bench/without.py), "
        "upstream:PREFIX, address:HOST:PORT, or 'command:WORDS' with {config} and {name}; several "
        "SPECs make mixed rings.  Default: txspread",
    )
    parser.add_argument("--base", help="kind that ratios refer to (default: the first)")
    sets = parser.add_argument_group("what is measured")
    whole = sets.add_mutually_exclusive_group()
    whole.add_argument(
        "--quick", action="store_true", help="a small fixed set, some minutes for two kinds"
    )
    whole.add_argument("--full", action="store_true", help="the whole matrix: hours")
    sets.add_argument("--daemons", type=_numbers, default=[1], help="ring sizes: 1,3,8")
    sets.add_argument("--bodies", type=_numbers, default=list(BODIES))
    sets.add_argument("--receivers", type=_numbers, default=[1, 10], help="for each daemon")
    sets.add_argument("--services", type=_services, default=[ServiceType.AGREED_MESS])
    sets.add_argument("--rings", choices=("regular", "accelerated", "both"), default="regular")
    sets.add_argument("--only", metavar="REGEX", help="lines whose name matches")
    sets.add_argument("--no-messages", action="store_true", help="no workloads of messages")
    sets.add_argument("--no-latency", action="store_true")
    sets.add_argument("--no-throughput", action="store_true")
    sets.add_argument("--no-idle", action="store_true", help="do not watch idle daemons first")
    sets.add_argument(
        "--half-load",
        action="store_true",
        help="also measure latency while others send at half of the slowest kind's peak",
    )
    sets.add_argument(
        "--storms",
        type=_numbers,
        nargs="?",
        const=list(STORMS),
        default=[],
        metavar="GROUPS",
        help="also measure storms of joins and leaves, with so many groups: "
        + ",".join(map(str, STORMS)),
    )
    sets.add_argument(
        "--detection",
        action="store_true",
        help="also measure how long it takes to notice a killed daemon, for rings of --daemons",
    )
    sets.add_argument(
        "--memory", action="store_true", help="also measure memory for each session and group"
    )
    sets.add_argument(
        "--soak",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="also run rings of three under mixed load so long, and watch their memory",
    )
    times = parser.add_argument_group("how")
    times.add_argument("--rounds", type=int)
    times.add_argument("--seconds", type=float, help="of each measurement")
    times.add_argument(
        "--latency-seconds",
        type=float,
        help="of each measurement of latency, more if that gives less than 1000 samples",
    )
    times.add_argument("--options", default="", help="further lines for spread.conf")
    output = parser.add_argument_group("results")
    output.add_argument("--json", type=Path, metavar="FILE", help="write all results there")
    output.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with plots (needs extra 'bench')"
    )
    output.add_argument("--list", action="store_true", help="name the lines, run nothing")
    return parser


def make_plan(options: argparse.Namespace) -> Plan:
    """What the command line asks for."""
    if options.quick:
        plan = quick()
    elif options.full:
        plan = full()
    else:
        plan = Plan()
        if not options.no_messages:
            accelerated = {"regular": [False], "accelerated": [True], "both": [False, True]}
            workloads = matrix(
                options.daemons,
                options.bodies,
                options.receivers,
                options.services,
                accelerated[options.rings],
            )
            plan.jobs = jobs_of(
                workloads,
                throughput=not options.no_throughput,
                latency=not options.no_latency,
                half_load=options.half_load,
            )
        plan.jobs += storms(options.daemons, options.storms)
    if options.only is not None:
        plan.jobs = [job for job in plan.jobs if re.search(options.only, job.work.name)]
    if options.detection:
        plan.detections = [size for size in options.daemons if size > 1]
    plan.memory = plan.memory or options.memory
    plan.soak = options.soak
    plan.idle = not options.no_idle
    plan.rounds = options.rounds or plan.rounds
    plan.seconds = options.seconds or plan.seconds
    plan.latency_seconds = options.latency_seconds or plan.latency_seconds
    return plan


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 1 if any measurement failed, 2 if the page cannot be made."""
    options = make_parser().parse_args(arguments)
    kinds: list[Kind] = options.daemon or [parse_kind("txspread")]
    plan = make_plan(options)
    seconds = plan.estimate(len(kinds))
    if options.list:
        for job in plan.jobs:
            print(job.work.name)
        return 0
    if options.html is not None:
        try:
            check_library()  # now, not after hours
        except PageError as error:
            print(error, file=sys.stderr)
            return 2
    print(f"{len(plan.jobs)} lines, {len(kinds)} kinds, about {_duration(seconds)}", flush=True)
    _raise_file_limit()
    findings = Findings([kind.name for kind in kinds], options.base or kinds[0].name)

    def save(so_far: Findings) -> None:
        if options.json is not None:
            write_json(so_far.document(), options.json)

    Runner(plan, kinds, findings, options.options, save).run()
    _print(findings)
    if options.html is not None:
        write_page(findings.document(), options.html)
    return int(findings.failed())


def _print(findings: Findings) -> None:
    base = findings.base if len(findings.kinds) > 1 else None
    print_report(findings.table, base, sys.stdout)
    if findings.idle:
        print("\nidle, share of a core for each daemon")
        for name, share in findings.idle.items():
            print(f"  {name}  {100 * share:.2f}%")
    print_detections(findings.detections, findings.kinds, sys.stdout)
    print_memory(findings.memory, sys.stdout)
    print_soaks(findings.soaks, sys.stdout)
    for failure in findings.failures:
        print(f"\nfailed: {failure}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def _raise_file_limit() -> None:
    """A hundred receivers at each of many daemons need more than the usual 1024 files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
