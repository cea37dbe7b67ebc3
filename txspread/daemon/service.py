"""A Spread daemon as a Twisted service, for the command line, ``twist`` and tests.

>>> service = SpreadService(configuration, me)      # doctest: +SKIP
>>> service.startService()                          # doctest: +SKIP
>>> service.stopService()                           # doctest: +SKIP

Several may run in one process, on one reactor.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from functools import partial
from typing import cast

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from txspread.config.model import Configuration, Daemon
from txspread.daemon import privileges
from txspread.daemon.activity_log import ALIVE_SECONDS, ActivityLog
from txspread.daemon.host import DEFAULT_SOCKET_DIRECTORY, DaemonHost, EngineFactory, make_node
from txspread.daemon.hub import Reactor
from txspread.daemon.reloading import Reloader, open_file
from txspread.daemon.systemd import Inherited
from txspread.daemon.time_file import TimeFile
from txspread.engine.alarms import AlarmSink, Category, Priority, SilentAlarms
from txspread.engine.authentication import Authentication
from txspread.engine.node import Node
from txspread.engine.trace import TraceSink


class SpreadService(Service):
    """One daemon.

    Args:
        configuration: what to run, from :func:`txspread.config.load` or ``parse``.
        me: the daemon of the configuration to be, an entry or its name.
        alarms: sink of log lines; by default there are none.
        reactor: by default the global one.
        socket_directory: directory of the Unix socket; None: no Unix socket.
        drop_privileges: when root, become DaemonUser once the sockets are open.
        engine_factory: makes the engine instead of
            :func:`~txspread.daemon.host.make_node`.
        authentication: methods in force; None takes the method names of the
            configuration, with no access file.
        activity: the activity log, closed at the end.
        trace: takes the engine's structured trace.
        state_directory: where the last time of a membership id is kept for the
            next process (:mod:`txspread.daemon.time_file`); None: it is not.
        linger: wait in the daemon's own loop for a moment when its work is done; see
            :class:`~txspread.daemon.hub.EpollHub`.  For a process of its own.
        guard_reload: obey a monitor's RELOAD only with DangerousMonitor.
        inherited: listening sockets of a service manager, taken instead of opening
            those of the same addresses.
        left: called with a reason when the engine wants the daemon to end, which
            by default just stops the service.

    Raises:
        KeyError: there is no daemon of that name.

    """

    name = "spread"

    def __init__(
        self,
        configuration: Configuration,
        me: Daemon | str,
        alarms: AlarmSink | None = None,
        *,
        reactor: Reactor | None = None,
        socket_directory: str | None = DEFAULT_SOCKET_DIRECTORY,
        drop_privileges: bool = False,
        engine_factory: EngineFactory | None = None,
        authentication: Authentication | None = None,
        activity: ActivityLog | None = None,
        trace: TraceSink | None = None,
        state_directory: str | None = None,
        linger: bool = False,
        inherited: Inherited | None = None,
        guard_reload: bool = False,
        left: Callable[[str], None] | None = None,
    ) -> None:
        self.configuration = configuration
        self.me = configuration.by_name[me] if isinstance(me, str) else me
        self.alarms: AlarmSink = SilentAlarms() if alarms is None else alarms
        self.host: DaemonHost | None = None
        """From the opening of the sockets to the end of the service."""
        self._reactor = reactor
        self._socket_directory = socket_directory
        self._drop_privileges = drop_privileges
        self._times = TimeFile(state_directory, self.me, self.alarms)
        # The activity log hears of memberships through the trace of deliveries.
        self._engine_factory: EngineFactory = engine_factory or partial(
            make_node,
            authentication=authentication,
            trace=trace,
            deliveries=activity,
            last_time_used=self._times.last,
            time_used=self._times.keep,
            guard_reload=guard_reload,
        )
        self._activity = activity
        self._linger = linger
        self._inherited = inherited
        self._alive: LoopingCall | None = None
        self._reloader: Reloader | None = None
        self.left = left
        """Called with a reason when the engine wants the daemon to end."""

    def privilegedStartService(self) -> None:
        """Open the sockets and give privileges up.

        Raises:
            SocketError: a socket cannot be had.
            PrivilegeError: root could not be given up.

        """
        if self.host is not None:
            return
        reactor = self._reactor
        if reactor is None:
            from twisted.internet import reactor as global_reactor

            reactor = cast(Reactor, global_reactor)
        if self._socket_directory is not None and os.geteuid() == 0:
            self._warn_of_directory(self._socket_directory)
        host = DaemonHost(
            self.configuration,
            self.me,
            self.alarms,
            reactor,
            socket_directory=self._socket_directory,
            engine_factory=self._engine_factory,
            activity=self._activity,
            linger=self._linger,
            inherited=self._inherited,
            left=self._on_left,
        )
        host.open()
        # Opened now: it may be out of reach once root is given up.
        self._reloader = Reloader(open_file(self.configuration), host, reactor, self.alarms)
        host.on_reload = self._reloader.request
        if self._drop_privileges:
            try:
                target = privileges.target(self.configuration, self.alarms)
                if target is not None:
                    if host.unix is not None:
                        host.unix.give_to(target.user, target.group)
                    privileges.drop(target, self.alarms)
            except BaseException:
                host.close()
                raise
        self.host = host

    def startService(self) -> None:
        """Serve; opens the sockets if that has not been done."""
        self.privilegedStartService()
        assert self.host is not None
        super().startService()  # type: ignore[no-untyped-call]
        if self._activity is not None:
            self._activity.sequence = self._highest_sequence
        self.host.start()
        if self._activity is not None:
            self._alive = LoopingCall(self._activity.alive)
            self._alive.clock = cast(IReactorTime, self.host.reactor)
            self._alive.start(ALIVE_SECONDS)

    def stopService(self) -> None:
        """End all sessions and close every socket, at once."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._reloader is not None:
            self._reloader.close()
        host, self.host = self.host, None
        if host is not None:
            host.stop()
        if self._alive is not None and self._alive.running:
            self._alive.stop()
        if self._activity is not None:
            self._activity.close()
        self._times.close()

    def reload(self, *, only_if_changed: bool = False) -> None:
        """Read the configuration file again and go on with it, in a while.

        A file that is bad, or changes what this daemon is, is reported and changes nothing.

        Args:
            only_if_changed: leave the ring alone if the text is the one in force.

        """
        if self._reloader is not None:
            self._reloader.request(only_if_changed=only_if_changed)

    def _highest_sequence(self) -> int:
        engine = None if self.host is None else self.host.engine
        if isinstance(engine, Node) and engine.ring is not None:
            return engine.ring.ring.highest_seq
        return 0

    @property
    def client_count(self) -> int:
        """Open client connections."""
        return 0 if self.host is None else self.host.client_count

    def _on_left(self, reason: str) -> None:
        if self.left is not None:
            self.left(reason)
        elif self.running:
            self.stopService()

    def _warn_of_directory(self, directory: str) -> None:
        try:
            status = os.stat(directory)
        except OSError:
            return  # the opening of the socket says what is wrong with it
        if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            self.alarms.alarm(
                Category.SECURITY | Category.PRINT,
                Priority.WARNING,
                "Spread: SECURITY RISK! running as root, but unix domain socket is not in a "
                "root-only writable directory. May risk denial of service or malicious deletion "
                "of unexpected file in directory: %s",
                directory,
            )
