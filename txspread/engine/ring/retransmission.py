"""Requests for missing packets on the token: answering them and making one.

Rules:

* A request of my ring is consumed: every number that is held is sent again now,
  by the destination the request names; what is not held is not carried on.
* Whoever lacks something asks for it itself, in one entry behind the entries of
  other rings.  Its destination starts with me and my segment; it becomes
  "several daemons" if I lacked something of the request I consumed, and "several
  segments" if that request came from another segment.
* A request that comes again and again for the same first number is not being served
  by my answers: the way from me to whoever asks may be cut in that direction only.
  Most times it then stays on the token, so that the next daemon that holds the packets
  sends them.  (Upstream answers for ever; the ring spins and orders nothing.)
* Upstream exits on a request below its safe line, on an unknown segment, or on
  a list it cannot fit; here those numbers are counted and left alone, and our
  own list ends where the datagram does.

Source: ``docs/protocol/ring-ordering.md`` sections 6.4, 6.7 and 14.3.
"""

from __future__ import annotations

from typing import Final

from txspread.engine.alarms import AlarmSink
from txspread.engine.ring.counters import RingCounters, rarely
from txspread.engine.ring.identity import Identity
from txspread.engine.ring.packet_store import PacketStore
from txspread.engine.ring_interfaces import Network
from txspread.wire.datagram import ROUTED
from txspread.wire.identifiers import ProcId
from txspread.wire.packet import PACKET_BODY_SIZE, restamp
from txspread.wire.token import MAX_TOKEN_BODY, NOBODY, RetransmissionRequest, request_size

_EMPTY_REQUEST: Final = request_size(0)

PATIENCE: Final = 3
"""Times a request is answered before it is left to others as well."""
TURNS: Final = 4
"""From then on it is answered every so many times."""


class Retransmission:
    """Answers the requests of a token and adds this daemon's own."""

    def __init__(
        self,
        identity: Identity,
        store: PacketStore,
        network: Network,
        counters: RingCounters,
        alarms: AlarmSink,
    ) -> None:
        self._identity = identity
        self._store = store
        self._network = network
        self._counters = counters
        self._alarms = alarms
        self.answered = 0
        """Packets that the last :meth:`answer` sent again."""
        self.proc_id = identity.me
        """Who will miss what this daemon asks for next: itself, or NOBODY for several."""
        self.seg_index = identity.segment
        """Segment of all who will miss it, or -1."""
        self._asked: dict[tuple[ProcId, int], tuple[int, int]] = {}
        """By destination, for the requests of the last visit that had any: the first
        number, and how many visits in a row it was that."""

    def answer(self, requests: tuple[RetransmissionRequest, ...]) -> list[RetransmissionRequest]:
        """Send again what is asked for and held; returns the entries of other rings."""
        identity = self._identity
        self.answered = 0
        self.proc_id = identity.me
        self.seg_index = identity.segment
        kept: list[RetransmissionRequest] = []
        asked = self._asked
        self._asked = {}
        for request in requests:
            if request.memb_id != identity.installed_id or self._in_vain(request, asked):
                kept.append(request)
            elif self._answer_one(request):
                self.proc_id = NOBODY
                if request.seg_index != identity.segment:
                    self.seg_index = -1
        self._counters.retrans += self.answered
        return kept

    def forget(self) -> None:
        """A token begins to go round another ring: nothing has been in vain there."""
        self._asked = {}

    def _in_vain(
        self,
        request: RetransmissionRequest,
        before: dict[tuple[ProcId, int], tuple[int, int]],
    ) -> bool:
        """Count a request; whether to leave it to somebody else this time."""
        if not request.seqs:
            return False
        to = (request.proc_id, request.seg_index)
        first = request.seqs[0]
        last, times = before.get(to, (first, 0))
        times = times + 1 if last == first else 1
        self._asked[to] = (first, times)
        return times > PATIENCE and times % TURNS != 0

    def _answer_one(self, request: RetransmissionRequest) -> bool:
        """Answer one entry; tells whether some of its numbers are not here."""
        identity = self._identity
        counters = self._counters
        store = self._store
        aru = store.aru
        proc_id = request.proc_id
        seg_index = request.seg_index
        known = proc_id == NOBODY or proc_id in identity.position
        if not -1 <= seg_index < identity.segments:
            seg_index = -1
            counters.illegal_requests += 1
        lacking = False
        for number in request.seqs:
            if number < aru:
                counters.illegal_requests += 1
                rarely(
                    self._alarms,
                    counters.illegal_requests,
                    "Answer_retrans: retrans of %d requested while Aru is %d",
                    number,
                    aru,
                )
                continue
            packet = store.datagram(number)
            if not packet:
                lacking = True
                continue
            self.answered += 1
            if not known:
                counters.illegal_requests += 1
                continue
            datagram = restamp(packet, 0, ROUTED, identity.me, identity.conf_hash)
            if proc_id != NOBODY:
                counters.u_retrans += 1
                self._network.send_to_daemon(proc_id, datagram)
            elif seg_index != -1:
                counters.s_retrans += 1
                self._network.send_to_segment(seg_index, datagram)
            else:
                counters.b_retrans += 1
                self._network.send_to_all(datagram)
        return lacking

    def ask(self, kept: list[RetransmissionRequest], bound: int) -> None:
        """Put a request for everything missing up to ``bound`` behind the others.

        As many numbers as one datagram holds without IP fragments, where the
        other entries leave room; the rest is asked for in the next rotations.
        """
        used = _EMPTY_REQUEST
        for request in kept:
            used += request_size(len(request.seqs))
        limit = (PACKET_BODY_SIZE - used) // 4
        if limit <= 1:
            limit = (MAX_TOKEN_BODY - used) // 4
            if limit <= 1:
                return
        missing = self._store.missing(bound, limit)
        if missing:
            self._counters.requests_sent += len(missing)
            kept.append(
                RetransmissionRequest(
                    self._identity.installed_id, self.proc_id, self.seg_index, tuple(missing)
                )
            )
