"""``txspread-trace``: look at what ``txspread --trace`` has written."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from txspread.observe.sequence_chart import EmptySpanError, draw
from txspread.observe.trace_judge import judge, judged
from txspread.observe.trace_reader import Run, TraceError, read_files, read_runs
from txspread.observe.trace_summary import clock, summarise

EXIT_BREACH = 1
EXIT_ERROR = 2


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="txspread-trace",
        description="Summarise, judge and draw the traces of Spread daemons.  Give the traces of "
        "all daemons of a ring together.",
        epilog="Exit codes: 0 nothing to complain of, 1 a property is broken, 2 a file cannot be "
        "used.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    summary = commands.add_parser("summary", help="what each daemon has done, in numbers")
    summary.add_argument("files", nargs="+", metavar="FILE")
    judging = commands.add_parser(
        "judge", help="hold the deliveries against the properties of extended virtual synchrony"
    )
    judging.add_argument("files", nargs="+", metavar="FILE")
    chart = commands.add_parser("chart", help="draw a message sequence chart (SVG)")
    chart.add_argument("files", nargs="+", metavar="FILE")
    chart.add_argument("-o", "--output", metavar="SVG", help="file to write (default: stdout)")
    chart.add_argument(
        "--from",
        dest="begin",
        metavar="TIME",
        help="begin of the span: HH:MM:SS[.mmm] of the day of the first record, seconds since "
        "the epoch, or +SECONDS from the first record (default +0)",
    )
    chart.add_argument(
        "--to", dest="end", metavar="TIME", help="end of the span, likewise (default: 0.5 s later)"
    )
    chart.add_argument(
        "--membership",
        type=int,
        metavar="N",
        help="draw around the N-th regular membership of the first file, from its token loss on; "
        "negative numbers count from the last",
    )
    chart.add_argument(
        "--only",
        metavar="KINDS",
        help="datagrams to draw: token,data,alive,join,refer,form1,form2,hurry",
    )
    return parser


def moment(text: str, first: float) -> float:
    """Read a time of the command line; ``first`` is that of the first record.

    Raises :class:`ValueError` if it is none.
    """
    if text.startswith("+"):
        return first + float(text[1:])
    if ":" in text:
        hours, minutes, seconds = text.split(":")
        day = time.localtime(first)
        midnight = time.mktime((day.tm_year, day.tm_mon, day.tm_mday, 0, 0, 0, 0, 0, -1))
        return midnight + int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return float(text)


def _span(options: argparse.Namespace, runs: Sequence[Run]) -> tuple[float, float]:
    first = min(run.records[0]["time"] for run in runs)
    if options.membership is not None:
        first_file = read_runs(options.files[0])
        return _membership_span(first_file, options.membership)
    begin = first if options.begin is None else moment(options.begin, first)
    end = begin + 0.5 if options.end is None else moment(options.end, first)
    return begin, end


def _membership_span(runs: Sequence[Run], number: int) -> tuple[float, float]:
    spans = []
    for run in runs:
        began = run.records[0]["time"]
        for record in run.records:
            if record["kind"] == "state" and record["before"] == "OP":
                began = record["time"]
            elif record["kind"] == "regular":
                spans.append((began - 0.02, record["time"] + 0.03))
    try:
        return spans[number - 1 if number > 0 else number]
    except IndexError:
        raise ValueError(f"{runs[0].daemon} has {len(spans)} regular memberships") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        runs = read_files(options.files)
        if options.command == "summary":
            print(summarise(runs))
            return 0
        if options.command == "judge":
            return _judge(runs)
        return _chart(options, runs)
    except EmptySpanError:
        first = min(run.records[0]["time"] for run in runs)
        last = max(run.records[-1]["time"] for run in runs)
        problem = f"nothing in this span; the traces go from {clock(first)} to {clock(last)}"
    except (OSError, TraceError, ValueError) as error:
        problem = str(error)
    print(f"txspread-trace: {problem}", file=sys.stderr)
    return EXIT_ERROR


def _judge(runs: Sequence[Run]) -> int:
    breaches = judge(runs)
    broken = {breach.property for breach in breaches}
    for name in judged(runs):
        print(f"{'BROKEN' if name in broken else 'holds '}  {name}")
    for breach in breaches:
        print(f"  {breach}")
    return EXIT_BREACH if breaches else 0


def _chart(options: argparse.Namespace, runs: Sequence[Run]) -> int:
    kinds = frozenset(options.only.split(",")) if options.only else None
    begin, end = _span(options, runs)
    picture = draw(runs, begin, end, kinds)
    if options.output is None:
        sys.stdout.write(picture)
    else:
        Path(options.output).write_text(picture, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
