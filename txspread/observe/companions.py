"""What runs beside the daemon in its process because the command line asks for it.

The command line adds :func:`add_options`, makes :class:`Companions` from the result,
and calls them in the order *open* (before privileges are given up), *start* (once the
daemon serves), *stop*.
"""

from __future__ import annotations

import argparse

from txspread.daemon.service import SpreadService


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this package."""
    group = parser.add_argument_group("observing")
    group.add_argument(
        "--http",
        metavar="[HOST:]PORT",
        type=_http_address,
        help="serve metrics, status, health checks and a status page over HTTP; on the loopback "
        "address unless HOST is given, on all addresses with ':PORT'",
    )


def _http_address(text: str) -> tuple[str, int]:
    from txspread.observe.listener import parse_address

    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class Companions:
    """Everything that was asked for.

    Args:
        options: from a parser with :func:`add_options`.
        service: the daemon.
        reactor: its reactor.

    """

    def __init__(
        self, options: argparse.Namespace, service: SpreadService, reactor: object
    ) -> None:
        self._status = None
        if options.http is not None:
            from txspread.observe.listener import StatusService

            self._status = StatusService(lambda: service.host, options.http, reactor)

    def open(self) -> None:
        """Take what must be taken as root.

        Raises:
            SocketError: an address cannot be had.

        """
        if self._status is not None:
            self._status.privilegedStartService()

    def start(self) -> None:
        """The daemon serves."""
        if self._status is not None:
            self._status.startService()

    def stop(self) -> None:
        """The daemon ends."""
        if self._status is not None:
            self._status.stopService()
