"""Faults aimed at one kind of datagram, which chance alone rarely makes.

A formation is over in a millisecond and takes a handful of datagrams; losing just
the second FORM2, or all tokens to one daemon, or killing a daemon in the middle of
it, needs a snare that waits for it.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from txspread.engine.node_interfaces import Channel
from txspread.testing.virtual_network import VirtualDaemon, VirtualNetwork

_KINDS_ON_TOKEN_PORT: tuple[tuple[int, str], ...] = ((0x1000, "form1"), (0x2000, "form2"))
_KINDS_ON_DATA_PORT: tuple[tuple[int, str], ...] = (
    (0x100, "alive"),
    (0x200, "join"),
    (0x400, "refer"),
    (0x40, "hurry"),
    (0x1F, "data"),
)
KINDS = ("token", *(name for _, name in (*_KINDS_ON_TOKEN_PORT, *_KINDS_ON_DATA_PORT)))
"""What :func:`kind_of` can answer; besides it ``other``."""


def kind_of(data: bytes, channel: Channel) -> str:
    """Name the kind of a datagram by its type bits, for instance ``form1`` or ``data``."""
    bits = int.from_bytes(data[:4], "little")
    if channel is Channel.TOKEN:
        kinds, rest = _KINDS_ON_TOKEN_PORT, "token"
    else:
        kinds, rest = _KINDS_ON_DATA_PORT, "other"
    for mask, name in kinds:
        if bits & mask:
            return name
    return rest


@define
class Snare:
    """Takes the next datagrams that match, one copy each; then calls ``action``."""

    kind: str
    """One of :data:`KINDS`."""
    left: int
    """How many it still takes."""
    sender: str | None = None
    """Name of the daemon that sends; None: whoever."""
    receiver: str | None = None
    """Name of the daemon that would receive; None: whoever."""
    takes: bool = True
    """Whether what it matches is lost; else it only counts."""
    keeps: bool = False
    """Whether what it takes comes later, with :meth:`Snares.release`."""
    action: Callable[[], object] | None = None
    """What happens with the last one."""


class Snares:
    """The snares of one network, as its :attr:`VirtualNetwork.tap`."""

    def __init__(self, network: VirtualNetwork) -> None:
        self._network = network
        self._set: list[Snare] = []
        self._kept: list[tuple[VirtualDaemon, int, bytes, Channel]] = []

    def lay(self, snare: Snare) -> None:
        """Wait for datagrams."""
        self._set.append(snare)
        self._network.tap = self._passes

    def clear(self) -> None:
        """Take all snares away."""
        self._set.clear()
        self._kept.clear()
        self._network.tap = None

    def release(self) -> None:
        """Let what was kept arrive now, very late."""
        for receiver, incarnation, data, channel in self._kept:
            if receiver.incarnation == incarnation:
                receiver.arrive(data, channel)
        self._kept.clear()

    def _passes(
        self, sender: VirtualDaemon, receiver: VirtualDaemon, data: bytes, channel: Channel
    ) -> bool:
        kind = kind_of(data, channel)
        for snare in self._set:
            if (
                snare.kind == kind
                and snare.sender in (None, sender.daemon.name)
                and snare.receiver in (None, receiver.daemon.name)
            ):
                if snare.keeps:
                    self._kept.append((receiver, receiver.incarnation, data, channel))
                snare.left -= 1
                if snare.left <= 0:
                    self._set.remove(snare)
                    if not self._set:
                        self._network.tap = None
                    if snare.action is not None:
                        snare.action()
                return not snare.takes
        return True
