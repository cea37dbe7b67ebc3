"""``python -m bench.tuning``: how fast a dead daemon is noticed, and how low timers can go.

Two measurements, the numbers behind ``docs/tuning.md``:

* ``detect``: kill -9 of one daemon until the membership message at a client of each
  other daemon, for several ring sizes and presets of timers;
* ``alarms``: rings with ever shorter timers, idle or loaded, watched for membership
  changes that nobody asked for.

Both are bounded in time and print a table.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from attrs import frozen

from bench.presets import PRESETS, expected, scaled
from txspread.testing.live_clients import Crowd, LiveClient
from txspread.testing.processes import DaemonRing, txspread_command
from txspread.wire.constants import ServiceType

_GROUP = "watch"
_LIMIT = 90.0


@frozen
class Detected:
    """One killed daemon: seconds until the message at the first and the last client."""

    first: float
    last: float


def _connect(crowd: Crowd, ring: DaemonRing, daemons: Sequence[int]) -> dict[int, LiveClient]:
    """A client in the group at each daemon, once all of them see each other."""
    clients = {}
    for number in daemons:
        daemon = ring.daemons[number]
        name = f"w{random.randrange(1 << 30):08x}"[:10]
        clients[number] = crowd.connect(daemon.address, daemon.port, name)
        clients[number].join(_GROUP)
    if not crowd.run_until(
        lambda: all(len(one.members(_GROUP)) == len(clients) for one in clients.values()), _LIMIT
    ):
        raise RuntimeError("the daemons do not come together: " + ring.daemons[0].output()[-1000:])
    return clients


def detect(
    size: int,
    timers: Mapping[str, int],
    repeats: int,
    options: Sequence[str] = (),
    rate: int = 0,
) -> list[Detected]:
    """Kill one daemon after the other in fresh rings; the victims are taken in turn."""
    found = []
    with DaemonRing([txspread_command(*options)] * size, timeouts=timers) as ring:
        for repeat in range(repeats):
            crowd = Crowd()
            try:
                clients = _connect(crowd, ring, range(size))
                victim = repeat % size
                _load(crowd, list(clients.values()), rate, random.uniform(0.2, 0.7))
                survivors = [one for number, one in clients.items() if number != victim]
                process = ring.daemons[victim].process
                assert process is not None
                found.append(_until_told(crowd, survivors, process.kill))
                process.wait()
            finally:
                crowd.close()
            ring.start([ring.daemons[victim]])
    return found


def _until_told(
    crowd: Crowd, survivors: Sequence[LiveClient], kill: Callable[[], None]
) -> Detected:
    """Kill a daemon and wait until each client has a view with fewer members."""
    seen = {one: len(one.views) for one in survivors}
    arrived: dict[LiveClient, float] = {}
    began = time.monotonic()
    kill()

    def all_told() -> bool:
        now = time.monotonic()
        for one in survivors:
            if one not in arrived and any(
                len(view.members) <= len(survivors) for view in one.views[seen[one] :]
            ):
                arrived[one] = now - began
        return len(arrived) == len(survivors)

    if not crowd.run_until(all_told, _LIMIT):
        raise RuntimeError(f"a killed daemon was not noticed in {_LIMIT} s")
    return Detected(min(arrived.values()), max(arrived.values()))


def _load(crowd: Crowd, clients: Sequence[LiveClient], rate: int, seconds: float) -> None:
    """Send ``rate`` messages of 100 bytes a second in all, for a while."""
    end = time.monotonic() + seconds
    body = bytes(100)
    sent = 0.0
    last = time.monotonic()
    while (now := time.monotonic()) < end:
        sent += rate * (now - last)
        last = now
        for _ in range(int(sent)):
            sender = clients[random.randrange(len(clients))]
            if not sender.closed:
                sender.multicast(ServiceType.AGREED_MESS, [_GROUP], body)
        sent -= int(sent)
        crowd.run(0.01)
        for one in clients:
            one.messages[:] = one.views
            one.history.received.clear()
            one.history.sent.clear()


def alarms(
    size: int, timers: Mapping[str, int], seconds: float, rate: int, options: Sequence[str] = ()
) -> int:
    """Membership changes in a ring that nothing happens to, as a client saw them."""
    with DaemonRing([txspread_command(*options)] * size, timeouts=timers) as ring:
        crowd = Crowd()
        try:
            try:
                clients = _connect(crowd, ring, range(size))
            except RuntimeError:
                return -1
            before = {one: len(one.views) for one in clients.values()}
            _load(crowd, list(clients.values()), rate, seconds)
            return max(sum(1 for view in one.views[before[one] :]) for one in clients.values())
        finally:
            crowd.close()


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


def _print_detection(options: argparse.Namespace) -> None:
    print("| daemons | preset | expected | median | slowest | of |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size in options.daemons:
        for name in options.presets:
            timers = PRESETS[name]
            found = [
                one.last
                for one in detect(size, timers, options.repeats, options.option, options.rate)
            ]
            low, high = expected(timers)
            print(
                f"| {size} | {name} | {_milliseconds(low)} to {_milliseconds(high)} | "
                f"{_milliseconds(statistics.median(found))} | {_milliseconds(max(found))} | "
                f"{len(found)} |",
                flush=True,
            )


def _print_alarms(options: argparse.Namespace) -> None:
    print("| daemons | TokenTimeout | messages/s | seconds | false alarms |")
    print("| --- | --- | --- | --- | --- |")
    for size in options.daemons:
        for token in options.tokens:
            count = alarms(size, scaled(token), options.seconds, options.rate, options.option)
            shown = "no ring at all" if count < 0 else str(count)
            print(
                f"| {size} | {token} | {options.rate} | {options.seconds:.0f} | {shown} |",
                flush=True,
            )


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.tuning", description=__doc__)
    parser.add_argument("what", choices=("detect", "alarms"))
    parser.add_argument("--daemons", type=_numbers, default=[3, 8, 20], help="ring sizes")
    parser.add_argument(
        "--presets", type=lambda text: text.split(","), default=list(PRESETS), help="of timers"
    )
    parser.add_argument("--repeats", type=int, default=5, help="kills of each kind")
    parser.add_argument("--rate", type=int, default=0, help="messages a second meanwhile")
    parser.add_argument("--tokens", type=_numbers, default=[200, 100, 50, 25, 12])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each watched ring")
    parser.add_argument(
        "--option", action="append", default=[], help="of the daemons, e.g. --option=--realtime"
    )
    options = parser.parse_args()
    if options.what == "detect":
        _print_detection(options)
    else:
        _print_alarms(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
