"""Daemons for the tests of programs: one, or a ring that can be taken apart.

>>> with SpreadRing(3) as ring:                             # doctest: +SKIP
...     first, second, third = ring.daemons
...     mailbox = txspread.blocking.connect(first.location)
...     ring.partition([first], [second, third])
...     ring.heal()
...     third.crash(), ring.settle()

The daemons are real ones on real sockets of the loopback network, all in one thread
(:mod:`txspread.testing.in_process`).  Each has an address of its own out of
127.0.0.0/8, at random, so that any number of rings can run on a machine at once.

A partition is made where datagrams leave a daemon: those to a daemon of another part
are lost.  It is made everywhere at once, lasts until it is changed, over restarts too,
and what was on its way still arrives, all as on a real network.

In production it takes a while until a crash or a partition is noticed: the token
timeout.  A low one is quick, but a busy test machine then gives memberships that no
test asked for.  Here the token timeout is high, and :meth:`SpreadRing.crash` and
:meth:`SpreadRing.partition` make the daemons that are concerned take the token for lost
at once.  What follows is what always follows.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Final, TypeAlias

from txspread.config import Configuration, ConfigurationError, parse
from txspread.config.model import Daemon
from txspread.engine.groups.machine import GroupsState
from txspread.engine.node import Node
from txspread.engine.node_interfaces import Host, OneByOne
from txspread.engine.ring_interfaces import MembershipState
from txspread.testing.in_process import (
    MAX_DAEMONS,
    InProcessDaemon,
    SpreadTestError,
    wait_until,
    written,
)
from txspread.testing.loop_thread import LoopThread

SETTLE_LIMIT: Final = 30.0
"""Seconds for a membership change, which takes half a second on an idle machine."""
_ATTEMPTS: Final = 20
"""Ports or addresses that may be taken before a start fails."""
_PORTS: Final = range(20000, 32000, 2)
"""Below the ports that systems give out by themselves."""

QUICK_TIMEOUTS: Final[Mapping[str, int]] = {
    "TokenTimeout": 5000,
    "HurryTimeout": 1000,
    "AliveTimeout": 50,
    "JoinTimeout": 50,
    "RepTimeout": 200,
    "SegTimeout": 100,
    "GatherTimeout": 300,
    "FormTimeout": 300,
    "LookupTimeout": 500,
}
"""Milliseconds: quick formation, but a token that may be late on a busy machine."""

Some: TypeAlias = InProcessDaemon | str
"""A daemon, or its name."""


class _Cuts:
    """Who cannot send to whom; shared by all daemons of a ring."""

    def __init__(self) -> None:
        self._part: dict[str, int] = {}

    def set(self, parts: Iterable[Iterable[str]]) -> None:
        """Cut between addresses of different parts; those of no part are one more."""
        self._part = {address: number for number, part in enumerate(parts, 1) for address in part}

    def between(self, one: str, other: str) -> bool:
        """Whether two addresses are in different parts."""
        part = self._part
        return part.get(one, 0) != part.get(other, 0)


class _CutHost(OneByOne):
    """A daemon's host with the cuts in its way out."""

    def __init__(self, address: str, host: Host, cuts: _Cuts) -> None:
        self._address = address
        self._cuts = cuts
        self._host = host
        self.pause_accepting = host.pause_accepting
        self.resume_accepting = host.resume_accepting
        self.wall_time = host.wall_time
        self.leave = host.leave
        self.reload = host.reload

    def send_datagram(self, data: bytes, address: tuple[str, int]) -> None:
        """Send, unless it would cross a cut."""
        if not self._cuts.between(self._address, address[0]):
            self._host.send_datagram(data, address)


