"""Peers whose configuration differs: noticed once, with both hashes.

Daemons whose configuration hash differs ignore each other, upstream without a word
unless NETWORK lines are shown.  Here the first datagram of a peer with a foreign
hash makes one line that is shown by default; all later ones cost a counter.  The
memory for this is bounded, so that made-up senders cannot fill it.

Source: ``docs/protocol/daemon-datagrams.md`` section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.wire.identifiers import ProcId, format_address

MAX_STRANGERS: Final = 256
"""Pairs of peer and hash that are remembered; further ones go unnoticed."""


class ForeignHashes:
    """Remembers which peers have been reported with which hash."""

    def __init__(
        self, alarms: AlarmSink, notice: Callable[[ProcId, int, int], None] | None
    ) -> None:
        self._alarms = alarms
        self._notice = notice
        self._reported: set[tuple[ProcId, int]] = set()

    def forget(self) -> None:
        """Report everybody anew: the own hash has changed."""
        self._reported.clear()

    def heard(self, proc_id: ProcId, its_hash: int, own_hash: int) -> None:
        """Report a datagram with a foreign hash, if it is the first of its kind."""
        peer = (proc_id, its_hash)
        if peer in self._reported or len(self._reported) >= MAX_STRANGERS:
            return
        self._reported.add(peer)
        self._alarms.alarm(
            Category.PRINT,
            Priority.WARNING,
            "Daemon %s has a different configuration and is ignored (its hash %d != local hash %d)",
            format_address(proc_id),
            its_hash,
            own_hash,
        )
        if self._notice is not None:
            self._notice(proc_id, its_hash, own_hash)
