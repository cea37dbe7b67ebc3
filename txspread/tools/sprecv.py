"""``txsprecv``: counts the datagrams of spsend that arrive, in the place of sprecv."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from attrs import define

from txspread.tools.terminal import show
from txspread.tools.udp_loss import LossCounter

USAGE: Final = (
    "Usage: r\n"
    "\t[-p <port number>] : to receive on, default is 4444\n"
    "\t[-a <multicast class D address>] : if receiving multicast is desirable, default is 0\n"
    "\t[-i <IP interface>] : set interface, default is 0\n"
    "\t[-d ]              : print a detailed report whenever messages are missed\n"
)


@define
class ReceiveOptions:
    """The command line."""

    port: int = 4444
    address: str = ""
    interface: str = ""
    detailed: bool = False


def parse_receive_options(arguments: Sequence[str]) -> ReceiveOptions:
    """Read the command line.

    :raises SystemExit: with status 0 after the usage, where it cannot be understood.
    """
    options = ReceiveOptions()
    rest = list(arguments)
    while rest:
        option = rest.pop(0)[:2]
        if option == "-d":
            options.detailed = True
            continue
        value = rest.pop(0) if rest else ""
        if option == "-p" and value.isdigit():
            options.port = int(value) & 0xFFFF
        elif option == "-a" and _is_address(value):
            options.address = value
        elif option == "-i" and _is_address(value):
            options.interface = value
        else:
            show(USAGE)
            raise SystemExit(0)
    return options


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False


def receive(options: ReceiveOptions) -> NoReturn:
    """Receive and report until killed."""
    counter = LossCounter(options.detailed)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        multicast = options.address and ipaddress.IPv4Address(options.address).is_multicast
        sock.bind(("" if multicast else options.interface, options.port))
        if multicast:
            request = socket.inet_aton(options.address) + socket.inet_aton(
                options.interface or "0.0.0.0"
            )
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
        show(f"Ready to receive on port {options.port}\n")
        while True:
            lines = counter.datagram(sock.recv(1 << 16))
            if lines:
                show(lines)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program; ``arguments`` default to the command line.

    :raises SystemExit: with status 1 when the port cannot be used.
    """
    options = parse_receive_options(sys.argv[1:] if arguments is None else arguments)
    try:
        receive(options)
    except OSError as problem:
        show(f"port {options.port}: {problem}\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
