"""A ring in virtual time with the faults of :class:`~txspread.testing.spread_ring.SpreadRing`.

For tests of what a program does with the messages of a ring, when the order of events
has to be the same at every run, and minutes of a network's life may take milliseconds.
There are no sockets, so programs do not connect to it: :meth:`VirtualRing.connect` gives
a :class:`~txspread.testing.virtual_client.VirtualClient`, and time passes only in
:meth:`VirtualRing.run` and the other methods that say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from txspread.config import ConfigurationError, parse
from txspread.engine.groups.machine import GroupsState
from txspread.engine.ring_interfaces import MembershipState
from txspread.testing.in_process import MAX_DAEMONS, SpreadTestError, written
from txspread.testing.virtual_client import Received, VirtualClient
from txspread.testing.virtual_network import Faults, VirtualNetwork

VIRTUAL_LIMIT: Final = 300.0
"""Virtual seconds for a membership change."""


class VirtualRing:
    """Daemons ``d1`` to ``dN``, in one segment, on a virtual network.

    Args:
        size: 1 to 128 daemons.
        options: lines of spread.conf.
        timeouts: the nine timers in milliseconds; upstream's own by default.
        seed: of everything that is left to chance.
        faults: what the network does to datagrams; nothing by default.

    """

    def __init__(
        self,
        size: int = 3,
        *,
        options: Mapping[str, object] | None = None,
        timeouts: Mapping[str, int] | None = None,
        seed: int = 0,
        faults: Faults | None = None,
    ) -> None:
        if not 1 <= size <= MAX_DAEMONS:
            raise ValueError(f"a ring has 1 to {MAX_DAEMONS} daemons, not {size}")
        lines = {"AcceleratedRing": "false", **(timeouts or {}), **(options or {})}
        text = "".join(f"{name} = {written(value)}\n" for name, value in lines.items())
        daemons = "".join(f"  d{number} 10.0.0.{number}\n" for number in range(1, size + 1))
        text += f"Spread_Segment 10.0.0.255:4803 {{\n{daemons}}}\n"
        try:
            configuration = parse(text)
        except ConfigurationError as error:
            raise SpreadTestError(f"the options are wrong: {error}") from error
        self.network = VirtualNetwork(configuration, seed, faults or Faults())
        """For finer faults than the methods here offer."""
        self._parts: list[set[str]] = []

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self.network.clock.now

    @property
    def names(self) -> list[str]:
        """Names of all daemons."""
        return list(self.network.daemons)

    def open(self) -> None:
        """Start all daemons, and run until they are one ring."""
        self.network.start()
        self.settle()

    def close(self) -> None:
        """End all daemons; their clients' connections end."""
        for daemon in self.network.daemons.values():
            daemon.crash()

    # --- programs

    def connect(
        self,
        daemon: str,
        name: str = "",
        on_received: Callable[[VirtualClient, Received], None] | None = None,
    ) -> VirtualClient:
        """Connect a client; runs until it is accepted.

        Raises:
            SpreadTestError: the daemon does not run, or refuses.

        """
        where = self.network.daemons[daemon]
        if where.node is None:
            raise SpreadTestError(f"{daemon} does not run")
        client = VirtualClient(where, name.encode(), on_received)
        where.on_crash.append(lambda _: client.close())
        self.run_until(lambda: bool(client.private_group) or client.rejected is not None)
        if client.rejected is not None:
            raise SpreadTestError(f"{daemon} refuses {name!r}: {client.rejected}")
        return client

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.network.clock.run_until(self.now + seconds)

    def run_until(self, condition: Callable[[], bool], limit: float = VIRTUAL_LIMIT) -> None:
        """Let virtual time pass until a condition holds.

        Raises:
            SpreadTestError: it does not after ``limit`` virtual seconds.

        """
        if not self.network.clock.run_while(lambda: not condition(), limit):
            raise SpreadTestError(f"ran {limit:g} virtual seconds in vain")

    # --- faults

    def partition(self, *parts: Iterable[str], wait: bool = True) -> None:
        """Cut the network in parts, those not named being one more; runs until each is a ring."""
        self._parts = [set(part) for part in parts]
        self.network.partition(*self._parts)
        if wait:
            self.settle()

    def heal(self, wait: bool = True) -> None:
        """Mend the network; runs until all are one ring."""
        self._parts = []
        self.network.heal()
        if wait:
            self.settle()

    def crash(self, daemon: str, wait: bool = True) -> None:
        """End a daemon without a word; runs until the others have noticed."""
        self.network.daemons[daemon].crash()
        if wait:
            self.settle()

    def restart(self, daemon: str, wait: bool = True) -> None:
        """Start a daemon again, after a crash if it runs; runs until it is in the ring."""
        self.network.daemons[daemon].crash()
        self.network.daemons[daemon].start()
        if wait:
            self.settle()

    def settle(self, limit: float = VIRTUAL_LIMIT) -> None:
        """Run until the daemons that run and reach each other are one ring each.

        Raises:
            SpreadTestError: they are not after ``limit`` virtual seconds.

        """
        self.run_until(self._is_settled, limit)

    @property
    def components(self) -> list[list[str]]:
        """Names of the daemons that run, by the parts in which they reach each other."""
        found: dict[int, list[str]] = {}
        for name, daemon in self.network.daemons.items():
            if daemon.running:
                place = next((n for n, part in enumerate(self._parts) if name in part), -1)
                found.setdefault(place, []).append(name)
        return list(found.values())

    def _is_settled(self) -> bool:
        daemons = self.network.daemons
        for part in self.components:
            wanted = tuple(daemons[name].daemon.id for name in part)
            rings = set()
            for name in part:
                node = daemons[name].node
                if (
                    node is None
                    or node.membership_state is not MembershipState.OP
                    or tuple(node.membership) != wanted
                    or node.groups.state is not GroupsState.GOP
                ):
                    return False
                if node.ring is not None:
                    rings.add(node.ring.membership.installed.id)
            if len(rings) > 1:
                return False
        return True


__all__ = ["VirtualRing"]
