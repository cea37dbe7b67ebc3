"""The seams inside the token ring: membership, ordering, and the network below.

The membership machine decides *who* is in the ring, the token machine *what*
the ring has ordered.  They share variables in upstream; here these protocols
are all their contacts (``docs/protocol/membership.md`` section 12.6,
``docs/protocol/ring-ordering.md`` section 12.3).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

from attrs import frozen

from txspread.wire.identifiers import MembershipId, ProcId


class MembershipState(enum.Enum):
    """State of the daemon membership algorithm; values as in the status report."""

    OP = 1
    SEG = 2
    REPRESENTED = 3
    GATHER = 4
    FORM = 5
    EVS = 6


@frozen
class RingView:
    """One ring: its id and its members in configuration order."""

    id: MembershipId
    members: tuple[ProcId, ...]
    leader: ProcId
    predecessor: ProcId
    """Of this daemon; itself when it is alone."""
    successor: ProcId


@frozen
class OldRingState:
    """What this daemon has of its present ring, for a FORM1 entry."""

    aru: int
    highest_seq: int
    missing: tuple[int, ...]
    """Numbers in (My_aru, highest_seq] that are not held, ascending."""
    held: frozenset[int]
    """Numbers in (My_aru, highest_seq] that are held."""


@frozen
class OldRingResult:
    """The entry of this daemon's old ring on an accepted FORM2."""

    aru: int
    highest_seq: int
    holes: tuple[int, ...]
    commit: tuple[ProcId, ...]
    """Commit list; the first :attr:`num_trans` are the transitional members."""
    num_trans: int


class Timer(enum.Enum):
    """Every timer of the ring.  Setting a timer again replaces it."""

    __hash__ = object.__hash__  # a call of Python code for each look-up otherwise

    LOSS = "loss"
    HURRY = "hurry"
    ALIVE = "alive"
    JOIN = "join"
    REP = "rep"
    SEG = "seg"
    GATHER = "gather"
    LOOKUP = "lookup"
    LINGER = "linger"
    """The token has waited long enough for further messages."""
    DELIVERY = "delivery"
    """Zero delay: deliveries that a lowered threshold has set free."""
    PARTITION = "partition"
    RELOAD = "reload"
    """Zero delay: a reload that waited until the state is OP again."""
    WATCH = "watch"
    """Looks whether the token is about to be lost; belongs to nobody in the protocol."""


class Timers(Protocol):
    """Named timers on the engine's clock."""

    @property
    def now(self) -> float:
        """Time of the input that is being handled, seconds."""

    def start(self, timer: Timer, delay: float) -> None:
        """Start or restart; ``delay`` in seconds from the current input's time."""

    def stop(self, timer: Timer) -> None:
        """Cancel if running."""

    def running(self, timer: Timer) -> bool:
        """Tell whether it is set."""


class Network(Protocol):
    """Sending datagrams, by the ring that routes now.

    ``packet`` is a complete datagram whose type marker, configuration hash and
    transmitter id are already this daemon's; the network sets or clears ROUTED.
    Source: ``docs/protocol/daemon-datagrams.md`` section 11.
    """

    def send_to_all(self, packet: bytes) -> None:
        """To every other segment's first member (ROUTED), then to the own segment."""

    def send_train_to_all(self, train: bytearray, size: int) -> None:
        """As :meth:`send_to_all`, several packets of ``size`` bytes, one behind the other.

        ``train`` is given away: the network may change it.
        """

    def send_to_segment(self, segment: int, packet: bytes) -> None:
        """To one segment by its index."""

    def send_to_daemon(self, daemon: ProcId, packet: bytes) -> None:
        """To one daemon's data port."""

    def send_token(self, token: bytes) -> None:
        """To the successor's token port."""

    def send_token_to(self, daemon: ProcId, token: bytes) -> None:
        """To a named daemon's token port."""

    def route_by(self, members: Sequence[ProcId]) -> None:
        """Switch routes and successor to the ring of an accepted FORM2."""


class RingMembership(Protocol):
    """The membership machine as the token machine sees it."""

    @property
    def state(self) -> MembershipState:
        """Present state."""

    @property
    def token_alive(self) -> bool:
        """Whether regular tokens are taken."""

    @property
    def installed(self) -> RingView:
        """The ring of the last installed regular membership."""

    @property
    def active(self) -> RingView:
        """The future ring in EVS, else the installed one."""

    @property
    def last_of_my_segment(self) -> bool:
        """Whether this daemon is the last member of its segment in the active ring."""

    @property
    def wide_area(self) -> bool:
        """The LAN or WAN guess, made once."""

    def foreign(self, datagram: bytes, proc_id: ProcId) -> None:
        """Hear a data packet of another ring (or of the previous one)."""

    def token_loss(self) -> None:
        """Run TOKEN_LOSS; calls back :meth:`RingOrdering.on_token_loss`."""

    def transitional_id(self, transitional_members: Sequence[ProcId]) -> MembershipId:
        """Id of my transitional membership: (first of them, trans_time)."""

    def install_future(self) -> RingView:
        """Make the future ring the installed one; state becomes OP."""


class RingOrdering(Protocol):
    """The token machine as the membership machine sees it."""

    def on_token_loss(self) -> None:
        """Back off from EVS if there, raise the threshold to BLOCK, forget Last_token.

        Called before the membership machine changes its state.
        """

    def describe(self) -> OldRingState:
        """What a FORM1 entry says of the installed ring."""

    def commit_list(self) -> tuple[tuple[ProcId, ...], int]:
        """Commit_set in order, and how many of it are transitional."""

    def on_form1(self) -> None:
        """A FORM1 has been sent on: no new packet of this ring may leave."""

    def on_form2(self, last_seq: int, entry: OldRingResult, last_member: bool) -> None:
        """Take over the agreed result; delivers in the old membership up to its aru.

        The state is still FORM; :meth:`Network.route_by` has been called.  The
        membership machine then sends FORM2 or the first regular token and sets
        EVS, token_alive and the loss timer.
        """
