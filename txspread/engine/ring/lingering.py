"""A visit of the token that goes on while this daemon is the only one that speaks.

A client that sends its next message when the last one has arrived finds the token
on its way round the ring, and waits for the rest of the rotation, every time.  While
nobody else sends anything, that rotation carries nothing.  So the token stays here a
little, and the next message leaves at once.

Rules:

* The token lingers only after :data:`NEEDED` messages in a row, each within
  :data:`LOOP_GAP` of the one before and with nothing of others in between.  What
  somebody answers to, or what comes now and then, is never waited for.
* It leaves after :data:`PATIENCE` without a message; right behind a message when it has
  been here for long enough, or when packets are made faster than flow control allows, so
  that it goes round while that message is delivered and answered; and at once when a
  member says HURRY.
* Long enough is :data:`LIMIT`; where every other member is known to call for the token
  when it needs it, a :data:`SHARE` of the time since one of them spoke or lacked a packet, up to
  :data:`LONGEST` and to a :data:`SHARE_OF_HURRY` of the hurry timeout, if that is longer.
* While messages come one by one, flow control allows a visit's packets in each
  :data:`RENEWAL`: what was sent before that has arrived, and is not counted any more.  A
  visit makes no more than :data:`MOST` in all.  Many messages at once do better in
  packets that they share, which is what they come to while the token goes round.
* It does not linger while somebody lacks a packet, nor for some visits after a SAFE
  message, which is delivered by rotations.
* Whenever others have had to wait, more messages in a row are needed the next time.
* To the others the visit has only lasted longer: nobody has seen this token.

Who has something to say, or lacks a packet, meanwhile can tell: since the token was here,
packets have come from one daemon only, and not all at once.  It sends that daemon a HURRY,
once for each visit of its own.  Such a HURRY names the ring, which others leave empty, so
the keeper learns who calls; to a keeper that it has not called before a member introduces
itself so, :data:`INTRODUCTIONS` times, though it needs nothing.  Upstream's daemons take no
notice of a HURRY unless they lead, and send none in this case; they wait until the token
leaves.

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
LONGEST: Final = 0.05
"""The same where all others can call for it and have been silent for long."""
SHARE: Final = 50
"""Part of the time since others spoke for which the token stays."""
SHARE_OF_HURRY: Final = 20
"""Part of the hurry timeout for which the token may stay, if that is more than LIMIT."""
RENEWAL: Final = 0.001
"""Seconds in which a visit may make the packets that flow control allows."""
MOST: Final = 512
"""Packets of one visit; a third of what may be unstable, see ``flow.MAX_SEQ_GAP``."""
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
CERTAIN: Final = 0.002
"""The same for that daemon to be trusted not to send the token close behind its next packet:
longer than an upstream daemon's visit takes that sends many packets one by one."""
INTRODUCTIONS: Final = 3
"""Calls for a token that is not needed, to each keeper; one of them will arrive."""
_NEVER: Final = -1e9


class Lingering:
    """Whether the token stays for further messages of this daemon's clients."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self.active = False
        """The token is here and waits."""
        self.allowance = 0
        """Packets that may still be made before the next renewal."""
        self.visits = 0
        """Visits that lingered, since the start of the daemon."""
        self._quota = 0
        self._left = 0
        self._one_by_one = False
        self._renewed_at = 0.0
        self._disturbed_at = timers.now
        self._callers: set[ProcId] = set()
        self._row = 0
        self._needed = NEEDED
        self._trust = 0
        self._safe = 0
        self._spoken_at = _NEVER
        self._leaves_at = 0.0

    def visit(self, now: float, others_spoke: bool, lacking: bool) -> None:
        """A token has come.

        Args:
            now: seconds on the engine's clock.
            others_spoke: it counts packets that are not ours.
            lacking: somebody lacks a packet, or did in this rotation.

        """
        if self._safe:
            self._safe -= 1
        if others_spoke or lacking:
            self._disturbed_at = now
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

    def called_by(self, proc_id: ProcId) -> None:
        """A member calls for the token, and will do so whenever it needs it."""
        self._callers.add(proc_id)

    def begin(self, now: float, quota: int, sent: int, others: int, hurry_timeout: float) -> None:
        """Keep the token.

        Args:
            now: seconds on the engine's clock.
            quota: packets that flow control allows in a visit.
            sent: how many this one has made.
            others: how many other members the ring has.
            hurry_timeout: seconds after which the leader looks for the token.

        """
        self.active = True
        self.visits += 1
        self._trust += 1
        if self._trust % TRUSTED == 0 and self._needed > NEEDED:
            self._needed //= 2
        self._quota = quota
        self._left = MOST - sent
        self.allowance = min(quota - sent, self._left)
        self._one_by_one = True
        self._renewed_at = now
        stay = LIMIT
        if len(self._callers) >= others:
            longest = min(LONGEST, hurry_timeout / SHARE_OF_HURRY)
            stay = max(stay, min(longest, (now - self._disturbed_at) / SHARE))
        self._leaves_at = now + stay
        self._timers.start(Timer.LINGER, PATIENCE)

    def renews(self, messages: int, now: float) -> bool:
        """Tell whether what this visit has sent so far has arrived, and allow as much again.

        Args:
            messages: how many are to be sent now.
            now: seconds on the engine's clock.

        """
        if messages > 1:
            self._one_by_one = False
        if not self._one_by_one or now - self._renewed_at < RENEWAL:
            return False
        self._renewed_at = now
        self.allowance = min(self._quota, self._left)
        return True

    def made(self, packets: int) -> None:
        """Further packets were made."""
        self.allowance -= packets
        self._left -= packets

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
        self._disturbed_at = self._timers.now
        self._callers.clear()


class Keeper:
    """Which peer seems to keep the token while it does not come here."""

    def __init__(self) -> None:
        self._who: ProcId = 0
        self._first = self._last = _NEVER
        self._called: dict[ProcId, int] = {}

    def forget(self) -> None:
        """The ring is gone."""
        self.visited()
        self._called.clear()

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

    def keeps(self) -> bool:
        """Tell whether somebody seems to keep it, and was not asked yet since it was here."""
        return self._last - self._first > SPAN and self._who != 0

    def certainly(self) -> bool:
        """Tell whether that has been so for long."""
        return self._last - self._first > CERTAIN and self._who != 0

    def ask(self, needed: bool = True) -> ProcId:
        """Who is to be asked for the token, once for each visit here; 0 for nobody.

        Args:
            needed: it is; otherwise only who hardly knows yet that it can be called
                is asked.

        """
        if not self.keeps():
            return 0
        who = self._who
        calls = self._called.get(who, 0)
        if not needed and calls >= INTRODUCTIONS:
            return 0
        self._called[who] = calls + 1
        self._who = 0
        return who
