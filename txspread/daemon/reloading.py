"""Reading the configuration file again while the daemon runs.

A monitor's RELOAD datagram or SIGHUP has the file read and compared with what is in
force; a good one is handed to the engine, a bad one is reported and changes nothing.

* The file is read in a thread: a name in it whose look-up takes long must not cost
  the ring its token.  Requests that come meanwhile are carried out together after it.
* After a change of the root directory the file is found through its directory, which
  stays open.  A file that the daemon may no longer open, because it is not root any
  more, is read through a descriptor from the time when it was; so it must then be
  edited in place.
* A name that cannot be looked up any more keeps the address it had.

Upstream reads inside the new root and ends the process when anything is wrong.
Source: ``docs/configuration.md`` sections 8.6 and 8.7; upstream ``configuration.c``.
"""

from __future__ import annotations

import errno
import os
import traceback
from typing import Final, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from txspread.config import Configuration, ConfigurationError, Daemon, Reload, compare, parse
from txspread.config.parsing import MAX_FILE_SIZE
from txspread.daemon.addresses import resolve
from txspread.daemon.event_log import EventLog, redirect_output
from txspread.engine.alarms import AlarmSink, Category, Priority

_REFUSED: Final = "reload refused, the old configuration stays"


class Running(Protocol):
    """The daemon that reloads; :class:`~txspread.daemon.host.DaemonHost` is one."""

    configuration: Configuration
    """In force, or about to be."""
    me: Daemon

    def go_on_with(self, reload: Reload) -> None:
        """Hand a good configuration to the engine."""


class ThreadedReactor(Protocol):
    """What is used of a Twisted reactor: ``IReactorThreads``."""

    def getThreadPool(self) -> ThreadPool:
        """Its threads."""


