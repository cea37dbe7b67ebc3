"""Loses datagrams on their way into running daemons, upstream's included.

A socket of another process is borrowed (``pidfd_getfd``, Linux 5.6) and given a packet
filter that drops datagrams before the process sees them: a share of them at random, or
all that come straight from some daemons.  It needs no network namespace and no firewall, and
works for any program; only the right to trace the process, which a parent has over its
children where the system does not forbid it.

>>> lose(daemon.process.pid, share=0.03)        # doctest: +SKIP
>>> lose(daemon.process.pid, daemons=["127.30.0.2"])  # doctest: +SKIP
>>> lose(daemon.process.pid)                    # doctest: +SKIP
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Sequence

_PIDFD_GETFD = 438
_ATTACH_FILTER = 26
_LOAD_WORD = 0x20
_JUMP_GREATER_OR_EQUAL = 0x35
_JUMP_EQUAL = 0x15
_RETURN = 0x06
_RANDOM = 0xFFFFF000 + 56
"""Offset that stands for a random word."""
_TRANSMITTER = 8 + 4
"""Offset of the transmitter's id: behind the UDP header and the packet's type."""


class FilterError(OSError):
    """The system does not allow it: an old kernel, or no right to trace the process."""


def lose(pid: int, share: float = 0.0, daemons: Sequence[str] = ()) -> int:
    """Drop datagrams that come in at the UDP sockets of a process, from now on.

    Args:
        pid: of the process.
        share: of the datagrams to drop at random, 0 to 1.
        daemons: ids, as addresses, of daemons whose packets and tokens do not get
            through (``docs/protocol/daemon-datagrams.md`` sections 5.1 and 7.1).  On
            the loopback interface all datagrams have the same source address.

    Returns:
        The number of sockets, each of which now has this filter and no other.

    Raises:
        FilterError: the sockets cannot be had.

    """
    count = 0
    program = _program(share, daemons)
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        raise FilterError(*error.args) from error
    try:
        for number in map(int, os.listdir(f"/proc/{pid}/fd")):
            if not _is_socket(pid, number):
                continue
            with _borrow(handle, number) as borrowed:
                if borrowed.family == socket.AF_INET and borrowed.type == socket.SOCK_DGRAM:
                    _attach(borrowed, program)
                    count += 1
    finally:
        os.close(handle)
    return count


def _is_socket(pid: int, number: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:")
    except FileNotFoundError:
        return False


def _borrow(handle: int, number: int) -> socket.socket:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(_PIDFD_GETFD, handle, number, 0)
    if descriptor < 0:
        error = ctypes.get_errno()
        raise FilterError(error, os.strerror(error))
    return socket.socket(fileno=descriptor)


def _attach(borrowed: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    descriptor = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    borrowed.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, descriptor)


def _program(share: float, daemons: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """Instructions of a classic packet filter: (operation, jump if true, if false, operand)."""
    program = []
    for address in daemons:
        word = socket.inet_aton(address)
        for operand in (*struct.unpack("<I", word), *struct.unpack(">I", word)):
            program += [
                (_LOAD_WORD, 0, 0, _TRANSMITTER),
                (_JUMP_EQUAL, 0, 1, operand),
                (_RETURN, 0, 0, 0),
            ]
    if share > 0:
        program += [
            (_LOAD_WORD, 0, 0, _RANDOM),
            (_JUMP_GREATER_OR_EQUAL, 1, 0, min(0xFFFFFFFF, int(share * 2**32))),
            (_RETURN, 0, 0, 0),
        ]
    return [*program, (_RETURN, 0, 0, 0xFFFFFFFF)]
