"""Play random schedules and judge them: ``python -m txspread.testing.simulate``.

::

    python -m txspread.testing.simulate --seeds 0..999     # a range, ends included
    python -m txspread.testing.simulate --seeds 4711 -v    # one, with the daemons' log lines
    python -m txspread.testing.simulate --seeds 0..9 --daemons 20

Each schedule is a function of its seed and of the options.  A seed whose run
breaks a property is printed with the breaches and the command that replays it;
the exit status is 1 if there was any.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from attrs import evolve, frozen

from txspread.engine.alarms import Category, Priority
from txspread.testing.client_checker import check
from txspread.testing.plan import Plan, plan_for
from txspread.testing.scenario import Run
from txspread.testing.virtual_network import VirtualDaemon

PROGRESS = 1000
"""Schedules after which a line on the standard error tells how far the run is."""


@frozen
class Verdict:
    """What became of one seed."""

    seed: int
    breaches: tuple[str, ...]
    memberships: int
    """Regular memberships that were installed, over all daemons."""
    deliveries: int
    """Messages that clients got."""
    datagrams: int


class PrintedAlarms:
    """Prints a daemon's log lines with the virtual time."""

    def __init__(self, daemon: VirtualDaemon) -> None:
        self._daemon = daemon

    def wants(self, category: Category, priority: Priority) -> bool:
        """Everything is wanted."""
        return True

    def alarm(self, category: Category, priority: Priority, text: str, *args: object) -> None:
        """Print one line."""
        now = self._daemon.network.clock.now
        print(f"{now:10.4f} {self._daemon.daemon.name:4} {text % args if args else text}")


def judge(seed: int, plan: Plan | None = None, *, verbose: bool = False) -> Verdict:
    """Play one schedule and check its trace."""
    run = Run(seed, plan or plan_for(seed), PrintedAlarms if verbose else None)
    run.play()
    trace = run.recorder.trace
    breaches = [str(breach) for breach in check(trace)] + run.problems
    return Verdict(
        seed,
        tuple(breaches),
        sum(
            1
            for history in trace.daemons
            for event in history.events
            if getattr(event, "regular", False)
        ),
        sum(len(client.received) for client in trace.clients),
        run.network.carried,
    )


def replay_command(seed: int, daemons: int | None = None) -> str:
    """The command line that plays a seed again."""
    size = f" --daemons {daemons}" if daemons else ""
    return f"python -m txspread.testing.simulate --seeds {seed}{size} -v"


def _seeds(text: str) -> range:
    first, dots, last = text.partition("..")
    try:
        return range(int(first), int(last if dots else first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor A..B") from None


def _plan(seed: int, daemons: int | None) -> Plan:
    plan = plan_for(seed)
    if daemons is None:
        return plan
    segments = min(20, plan.segments if plan.segments < plan.daemons else daemons)
    return evolve(plan, daemons=daemons, segments=segments)


def _job(job: tuple[int, int | None, bool]) -> Verdict:
    seed, daemons, verbose = job
    try:
        return judge(seed, _plan(seed, daemons), verbose=verbose)
    except Exception as error:
        return Verdict(seed, (f"the run itself failed: {error!r}",), 0, 0, 0)


def play_all(
    seeds: Iterable[int], daemons: int | None = None, *, jobs: int = 1, verbose: bool = False
) -> Iterator[Verdict]:
    """Judge many seeds, in processes of their own when ``jobs`` is above 1."""
    work = [(seed, daemons, verbose) for seed in seeds]
    if jobs <= 1:
        yield from map(_job, work)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_job, work, chunksize=4)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m txspread.testing.simulate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seeds", type=_seeds, default=range(100), metavar="A..B")
    parser.add_argument("--daemons", type=int, help="in every schedule; 3 to 8 when absent")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("-v", "--verbose", action="store_true", help="print the log lines")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    broken = memberships = deliveries = 0
    seeds: range = options.seeds
    jobs = 1 if options.verbose else options.jobs
    verdicts = play_all(seeds, options.daemons, jobs=jobs, verbose=options.verbose)
    for number, verdict in enumerate(verdicts, 1):
        if number % PROGRESS == 0:
            print(f"{number} schedules, {broken} broken so far", file=sys.stderr, flush=True)
        memberships += verdict.memberships
        deliveries += verdict.deliveries
        if verdict.breaches:
            broken += 1
            print(f"seed {verdict.seed} is broken:")
            for breach in verdict.breaches:
                print(f"    {breach}")
            print(f"    replay: {replay_command(verdict.seed, options.daemons)}", flush=True)
    seconds = time.monotonic() - started
    print(
        f"{len(seeds)} schedules, {broken} broken; {memberships} memberships, "
        f"{deliveries} messages at clients; {seconds:.0f} s, {len(seeds) / seconds:.1f} a second"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