class ConfigurationFile:
    """A file that stays readable when the process changes its root or its user.

    Args:
        name: as the file was named at the start, relative to the present directory.

    Raises:
        OSError: it cannot be read now.

    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._path = os.path.abspath(name)
        directory, self._base = os.path.split(self._path)
        self._root = self._root_identity()
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._kept = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self._directory)
            raise
        self.in_force = self.read()
        """The text that is in force, to tell whether the file has changed."""

    @staticmethod
    def _root_identity() -> tuple[int, int]:
        root = os.stat("/")
        return root.st_dev, root.st_ino

    def read(self) -> bytes:
        """The present content.

        Raises:
            ConfigurationError: there is none, or it is too long.

        """
        try:
            if self._root_identity() == self._root:
                opened = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            else:
                opened = os.open(self._base, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM) or not os.fstat(self._kept).st_nlink:
                raise ConfigurationError(f"cannot be read: {error.strerror}", self.name) from None
            opened = os.dup(self._kept)
        try:
            with open(opened, "rb") as file:
                file.seek(0)
                data = file.read(MAX_FILE_SIZE + 1)
        except OSError as error:
            raise ConfigurationError(f"cannot be read: {error.strerror}", self.name) from None
        if len(data) > MAX_FILE_SIZE:
            raise ConfigurationError(f"is longer than {MAX_FILE_SIZE} bytes", self.name)
        return data

    def close(self) -> None:
        """Close the descriptors."""
        if self._directory >= 0:
            os.close(self._directory)
            os.close(self._kept)
            self._directory = self._kept = -1


def read_again(
    file: ConfigurationFile, previous: Configuration, me: Daemon, *, only_if_changed: bool = False
) -> tuple[bytes, Reload] | None:
    """Read the file and compare it with the configuration in force.

    None if only a changed file is wanted and its text is the one in force.

    Raises:
        ConfigurationError: the file is bad, or does not fit the running daemon.

    """
    text = file.read()
    if only_if_changed and text == file.in_force:
        return None
    addresses = {daemon.name: daemon.address for daemon in previous.daemons}
    new = parse(text, file.name, lambda name: resolve(name) or addresses.get(name), previous)
    return text, compare(previous, new, me)


class Reloader:
    """Carries reloads out, one after the other.

    Args:
        file: what to read; None for a configuration that came from nowhere.
        running: the daemon.
        reactor: gives a thread to read in.
        alarms: where lines go; its own options are taken from a new file.

    """

    def __init__(
        self,
        file: ConfigurationFile | None,
        running: Running,
        reactor: object,
        alarms: AlarmSink,
    ) -> None:
        self._file = file
        self._running = running
        self._reactor = cast(ThreadedReactor, reactor)
        self._alarms = alarms
        self._reading = False
        self._again: bool | None = None
        """A request that came while the file was being read: whether it was only for
        a changed file."""
        self._closed = False
        self.refused = 0
        """Files that were not taken over since the start."""

    def request(self, *, only_if_changed: bool = False) -> None:
        """Read the file and take it over, in a while.

        Args:
            only_if_changed: do nothing if the text is the one in force.  Otherwise the
                ring forms anew in any case, as the other daemons' rings do which were
                told to reload as well.

        """
        if self._file is None:
            self._tell("%s: it was not read from a file", _REFUSED)
            return
        if self._reading:
            self._again = only_if_changed and self._again is not False
            return
        self._reading = True
        previous = self._running.configuration
        waiting: Deferred[tuple[bytes, Reload] | None] = deferToThreadPool(
            cast(IReactorFromThreads, self._reactor),
            self._reactor.getThreadPool(),
            read_again,
            self._file,
            previous,
            self._running.me,
            only_if_changed=only_if_changed,
        )
        waiting.addCallbacks(self._take, self._refuse)
        waiting.addErrback(self._fault)
        waiting.addBoth(self._done)

    def close(self) -> None:
        """Take nothing over any more."""
        self._closed = True
        if self._file is not None and not self._reading:
            self._file.close()

    def _take(self, result: tuple[bytes, Reload] | None) -> None:
        if self._closed or self._file is None:
            return
        if result is None:
            return
        self._file.in_force, reload = result
        configuration = reload.configuration
        log = self._alarms
        if isinstance(log, EventLog):
            before = log.file_name
            log.configure(configuration)
            descriptor = log.file_descriptor()
            if descriptor is not None and log.file_name != before:
                redirect_output(descriptor)
        self._tell("Conf_load_conf_file: using file: %s", self._file.name)
        for notice in configuration.notices:
            if isinstance(log, EventLog):
                log.show(notice.text)
            else:
                log.alarm(Category.CONFIGURATION, Priority.INFO, "%s", notice.text)
        log.alarm(
            Category.CONFIGURATION,
            Priority.INFO,
            "Conf_load_conf_file: My name: %s, id: %s, port: %d",
            reload.me.name,
            reload.me.address,
            reload.me.port,
        )
        for warning in configuration.warnings:
            self._tell("Conf_load_conf_file: warning: %s", warning)
        self._running.go_on_with(reload)

    def _refuse(self, failure: Failure) -> None:
        failure.trap(ConfigurationError)  # type: ignore[no-untyped-call]
        self.refused += 1
        text = str(failure.value)
        self._tell("%s", text if _REFUSED in text else f"{_REFUSED}: {text}")

    def _fault(self, failure: Failure) -> None:
        self._alarms.alarm(
            Category.PRINT,
            Priority.CRITICAL,
            "Internal error: while reloading the configuration: %s",
            "".join(traceback.format_exception(failure.value)).rstrip(),
        )

    def _done(self, _result: object) -> None:
        self._reading = False
        again, self._again = self._again, None
        if self._closed:
            self.close()
        elif again is not None:
            self.request(only_if_changed=again)

    def _tell(self, text: str, *args: object) -> None:
        self._alarms.alarm(Category.PRINT, Priority.WARNING, text, *args)


def open_file(configuration: Configuration) -> ConfigurationFile | None:
    """The file that a configuration was read from, if it was and still is there."""
    if configuration.file_name is None:
        return None
    try:
        return ConfigurationFile(configuration.file_name)
    except (OSError, ConfigurationError):
        return None  # the embedded default, or gone meanwhile: a reload will say so


__all__ = ["ConfigurationFile", "Reloader", "open_file", "read_again"]
