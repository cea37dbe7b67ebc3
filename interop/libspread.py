"""Upstream's client library from Python, every call of its header file.

The functions are called by their own names through ``ctypes``; :attr:`LibSpread.called`
remembers which have been.  :class:`Mailbox` puts the ones that take a connection
together for tests.  Names and layouts are those of the header file, so they carry no
descriptions of their own.
"""

# ruff: noqa: D101, D102, ANN401

from __future__ import annotations

import ctypes
import select
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_char, c_char_p, c_int, c_long, c_short, c_size_t, c_uint
from pathlib import Path
from typing import Any

from attrs import frozen

MAX_GROUP_NAME = 32
MAX_SCATTER_ELEMENTS = 100
BUFFER = 150_000
MAX_GROUPS = 150
LIMIT = 40.0
"""Seconds that a message may take to come."""

GroupName = c_char * MAX_GROUP_NAME
AuthFunction = ctypes.CFUNCTYPE(c_int, c_int, ctypes.c_void_p)


class ScatElement(Structure):
    _fields_ = (("buf", c_char_p), ("len", c_size_t))


class Scatter(Structure):
    _fields_ = (
        ("num_elements", c_size_t),
        ("elements", ScatElement * MAX_SCATTER_ELEMENTS),
    )


class GroupId(Structure):
    _fields_ = (("id", c_int * 3),)


class VsSetInfo(Structure):
    _fields_ = (("num_members", c_uint), ("members_offset", c_uint))


class MembershipInfo(Structure):
    _fields_ = (
        ("gid", GroupId),
        ("changed_member", GroupName),
        ("num_vs_sets", c_uint),
        ("my_vs_set", VsSetInfo),
    )


class Time(Structure):
    _fields_ = (("sec", c_long), ("usec", c_long))


_int_p = POINTER(c_int)
_short_p = POINTER(c_short)
_auth = ctypes.c_void_p
_RECEIVE = [c_int, _int_p, c_char_p, c_int, _int_p, POINTER(GroupName), _short_p, _int_p]

SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "SP_version": (c_int, [_int_p, _int_p, _int_p]),
    "SP_set_auth_method": (c_int, [c_char_p, AuthFunction, _auth]),
    "SP_set_auth_methods": (
        c_int,
        [c_int, POINTER(c_char_p), POINTER(AuthFunction), POINTER(_auth)],
    ),
    "SP_connect": (c_int, [c_char_p, c_char_p, c_int, c_int, _int_p, c_char_p]),
    "SP_connect_timeout": (c_int, [c_char_p, c_char_p, c_int, c_int, _int_p, c_char_p, Time]),
    "SP_disconnect": (c_int, [c_int]),
    "SP_kill": (None, [c_int]),
    "SP_join": (c_int, [c_int, c_char_p]),
    "SP_leave": (c_int, [c_int, c_char_p]),
    "SP_multicast": (c_int, [c_int, c_int, c_char_p, c_short, c_int, c_char_p]),
    "SP_scat_multicast": (c_int, [c_int, c_int, c_char_p, c_short, POINTER(Scatter)]),
    "SP_multigroup_multicast": (
        c_int,
        [c_int, c_int, c_int, POINTER(GroupName), c_short, c_int, c_char_p],
    ),
    "SP_multigroup_scat_multicast": (
        c_int,
        [c_int, c_int, c_int, POINTER(GroupName), c_short, POINTER(Scatter)],
    ),
    "SP_receive": (
        c_int,
        [*_RECEIVE, c_int, c_char_p],
    ),
    "SP_scat_receive": (
        c_int,
        [*_RECEIVE, POINTER(Scatter)],
    ),
    "SP_get_memb_info": (c_int, [c_char_p, c_int, POINTER(MembershipInfo)]),
    "SP_get_vs_sets_info": (c_int, [c_char_p, POINTER(VsSetInfo), c_int, POINTER(c_uint)]),
    "SP_get_vs_set_members": (
        c_int,
        [c_char_p, POINTER(VsSetInfo), POINTER(GroupName), c_int],
    ),
    "SP_scat_get_memb_info": (c_int, [POINTER(Scatter), c_int, POINTER(MembershipInfo)]),
    "SP_scat_get_vs_sets_info": (
        c_int,
        [POINTER(Scatter), POINTER(VsSetInfo), c_int, POINTER(c_uint)],
    ),
    "SP_scat_get_vs_set_members": (
        c_int,
        [POINTER(Scatter), POINTER(VsSetInfo), POINTER(GroupName), c_int],
    ),
    "SP_poll": (c_int, [c_int]),
    "SP_equal_group_ids": (c_int, [GroupId, GroupId]),
    "SP_error": (None, [c_int]),
}


