"""How the operating system and the interpreter treat the daemon's process.

What each option is worth is measured in ``docs/tuning.md``.  What the system does not
allow is reported, and the daemon goes on without it: a late token is better than none.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import resource
from typing import Final

from txspread.engine.alarms import AlarmSink, Category, Priority

DEFAULT_REALTIME: Final = 10
"""SCHED_FIFO priority: above all ordinary processes, below the kernel's threads."""
_GC_THRESHOLDS: Final = (10_000, 10, 10)
"""Objects more than at the last collection of the young, and so many of these and of
the next generation.  The daemon's work makes no cycles and frees as much as it makes,
so hardly anything is ever collected; when thousands of sessions or groups come at once
the young take 0.8 ms to look at, ten thousand groups 8 ms."""
_MCL_CURRENT: Final = 1
_MCL_FUTURE: Final = 2


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this module."""
    group = parser.add_argument_group("timeliness")
    group.add_argument(
        "--realtime",
        metavar="PRIORITY",
        nargs="?",
        type=_realtime_priority,
        const=DEFAULT_REALTIME,
        help="run under SCHED_FIFO, before all ordinary processes, with a priority from 1 to 99 "
        "(%(const)s if not stated); needs root, CAP_SYS_NICE or a limit on rtprio",
    )
    group.add_argument(
        "--nice",
        metavar="N",
        type=int,
        help="run with niceness N, from -20 (first) to 19; less than 0 needs root",
    )
    group.add_argument(
        "--lock-memory",
        action="store_true",
        help="keep all memory of the process from being swapped out",
    )
    group.add_argument(
        "--gc",
        choices=("tuned", "off", "python"),
        default="tuned",
        help="garbage collection: 'tuned' leaves out what exists at the start and looks at the "
        "rest seldom (default), 'off' never collects, 'python' is the interpreter's own way",
    )


def _realtime_priority(text: str) -> int:
    try:
        priority = int(text)
    except ValueError:
        priority = 0
    if not 1 <= priority <= 99:
        raise argparse.ArgumentTypeError(f"{text!r} is not a priority from 1 to 99")
    return priority


def apply_before_start(options: argparse.Namespace, alarms: AlarmSink) -> None:
    """What may need privileges: to be called before they are given up."""
    if options.lock_memory:
        _lock_memory(alarms)
    if options.nice is not None:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, options.nice)
        except OSError as error:
            _refused(alarms, f"--nice {options.nice}", error)
    if options.realtime is not None:
        try:
            # A program that this process might start does not inherit it.
            policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
            os.sched_setscheduler(0, policy, os.sched_param(options.realtime))
        except OSError as error:
            _refused(alarms, f"--realtime {options.realtime}", error)


def apply_started(options: argparse.Namespace) -> None:
    """What is best done once the daemon serves."""
    if options.gc == "python":
        return
    gc.collect()
    gc.freeze()
    if options.gc == "off":
        gc.disable()
    else:
        gc.set_threshold(*_GC_THRESHOLDS)


def _lock_memory(alarms: AlarmSink) -> None:
    try:
        hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    except (OSError, ValueError):
        pass  # then the limit in force decides
    library = ctypes.CDLL(None, use_errno=True)
    if library.mlockall(_MCL_CURRENT | _MCL_FUTURE):
        number = ctypes.get_errno()
        _refused(alarms, "--lock-memory", OSError(number, os.strerror(number)))


def _refused(alarms: AlarmSink, what: str, error: OSError) -> None:
    alarms.alarm(Category.PRINT, Priority.WARNING, "%s: not in force: %s", what, error.strerror)
