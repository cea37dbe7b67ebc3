"""What happened in a run, in the form the checker reads.

Two kinds of history are kept: what each *incarnation* of a daemon handed to its
groups layer, and what each client sent and received.  Simulated runs fill them
directly; a run with real daemons can fill the client part alone.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import define, field, frozen

from txspread.wire.identifiers import GroupId, MembershipId, ProcId

MessageId: TypeAlias = bytes
"""Unique name of a data message in a run: its body, which test clients make unique."""


@frozen
class Configuration:
    """A daemon membership that was delivered: regular or transitional."""

    regular: bool
    id: MembershipId
    members: tuple[ProcId, ...]


@frozen
class Delivery:
    """A data message that was delivered to the groups layer of a daemon."""

    message: MessageId
    service: int
    """The service bit it was sent with."""


@define
class DaemonHistory:
    """Everything one incarnation of a daemon delivered, in order."""

    proc_id: ProcId
    incarnation: int
    events: list[Configuration | Delivery] = field(factory=list)
    crashed: bool = False


@frozen
class View:
    """A regular membership message of a group, as a client got it."""

    group: bytes
    id: GroupId
    members: tuple[bytes, ...]
    vs_set: tuple[bytes, ...]
    """The members that came together with this client (CAUSED_BY_NETWORK), or the
    one that changed (join, leave, disconnect)."""
    vs_sets: tuple[tuple[bytes, ...], ...]
    cause: int


@frozen
class Transition:
    """A transitional signal of a group."""

    group: bytes


@frozen
class Left:
    """The daemon's word that the client has left a group (self-leave message)."""

    group: bytes


@frozen
class ClientDelivery:
    """A data message as a client got it."""

    message: MessageId
    service: int
    sender: bytes
    groups: tuple[bytes, ...]


@frozen
class Sent:
    """A data message as a client sent it."""

    message: MessageId
    service: int
    groups: tuple[bytes, ...]
    after: int
    """How many messages the client had received when it sent this one."""


@define
class ClientHistory:
    """Everything one client sent and received, each in order."""

    private_group: bytes
    proc_id: ProcId
    sent: list[Sent] = field(factory=list)
    received: list[View | Transition | Left | ClientDelivery] = field(factory=list)
    asked: set[bytes] = field(factory=set)
    """Groups it has asked to join."""
    left: set[bytes] = field(factory=set)
    """Groups it has asked to leave."""
    alive: bool = True
    """Whether it was still connected when the run ended."""


@define
class Trace:
    """One run."""

    daemons: list[DaemonHistory] = field(factory=list)
    clients: list[ClientHistory] = field(factory=list)