@frozen
class Received:
    """What one receive call gave."""

    result: int
    """Bytes of the body, or a negative code."""
    service: int
    sender: bytes
    num_groups: int
    groups: tuple[bytes, ...]
    mess_type: int
    endian_mismatch: int
    body: bytes


@frozen
class Membership:
    """What the membership calls say of one message."""

    group_id: tuple[int, int, int]
    changed: bytes
    vs_sets: tuple[tuple[bytes, ...], ...]
    mine: int
    """Index of the receiver's own set."""


class LibSpread:
    """The shared library; functions are attributes under their C names."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self.called: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        result, arguments = SIGNATURES[name]
        function = self._library[name]
        function.restype, function.argtypes = result, arguments

        def call(*values: Any) -> Any:
            self.called.add(name)
            return function(*values)

        return call

    def version(self) -> tuple[int, int, int]:
        numbers = [c_int(), c_int(), c_int()]
        assert self.SP_version(*map(ctypes.byref, numbers)) == 1
        return numbers[0].value, numbers[1].value, numbers[2].value

    def connect(
        self, location: str, name: str, *, membership: bool = True, timeout: float | None = None
    ) -> Mailbox:
        """Connect.

        Raises:
            ConnectError: the code that the library returned.

        """
        number = c_int(-1)
        private_group = ctypes.create_string_buffer(MAX_GROUP_NAME)
        words: list[Any] = [location.encode(), name.encode(), 0, int(membership)]
        words += [ctypes.byref(number), private_group]
        if timeout is None:
            code = self.SP_connect(*words)
        else:
            code = self.SP_connect_timeout(*words, Time(int(timeout), int(timeout % 1 * 1e6)))
        if code != 1:
            raise ConnectError(code)
        return Mailbox(self, number.value, private_group.value)

    def membership_of(self, message: Received) -> Membership:
        """What the calls for plain bodies make of a membership message."""
        return self._membership(
            message.body, "SP_get_memb_info", "SP_get_vs_sets_info", "SP_get_vs_set_members",
            message.service,
        )  # fmt: skip

    def membership_of_scattered(self, message: Received) -> Membership:
        """The same through the calls for scattered bodies.

        The body is in one piece: the library misreads what lies beyond the first.
        """
        return self._membership(
            ctypes.byref(scatter_of([message.body])),
            "SP_scat_get_memb_info", "SP_scat_get_vs_sets_info", "SP_scat_get_vs_set_members",
            message.service,
        )  # fmt: skip

    def _membership(
        self, body: Any, get_info: str, get_sets: str, get_members: str, service: int
    ) -> Membership:
        info = MembershipInfo()
        code = getattr(self, get_info)(body, service, ctypes.byref(info))
        assert code >= 0, code
        sets = (VsSetInfo * max(1, info.num_vs_sets))()
        mine = c_uint()
        count = 0
        if info.num_vs_sets:
            count = getattr(self, get_sets)(body, sets, info.num_vs_sets, ctypes.byref(mine))
            assert count == info.num_vs_sets
        members = []
        for number in range(count):
            names = (GroupName * max(1, sets[number].num_members))()
            got = getattr(self, get_members)(
                body, ctypes.byref(sets[number]), names, sets[number].num_members
            )
            assert got == sets[number].num_members
            members.append(tuple(name.value for name in names[:got]))
        first, second, third = info.gid.id
        return Membership((first, second, third), info.changed_member, tuple(members), mine.value)


class ConnectError(Exception):
    """The library did not connect; ``code`` says why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Mailbox:
    """One connection."""

    def __init__(self, library: LibSpread, number: int, private_group: bytes) -> None:
        self.library = library
        self.number = number
        self.private_group = private_group

    def join(self, group: bytes) -> int:
        return int(self.library.SP_join(self.number, group))

    def leave(self, group: bytes) -> int:
        return int(self.library.SP_leave(self.number, group))

    def multicast(self, service: int, group: bytes, body: bytes, mess_type: int = 0) -> int:
        return int(
            self.library.SP_multicast(self.number, service, group, mess_type, len(body), body)
        )

    def scat_multicast(
        self, service: int, group: bytes, parts: Sequence[bytes], mess_type: int = 0
    ) -> int:
        scatter = scatter_of(parts)
        return int(
            self.library.SP_scat_multicast(
                self.number, service, group, mess_type, ctypes.byref(scatter)
            )
        )

    def multigroup_multicast(
        self, service: int, groups: Sequence[bytes], body: bytes, mess_type: int = 0
    ) -> int:
        return int(
            self.library.SP_multigroup_multicast(
                self.number, service, len(groups), names(groups), mess_type, len(body), body
            )
        )

    def multigroup_scat_multicast(
        self, service: int, groups: Sequence[bytes], parts: Sequence[bytes], mess_type: int = 0
    ) -> int:
        scatter = scatter_of(parts)
        return int(
            self.library.SP_multigroup_scat_multicast(
                self.number,
                service,
                len(groups),
                names(groups),
                mess_type,
                ctypes.byref(scatter),
            )
        )

    def receive(
        self, *, size: int = BUFFER, max_groups: int = MAX_GROUPS, flags: int = 0
    ) -> Received:
        """Receive one message into a buffer of ``size`` bytes; waits for it."""
        body = ctypes.create_string_buffer(max(1, size))
        return self._receive(
            max_groups, flags, lambda words: self.library.SP_receive(*words, size, body),
            lambda count: body.raw[:count],
        )  # fmt: skip

    def scat_receive(self, sizes: Sequence[int], max_groups: int = MAX_GROUPS) -> Received:
        """Receive one message into buffers of these sizes; waits for it."""
        buffers = [ctypes.create_string_buffer(size) for size in sizes]
        scatter = Scatter(len(buffers))
        for number, buffer in enumerate(buffers):
            scatter.elements[number] = ScatElement(ctypes.cast(buffer, c_char_p), sizes[number])
        return self._receive(
            max_groups, 0,
            lambda words: self.library.SP_scat_receive(*words, ctypes.byref(scatter)),
            lambda count: b"".join(buffer.raw for buffer in buffers)[:count],
        )  # fmt: skip

    def _receive(self, max_groups: int, flags: int, call: Any, body: Any) -> Received:
        service, count, mismatch, mess_type = c_int(flags), c_int(), c_int(), c_short()
        sender = ctypes.create_string_buffer(MAX_GROUP_NAME)
        groups = (GroupName * max(1, max_groups))()
        self._wait()
        words = [self.number, ctypes.byref(service), sender, max_groups, ctypes.byref(count)]
        words += [groups, ctypes.byref(mess_type), ctypes.byref(mismatch)]
        result = int(call(words))
        return Received(
            result,
            service.value,
            sender.value,
            count.value,
            tuple(name.value for name in groups[: max(0, count.value)]),
            mess_type.value,
            mismatch.value,
            body(max(0, result)),
        )

    def _wait(self) -> None:
        """Wait until something is there: nothing else ends a call that waits for ever."""
        poller = select.poll()  # a mailbox is the number of its socket
        poller.register(self.number, select.POLLIN)
        if not poller.poll(LIMIT * 1000):
            raise AssertionError(f"nothing came for {self.private_group!r}")

    def poll(self) -> int:
        return int(self.library.SP_poll(self.number))

    def disconnect(self) -> int:
        return int(self.library.SP_disconnect(self.number))

    def kill(self) -> None:
        self.library.SP_kill(self.number)


def pieces(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Cut data into pieces of these sizes; the last is what remains."""
    parts = []
    for size in sizes:
        parts.append(data[:size])
        data = data[size:]
    return [*parts, data]


def scatter_of(parts: Sequence[bytes]) -> Scatter:
    """A scatter structure over copies of some bytes."""
    scatter = Scatter(len(parts))
    scatter.kept = [ctypes.create_string_buffer(part, max(1, len(part))) for part in parts]
    for number, part in enumerate(parts):
        scatter.elements[number] = ScatElement(
            ctypes.cast(scatter.kept[number], c_char_p),
            len(part),
        )
    return scatter


def names(groups: Sequence[bytes]) -> Any:
    """Group names as an array of 32-byte fields."""
    return (GroupName * max(1, len(groups)))(*[GroupName(*group) for group in groups])  # type: ignore[misc]
