"""``txspsend``: sends numbered UDP datagrams in bursts, in the place of spsend."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Sequence
from typing import Final, NoReturn

from attrs import define

from txspread.tools.terminal import show
from txspread.tools.udp_loss import HEADER_SIZE, MAX_DATAGRAM, encode

USAGE: Final = (
    "Usage: \n"
    "\t[-p <port number>] : to send on, default is 4444\n"
    "\t[-b <burst>]       : number of packets in each burst, default is 100\n"
    "\t[-t <delay>]       : time (mili-secs) to wait between bursts, default 10\n"
    "\t[-n <num packets>] : total number of packets to send, default is 10000\n"
    "\t[-s <num bytes>]   : size of each packet, default is 1024\n"
    "\t[-a <IP address>]  : default is 127.0.0.1\n"
)
LAST_DELAY: Final = 0.01


@define
class SendOptions:
    """The command line."""

    port: int = 4444
    burst: int = 100
    delay: int = 10
    packets: int = 10000
    size: int = 1024
    address: str = "127.0.0.1"


def parse_send_options(arguments: Sequence[str]) -> SendOptions:
    """Read the command line.

    :raises SystemExit: with status 0 after the usage, where it cannot be understood.
    """
    options = SendOptions()
    rest = list(arguments)
    while rest:
        option = rest.pop(0)[:2]
        value = rest.pop(0) if rest else ""
        number = int(value) if value.isdigit() else None
        if option == "-a" and value:
            options.address = value
        elif option == "-p" and number is not None:
            options.port = number & 0xFFFF
        elif option == "-b" and number:
            options.burst = number
        elif option == "-t" and number is not None:
            options.delay = number
        elif option == "-n" and number is not None:
            options.packets = number
        elif option == "-s" and number is not None and HEADER_SIZE <= number <= MAX_DATAGRAM:
            options.size = number
        else:
            show(USAGE)
            raise SystemExit(0)
    return options


def send(options: SendOptions) -> None:
    """Send the datagrams and the one that ends the run."""
    show(
        f"Checking ({options.address}, {options.port}). Each burst has {options.burst} packets,"
        f" {options.size} bytes each with {options.delay} msec delay in between,"
        f" for a total of {options.packets} packets\n"
    )
    target = (options.address, options.port)
    problems = 0
    start = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for count in range(1, options.packets + 1):
            datagram = encode(count, options.size)
            while not _sent(sock, datagram, target):
                problems += 1
                time.sleep(0.001)
            if count % options.burst == 0:
                time.sleep(options.delay / 1000)
            if count % 1000 == 0:
                show(f"sent {count} packets of {options.size} bytes\n")
        microseconds = int((time.monotonic() - start) * 1_000_000)
        time.sleep(LAST_DELAY)
        _sent(sock, encode(options.packets, options.size, last=True), target)
    seconds, microseconds = divmod(microseconds, 1_000_000)
    show(f"total time is ({seconds},{microseconds}), with {problems} problems \n")


def _sent(sock: socket.socket, datagram: bytes, target: tuple[str, int]) -> bool:
    try:
        return sock.sendto(datagram, target) == len(datagram)
    except OSError:
        return False


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program; ``arguments`` default to the command line.

    :raises SystemExit: with status 0.
    """
    options = parse_send_options(sys.argv[1:] if arguments is None else arguments)
    try:
        send(options)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main()
