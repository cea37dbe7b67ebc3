"""What the ordering layer counts, for status reports, metrics and tests.

Source of the first group: the status report of upstream
(``docs/protocol/monitoring-and-tools.md``); the others are ours: every datagram
that is dropped is counted under its cause.
"""

from __future__ import annotations

from attrs import define

from txspread.engine.alarms import AlarmSink, Category, Priority


@define(eq=False)
class RingCounters:
    """Counts since the start of the daemon."""

    packet_sent: int = 0
    """New packets, retransmissions not included."""
    packet_recv: int = 0
    """Packets of peers that were stored."""
    packet_delivered: int = 0
    """Packets handed up."""
    retrans: int = 0
    """Requested packets that were sent again: the sum of the next three."""
    u_retrans: int = 0
    """Sent again to one daemon."""
    s_retrans: int = 0
    """Sent again to one segment."""
    b_retrans: int = 0
    """Sent again to everybody."""
    token_hurry: int = 0
    """At the leader: tokens sent again; elsewhere: accepted tokens that had been."""

    tokens_accepted: int = 0
    tokens_held: int = 0
    """Tokens the leader kept because the ring was idle."""
    tokens_repeated: int = 0
    """Tokens a non-leader sent again because its predecessor did."""
    hurries_sent: int = 0
    requests_sent: int = 0
    """Numbers this daemon asked for."""
    installed: int = 0
    """Regular memberships installed since the start."""

    foreign_packets: int = 0
    """Packets of another ring, passed to the membership machine."""
    duplicate_packets: int = 0
    late_packets: int = 0
    """Packets of the old ring that came after its state was agreed."""
    far_packets: int = 0
    """Packets numbered beyond anything the ring can have reached."""
    stranger_packets: int = 0
    """Packets whose originator is not a member of their ring."""
    malformed_packets: int = 0
    sequence_errors: int = 0
    """Fragments that did not continue their originator's open message."""
    malformed_tokens: int = 0
    foreign_hash_tokens: int = 0
    dead_tokens: int = 0
    """Tokens that came while no token was expected."""
    foreign_tokens: int = 0
    """Tokens of another ring or not from the predecessor."""
    stale_tokens: int = 0
    """Repeated or outdated tokens."""
    rollover_tokens: int = 0
    """Tokens whose number passed the wrap limit."""
    impossible_tokens: int = 0
    """Tokens with an aru or seq that no correct ring can have reached."""
    illegal_requests: int = 0
    """Requested numbers below the safe line, or for an unknown daemon or segment."""
    refused_messages: int = 0
    """Submitted messages that cannot travel in 100 fragments."""
    recoveries_abandoned: int = 0
    """Recoveries given up after too many rounds."""
    invariant_breaches: int = 0


def rarely(alarms: AlarmSink, count: int, text: str, *args: object) -> None:
    """Log the 1st, 2nd, 4th, 8th ... occurrence of something: a flood costs few lines."""
    if count & (count - 1) == 0:
        alarms.alarm(Category.PROTOCOL, Priority.WARNING, text, *args)
