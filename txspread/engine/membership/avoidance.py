"""A way out of attempts that fail for ever because one link works one way only.

If one daemon does not hear another while a third hears both, the third goes on
proposing a ring that FORM2 or the token cannot get round, and none of them has a ring
for as long as the fault lasts.  Upstream does just that.  Here a daemon that has made
FORM1 several times without a ring coming of it leaves some of those it heard out of
the next attempts:

1. the second half of them, in visiting order;
2. then the first half instead: a single bad link between two of the others, or to
   this daemon, lies outside one of the two attempts;
3. then all of them: a ring of one always succeeds.

Once a ring is installed, those that were left out of it are not heard for
:data:`PERIOD` lookup timeouts, so that clients have a ring to work with before the
whole is tried again.  To a peer this looks like JOINs that were lost.

Source: none; ``docs/protocol/membership.md`` section 5.6 describes what upstream does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from txspread.wire.identifiers import ProcId

PATIENCE: Final = 5
"""Attempts in a row that may fail before anybody is left out.  Losses and crashes
rarely spoil more than two."""
PERIOD: Final = 2
"""Lookup timeouts for which those left out are not heard."""


class Avoidance:
    """Counts the attempts of one daemon; knows whom it does not hear for a while."""

    def __init__(self) -> None:
        self.attempts = 0
        """FORM1s made since a ring was installed last."""
        self._left_out: frozenset[ProcId] = frozenset()
        self._until: dict[ProcId, float] = {}

    def begin(self, others: Sequence[ProcId]) -> frozenset[ProcId]:
        """Count an attempt that begins; who of ``others`` (visiting order) stays out."""
        self.attempts += 1
        beyond = self.attempts - PATIENCE
        half = len(others) // 2
        if beyond <= 0:
            left_out = others[:0]
        elif beyond == 1:
            left_out = others[half:]
        elif beyond == 2:
            left_out = others[:half] or others
        else:
            left_out = others
        self._left_out = frozenset(left_out)
        return self._left_out

    def installed(self, members: Sequence[ProcId], until: float) -> None:
        """A ring is installed: do not hear those left out of it before ``until``."""
        for daemon in self._left_out:
            self._until[daemon] = until
        for daemon in members:
            self._until.pop(daemon, None)
        self._left_out = frozenset()
        self.attempts = 0

    def avoids(self, daemon: ProcId, now: float) -> bool:
        """Whether ``daemon`` is not to be heard at the time ``now``."""
        until = self._until.get(daemon)
        if until is None:
            return False
        if now < until:
            return True
        del self._until[daemon]
        return False

    def forget(self) -> None:
        """Hear everybody again: the configuration has changed."""
        self._until.clear()
