"""The addresses of this machine, in the order in which upstream tries them.

Source: ``docs/configuration.md`` section 4.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from typing import Final

_SIOCGIFCONF: Final = 0x8912
_REQUEST_SIZE: Final = 40
"""``sizeof(struct ifreq)`` on 64-bit Linux."""
_MAX_REQUESTS: Final = 1024


def resolve(name: str) -> str | None:
    """The IPv4 address of a host name, dotted quad; None if it has none."""
    try:
        return socket.gethostbyname(name)
    except (OSError, UnicodeError):
        return None


def local_addresses() -> list[str]:
    """What the host lookup gives for this machine's name, then the interfaces' addresses."""
    addresses: list[str] = []
    try:
        addresses.extend(socket.gethostbyname_ex(socket.gethostname())[2])
    except (OSError, UnicodeError):
        pass  # a machine whose name does not resolve still has interfaces
    addresses.extend(interface_addresses())
    return list(dict.fromkeys(addresses))


def interface_addresses() -> list[str]:
    """IPv4 addresses of the network interfaces, in the kernel's order.

    Where the system has no such list it is just the loopback address.
    """
    buffer = bytearray(_MAX_REQUESTS * _REQUEST_SIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    request = bytearray(struct.pack("@iP", len(buffer), address))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            fcntl.ioctl(asking.fileno(), _SIOCGIFCONF, request)
    except OSError:
        return ["127.0.0.1"]
    size = struct.unpack_from("@i", request)[0]
    return [
        socket.inet_ntoa(buffer[start + 20 : start + 24])
        for start in range(0, size, _REQUEST_SIZE)
        if struct.unpack_from("=H", buffer, start + 16)[0] == socket.AF_INET
    ]
