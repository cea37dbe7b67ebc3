"""``python -m bench.scrape``: what a scrape of /metrics costs the daemon in CPU.

A daemon of a ring is asked many times over one connection, as Prometheus does; what
its process has used more than in the same time without scrapes, divided by the number
of scrapes, is the cost.  At ten scrapes a second one per cent of a core is 1000 us.
"""

from __future__ import annotations

import argparse
import http.client
import time

from bench.clusters import cpu_seconds
from txspread.testing.processes import DaemonRing, free_port, txspread_command


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.scrape", description=__doc__)
    parser.add_argument("--daemons", type=int, default=3)
    parser.add_argument("--scrapes", type=int, default=1000)
    parser.add_argument("--path", default="/metrics")
    options = parser.parse_args()
    ports = [free_port("127.0.0.1") for _ in range(options.daemons)]
    with DaemonRing([txspread_command("--http", str(port)) for port in ports]) as ring:
        process = ring.daemons[0].process
        assert process is not None
        time.sleep(3)
        connection = http.client.HTTPConnection("127.0.0.1", ports[0], 30)
        before, began = cpu_seconds(process.pid), time.monotonic()
        size = 0
        for _ in range(options.scrapes):
            connection.request("GET", options.path)
            size = len(connection.getresponse().read())
        took = time.monotonic() - began
        busy = cpu_seconds(process.pid) - before
        before = cpu_seconds(process.pid)
        time.sleep(took)
        idle = cpu_seconds(process.pid) - before
        cost = (busy - idle) / options.scrapes
        print(
            f"{options.scrapes} scrapes of {options.path}, {size} bytes each: "
            f"{cost * 1e6:.0f} us of CPU each; ten a second take {cost * 1000:.2f} % of a core"
        )


if __name__ == "__main__":
    main()
