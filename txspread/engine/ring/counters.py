"""What the ordering layer counts, for status reports, metrics and tests.

Source of the first group: the status report of upstream
(``docs/protocol/monitoring-and-tools.md``); the others are ours: every datagram
that is dropped is counted under its cause.
"""

from __future__ import annotations

from typing import Final

from txspread.engine.alarms import AlarmSink, Category, Priority

NAMES: Final = (
    "b_retrans",
    "dead_tokens",
    "duplicate_packets",
    "far_packets",
    "foreign_hash_tokens",
    "foreign_packets",
    "foreign_tokens",
    "hurries_sent",
    "illegal_requests",
    "impossible_tokens",
    "installed",
    "invariant_breaches",
    "late_packets",
    "malformed_packets",
    "malformed_tokens",
    "packet_delivered",
    "packet_recv",
    "packet_sent",
    "recoveries_abandoned",
    "refused_messages",
    "requests_sent",
    "retrans",
    "rollover_tokens",
    "s_retrans",
    "sequence_errors",
    "stale_tokens",
    "stranger_packets",
    "token_hurry",
    "tokens_accepted",
    "tokens_held",
    "tokens_lingered",
    "tokens_repeated",
    "u_retrans",
)


class RingCounters:
    """Counts since the start of the daemon."""

    __slots__ = NAMES

    def __init__(self) -> None:
        self.packet_sent = 0
        """New packets, retransmissions not included."""
        self.packet_recv = 0
        """Packets of peers that were stored."""
        self.packet_delivered = 0
        """Packets handed up."""
        self.retrans = 0
        """Requested packets that were sent again: the sum of the next three."""
        self.u_retrans = 0
        """Sent again to one daemon."""
        self.s_retrans = 0
        """Sent again to one segment."""
        self.b_retrans = 0
        """Sent again to everybody."""
        self.token_hurry = 0
        """At the leader: tokens sent again; elsewhere: accepted tokens that had been."""

        self.tokens_accepted = 0
        self.tokens_held = 0
        """Tokens the leader kept because the ring was idle."""
        self.tokens_lingered = 0
        """Tokens that stayed for further messages of the only daemon that spoke."""
        self.tokens_repeated = 0
        """Tokens a non-leader sent again because its predecessor did."""
        self.hurries_sent = 0
        self.requests_sent = 0
        """Numbers this daemon asked for."""
        self.installed = 0
        """Regular memberships installed since the start."""

        self.foreign_packets = 0
        """Packets of another ring, passed to the membership machine."""
        self.duplicate_packets = 0
        self.late_packets = 0
        """Packets of the old ring that came after its state was agreed."""
        self.far_packets = 0
        """Packets numbered beyond anything the ring can have reached."""
        self.stranger_packets = 0
        """Packets whose originator is not a member of their ring."""
        self.malformed_packets = 0
        self.sequence_errors = 0
        """Fragments that did not continue their originator's open message."""
        self.malformed_tokens = 0
        self.foreign_hash_tokens = 0
        self.dead_tokens = 0
        """Tokens that came while no token was expected."""
        self.foreign_tokens = 0
        """Tokens of another ring or not from the predecessor."""
        self.stale_tokens = 0
        """Repeated or outdated tokens."""
        self.rollover_tokens = 0
        """Tokens whose number passed the wrap limit."""
        self.impossible_tokens = 0
        """Tokens with an aru or seq that no correct ring can have reached."""
        self.illegal_requests = 0
        """Requested numbers below the safe line, or for an unknown daemon or segment."""
        self.refused_messages = 0
        """Submitted messages that cannot travel in 100 fragments."""
        self.recoveries_abandoned = 0
        """Recoveries given up after too many rounds."""
        self.invariant_breaches = 0

    def as_dict(self) -> dict[str, int]:
        """All counts by name."""
        return {name: getattr(self, name) for name in NAMES}


def rarely(alarms: AlarmSink, count: int, text: str, *args: object) -> None:
    """Log the 1st, 2nd, 4th, 8th ... occurrence of something: a flood costs few lines."""
    if count & (count - 1) == 0:
        alarms.alarm(Category.PROTOCOL, Priority.WARNING, text, *args)
