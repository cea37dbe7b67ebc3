"""What daemons get done in a span of time under a load, and the CPU that takes them."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.clusters import Cluster, cpu_seconds
from bench.generators import Generators
from bench.shapes import Result


def meter(
    cluster: Cluster,
    load: Generators,
    done: Callable[[], int],
    shares: int,
    warm_up: float,
    seconds: float,
) -> Result:
    """Run a load and take its rate, its CPU and how busy the generators were.

    Args:
        cluster: the daemons that bear it.
        load: not started yet; has ended afterwards.
        done: how much of it is done so far, by all who count.
        shares: how many count the same thing: the rate is for one of them.
        warm_up: seconds of load before the clock starts.
        seconds: how long the clock runs.

    Raises:
        RuntimeError, OSError: the daemon or a generator did not play along.

    """
    result = Result()
    try:
        load.start()
        time.sleep(warm_up)
        generators = {pid: cpu_seconds(pid) for pid in load.pids()}
        cpu, count, begin = cluster.cpu(), done(), time.perf_counter()
        time.sleep(seconds)
        cpu_after, count_after, end = cluster.cpu(), done(), time.perf_counter()
        if load.failed():
            raise RuntimeError("a load generator has ended: " + cluster.log())
        busy = [(cpu_seconds(pid) - used) / (end - begin) for pid, used in generators.items()]
    finally:
        load.stop()
        # Upstream gives what is under way to sessions that have ended to new ones in their
        # place; and the end of sessions in a thousand groups is work for the next run.
        cluster.settle()
    change = count_after - count
    if not change:
        raise RuntimeError("nothing was done: " + cluster.log())
    result.rate = change / shares / (end - begin)
    result.generator_busy = max(busy)
    if cpu is not None and cpu_after is not None:
        result.cpu = (cpu_after - cpu) / change * 1e6
        result.daemon_busy = (cpu_after - cpu) / (end - begin)
    return result