class SpreadRing:
    """Daemons ``d1`` to ``dN`` of one configuration, each in a segment of its own.

    A context manager: entering it starts the daemons and waits until they are one ring,
    leaving it ends them and leaves nothing behind.  The methods block, and may be
    called from any thread; an asyncio or Twisted program that must not wait calls them
    by ``asyncio.to_thread`` or ``deferToThread``.

    Args:
        size: 1 to 128 daemons.  More than one need Linux, where all of 127.0.0.0/8 is
            the own machine.
        options: further lines of spread.conf, such as ``{"MaxSessionMessages": 50}``.
        timeouts: the nine timers in milliseconds, instead of :data:`QUICK_TIMEOUTS`.
        at_once: make the daemons notice crashes and partitions at once; if false they
            do after TokenTimeout, which should be lower then.

    """

    def __init__(
        self,
        size: int = 3,
        *,
        options: Mapping[str, object] | None = None,
        timeouts: Mapping[str, int] | None = None,
        at_once: bool = True,
    ) -> None:
        if not 1 <= size <= MAX_DAEMONS:
            raise ValueError(f"a ring has 1 to {MAX_DAEMONS} daemons, not {size}")
        self._size = size
        self._options = {**QUICK_TIMEOUTS, **(timeouts or {}), **(options or {})}
        self._at_once = at_once
        self._cuts = _Cuts()
        self._thread: LoopThread | None = None
        self.daemons: list[InProcessDaemon] = []
        """In configuration order, while the ring is open."""

    def __enter__(self) -> SpreadRing:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getitem__(self, which: int | str) -> InProcessDaemon:
        """A daemon by position, from 0, or by name."""
        if isinstance(which, int):
            return self.daemons[which]
        for daemon in self.daemons:
            if daemon.name == which:
                return daemon
        raise KeyError(which)

    def __iter__(self) -> Iterator[InProcessDaemon]:
        return iter(self.daemons)

    def __len__(self) -> int:
        return len(self.daemons)

    # --- life

    def open(self) -> None:
        """Start everything and wait until it is one ring.

        Raises:
            SpreadTestError: there are no free sockets, an option is wrong, or the ring
                does not form in time.

        """
        if self._thread is not None:
            return
        self._thread = LoopThread("spread daemons")
        try:
            self._start_anywhere(self._thread)
            self.settle()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all daemons and the thread."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with ExitStack() as stack:
            stack.callback(thread.close)
            for daemon in self.daemons:
                stack.callback(daemon.stop)
        self._cuts.set([])

    def _start_anywhere(self, thread: LoopThread) -> None:
        """Try addresses and ports until all daemons have theirs."""
        # Not the generator that tests seed.
        choice = random.SystemRandom()
        for attempt in range(1, _ATTEMPTS + 1):
            network = f"127.{choice.randrange(16, 250)}.{choice.randrange(250)}"
            configuration = self._configure(network, choice.choice(_PORTS))
            self.daemons = [
                InProcessDaemon(configuration, entry, thread, self._host_for)
                for entry in configuration.daemons
            ]
            try:
                for daemon in self.daemons:
                    daemon.start()
                return
            except SpreadTestError as error:
                for daemon in self.daemons:
                    daemon.stop()
                if attempt == _ATTEMPTS:
                    hint = "" if sys.platform == "linux" else "; rings need Linux's loopback"
                    raise SpreadTestError(f"no daemon could be started: {error}{hint}") from error

    def _configure(self, network: str, port: int) -> Configuration:
        lines = ["SocketPortReuse = ON"]
        options: dict[str, object] = {"AcceleratedRing": "false", **self._options}
        lines += [f"{name} = {written(value)}" for name, value in options.items()]
        for number in range(1, self._size + 1):
            address = f"{network}.{number}" if self._size > 1 else "127.0.0.1"
            broadcast = address.rpartition(".")[0] + ".255"
            lines.append(
                f"Spread_Segment {broadcast}:{port} {{ d{number} {address} {{ {address} }} }}"
            )
        try:
            return parse("\n".join(lines) + "\n")
        except ConfigurationError as error:
            raise SpreadTestError(f"the options are wrong: {error}") from error

    def _host_for(self, entry: Daemon, host: Host) -> Host:
        return _CutHost(entry.address, host, self._cuts)

    # --- what happens to it

    def partition(self, *parts: Iterable[Some], wait: bool = True) -> None:
        """Cut the network in parts; daemons that are not named are one more part.

        It replaces an earlier partition.

        Args:
            parts: each an iterable of daemons or names.
            wait: until every part has its own ring.

        Raises:
            ValueError: a daemon is named twice.
            SpreadTestError: the rings did not form in time.

        """
        named = [[self._find(one) for one in part] for part in parts]
        flat = [one for part in named for one in part]
        if len(flat) != len(set(flat)):
            raise ValueError("a daemon is in two parts")
        self._running_thread.call(
            lambda: self._change(
                lambda: self._cuts.set([one.address for one in part] for part in named)
            )
        )
        if wait:
            self.settle()

    def heal(self, wait: bool = True) -> None:
        """Mend the network.

        The rings find each other within LookupTimeout and become one in GatherTimeout.

        Args:
            wait: until all that runs is one ring.

        """
        self._running_thread.call(lambda: self._cuts.set([]))
        if wait:
            self.settle()

    def crash(self, daemon: Some, wait: bool = True) -> None:
        """End a daemon like ``kill -9``; its clients see their connections end.

        Args:
            daemon: which.
            wait: until the others have formed a ring without it.

        """
        victim = self._find(daemon)
        self._running_thread.call(lambda: self._change(victim.crash))
        if wait:
            self.settle()

    def stop(self, daemon: Some, wait: bool = True) -> None:
        """End a daemon as a signal does; its clients' connections are closed in order.

        Args:
            daemon: which.
            wait: until the others have formed a ring without it.

        """
        leaving = self._find(daemon)
        self._running_thread.call(lambda: self._change(leaving.stop))
        if wait:
            self.settle()

    def restart(self, daemon: Some, wait: bool = True) -> None:
        """Start a daemon again under its old address; crash it before if it runs.

        Args:
            daemon: which.
            wait: until it is in the ring.

        """
        chosen = self._find(daemon)
        if chosen.running:
            self.crash(chosen, wait=wait)
        chosen.start()
        if wait:
            self.settle()

    def settle(self, timeout: float = SETTLE_LIMIT) -> None:
        """Wait until the daemons that run and reach each other are one ring each.

        Their clients' membership messages are in the clients' sockets then.

        Raises:
            SpreadTestError: they are not, after ``timeout`` seconds.

        """
        thread = self._running_thread
        wait_until(
            lambda: thread.call(self._is_settled),
            timeout,
            lambda: "the ring to settle: " + thread.call(self._describe),
        )

    @property
    def components(self) -> list[list[str]]:
        """Names of the daemons that run, by the parts in which they reach each other."""
        return [[one.name for one in part] for part in self._parts()]

    # --- inside

    @property
    def _running_thread(self) -> LoopThread:
        if self._thread is None:
            raise SpreadTestError("the ring is not open")
        return self._thread

    def _find(self, which: Some) -> InProcessDaemon:
        if not isinstance(which, InProcessDaemon):
            return self[which]
        if which not in self.daemons:
            raise KeyError(which.name)
        return which

    def _parts(self) -> list[list[InProcessDaemon]]:
        parts: list[list[InProcessDaemon]] = []
        for daemon in self.daemons:
            if not daemon.running:
                continue
            for part in parts:
                if not self._cuts.between(part[0].address, daemon.address):
                    part.append(daemon)
                    break
            else:
                parts.append([daemon])
        return parts

    def _change(self, change: Callable[[], object]) -> None:
        """Do something to the network, then let those who lost somebody notice."""
        change()
        if not self._at_once:
            return
        for part in self._parts():
            reachable = {one.entry.id for one in part}
            for daemon in part:
                node = daemon.node
                if node is not None and not reachable.issuperset(node.membership):
                    self._lose_token(daemon, node)

    def _lose_token(self, daemon: InProcessDaemon, node: Node) -> None:
        service = daemon.service
        assert service is not None
        assert service.host is not None
        if node.ring is not None and node.ring.form_anew(time.monotonic(), "the token was lost"):
            service.host.run_soon()

    def _is_settled(self) -> bool:
        return all(self._is_one_ring(part) for part in self._parts())

    def _is_one_ring(self, part: list[InProcessDaemon]) -> bool:
        wanted = tuple(one.entry.id for one in part)
        rings = set()
        for daemon in part:
            node = daemon.node
            if (
                node is None
                or node.membership_state is not MembershipState.OP
                or tuple(node.membership) != wanted
                or node.groups.state is not GroupsState.GOP
            ):
                return False
            if node.ring is not None:
                rings.add(node.ring.membership.installed.id)
        return len(rings) <= 1

    def _describe(self) -> str:
        names = {daemon.entry.id: daemon.name for daemon in self.daemons}
        states = []
        for daemon in self.daemons:
            node = daemon.node
            if node is None:
                states.append(f"{daemon.name} does not run")
            else:
                ring = " ".join(names[one] for one in node.membership)
                states.append(
                    f"{daemon.name} is in {node.membership_state.name}, "
                    f"{node.groups.state.name}, with {ring}"
                    + (f", after {node.faults} internal errors" if node.faults else "")
                )
        return "; ".join(states)


@contextmanager
def running_daemon(
    *, options: Mapping[str, object] | None = None, timeouts: Mapping[str, int] | None = None
) -> Iterator[InProcessDaemon]:
    """Run one daemon without peers at 127.0.0.1, on a free port.

    Args:
        options: see :class:`SpreadRing`.
        timeouts: see :class:`SpreadRing`.

    Raises:
        SpreadTestError: it does not start.

    """
    with SpreadRing(1, options=options, timeouts=timeouts) as ring:
        yield ring.daemons[0]


__all__ = ["MAX_DAEMONS", "QUICK_TIMEOUTS", "SETTLE_LIMIT", "SpreadRing", "running_daemon"]
