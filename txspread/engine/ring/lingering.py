"""A visit of the token that goes on while this daemon is the only one that speaks.

A client that sends its next message when the last one has arrived finds the token
on its way round the ring, and waits for the rest of the rotation, every time.  While
nobody else sends anything, that rotation carries nothing.  So the token stays here a
little, and the next message leaves at once.

Rules:

* The token lingers only after :data:`NEEDED` messages in a row, each within
  :data:`LOOP_GAP` of the one before and with nothing of others in between.  What
  somebody answers to, or what comes now and then, is never waited for.
* It leaves after :data:`PATIENCE` without a message; right behind a message after
  :data:`LIMIT`, or when the visit has made as many packets as flow control allows, so
  that it goes round while that message is delivered and answered; and at once when a
  member says HURRY.
* It does not linger while somebody lacks a packet, nor for some visits after a SAFE
  message, which is delivered by rotations.
* Whenever others have had to wait, more messages in a row are needed the next time.
* To the others the visit has only lasted longer: nobody has seen this token.

Who has something to say meanwhile can tell: since the token was here, packets have
come from one daemon only, and not all at once.  It sends that daemon a HURRY, once for
each visit of its own.  Upstream's daemons take no notice of a HURRY unless they lead,
and send none in this case; they wait until the token leaves.

Source: ``docs/protocol/ring-ordering.md`` section 6.17.
"""

from __future__ import annotations

from typing import Final

from txspread.engine.ring_interfaces import Timer, Timers
from txspread.wire.identifiers import ProcId

PATIENCE: Final = 0.002
"""Seconds for which the token waits for the next message."""
LIMIT: Final = 0.005
"""Seconds after which the token leaves with the next message."""
LOOP_GAP: Final = 0.005
"""Seconds between two messages of a client that waits for the arrival of each."""
NEEDED: Final = 4
"""Messages in a row before the token lingers."""
MOST_NEEDED: Final = 256
"""The same where others were often made to wait."""
TRUSTED: Final = 32
"""Lingering visits after which half as many are needed again."""
SAFE_VISITS: Final = 4
"""Visits of the token after which a SAFE message is delivered everywhere."""
SPAN: Final = 0.0003
"""Seconds over which one daemon's packets must have come for it to be asked for the token."""
_NEVER: Final = -1e9


class Lingering:
    """Whether the token stays for further messages of this daemon's clients."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self.active = False
        """The token is here and waits."""
        self.allowance = 0
        """Packets that flow control still allows in this visit."""
        self.visits = 0
        """Visits that lingered, since the start of the daemon."""
        self._row = 0
        self._needed = NEEDED
        self._trust = 0
        self._safe = 0
        self._spoken_at = _NEVER
        self._leaves_at = 0.0

    def visit(self, others_spoke: bool) -> None:
        """A token has come; ``others_spoke`` if it counts packets that are not ours."""
        if self._safe:
            self._safe -= 1
        if others_spoke:
            if self._trust and self._needed < MOST_NEEDED:
                self._needed *= 2
            self._row = self._trust = 0

    def spoke(self, now: float, safe: bool) -> None:
        """New packets were made; ``safe`` if there are SAFE ones among them."""
        self._row = self._row + 1 if now - self._spoken_at <= LOOP_GAP else 0
        self._spoken_at = now
        if safe:
            self._safe = SAFE_VISITS

    def willing(self, now: float) -> bool:
        """Tell whether the token should linger, going by this daemon's messages."""
        return self._row >= self._needed and not self._safe and now - self._spoken_at <= PATIENCE

    def likely(self) -> bool:
        """Tell whether it should if one more message is sent now, soon after the last one."""
        return self._row + 1 >= self._needed and not self._safe

    def begin(self, now: float, allowance: int) -> None:
        """Keep the token, for at most so many packets."""
        self.active = True
        self.allowance = allowance
        self.visits += 1
        self._trust += 1
        if self._trust % TRUSTED == 0 and self._needed > NEEDED:
            self._needed //= 2
        self._leaves_at = now + LIMIT
        self._timers.start(Timer.LINGER, PATIENCE)

    def goes_on(self, now: float) -> bool:
        """Tell whether the token may stay after further packets."""
        return self.allowance > 0 and now < self._leaves_at and not self._safe

    def still(self, now: float) -> bool:
        """Tell whether the token stays although the timer has run out; then sets it anew."""
        until = self._spoken_at + PATIENCE
        if until <= now:
            return False
        self._timers.start(Timer.LINGER, until - now)
        return True

    def end(self) -> None:
        """The token leaves, or is lost."""
        if self.active:
            self.active = False
            self._timers.stop(Timer.LINGER)

    def forget(self) -> None:
        """The ring is gone."""
        self.end()
        self._row = self._trust = 0


class Keeper:
    """Which peer seems to keep the token while this daemon has something to say."""

    def __init__(self) -> None:
        self._who: ProcId = 0
        self._first = self._last = _NEVER

    def visited(self) -> None:
        """The token was here."""
        self._who = 0
        self._last = _NEVER

    def heard(self, proc_id: ProcId, now: float) -> None:
        """New packets of ``proc_id`` have come, of several daemons perhaps."""
        if self._last == _NEVER:
            self._who = proc_id
            self._first = now
        elif proc_id != self._who:
            self._who = 0
        self._last = now

    def ask(self) -> ProcId:
        """Who is to be asked for the token, once for each visit here; 0 for nobody."""
        who = self._who
        if who and self._last - self._first > SPAN:
            self._who = 0
            return who
        return 0
