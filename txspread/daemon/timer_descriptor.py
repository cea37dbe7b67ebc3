"""A timer that is a file descriptor, on the monotonic clock.

Twisted's delayed calls run by the wall clock: a clock that is set back by an
hour would hold a daemon's token-loss timer back by an hour, and the ring would
wait for a dead member all that time.  Linux's ``timerfd`` counts on the
monotonic clock and wakes the same poll that waits for datagrams.  Python has it
from 3.13 on; before, the C library is called directly.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_TFD_NONBLOCK: Final = os.O_NONBLOCK
_TFD_CLOEXEC: Final = os.O_CLOEXEC


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class TimerDescriptor:
    """One single-shot timer; readable once it has run out.

    Raises:
        OSError: the system has no such timers.

    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        try:
            create = library.timerfd_create
            self._settime = library.timerfd_settime
        except AttributeError:
            raise OSError("no timerfd in this C library") from None
        self._settime.argtypes = (
            ctypes.c_int,
            ctypes.c_int,
            ctypes.POINTER(_Itimerspec),
            ctypes.c_void_p,
        )
        self._descriptor: int = create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._setting = _Itimerspec()
        self._reference = ctypes.byref(self._setting)

    def fileno(self) -> int:
        """The descriptor, -1 after :meth:`close`."""
        return self._descriptor

    def set(self, delay: float) -> None:
        """Run out after ``delay`` seconds; a delay of zero or less means at once."""
        nanoseconds = max(1, int(delay * 1e9))
        value = self._setting.value
        value.seconds, value.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        self._settime(self._descriptor, 0, self._reference, None)

    def acknowledge(self) -> None:
        """Take the expiry, so that the descriptor is no longer readable."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Release the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
