"""The states of the groups layer, and what each event does in each of them.

* GOP, operational: joins, leaves and kills change the replica; clients are told.
* GTRANS, between a transitional signal and the regular membership: the same, but
  groups that have lost a daemon are *changed*: their events are told as network
  changes, each followed by a transition message.
* GGATHER, exchanging: the regular membership holds daemons that do not share
  this replica; representatives send their state, clients are not served.
* GGT, interrupted exchange: a transitional signal came during GGATHER.

A regular membership of as many daemons as the transitional one only takes away:
all of them hold the same replica and nothing needs to be said.  It is a *smaller*
one here, any other a *larger* one.

The order of all events is the ring's.  What cannot come in a state without a
fault elsewhere is listed too: upstream's daemons abort there.  BROKEN means that
the ring layer called out of order.  REFUSE means a peer broke the order of
section 8.3: the message is dropped by every replica at the same place.

Source: ``docs/protocol/groups.md`` sections 1.6 and 3.
"""

from __future__ import annotations

import enum
from typing import Final

from attrs import frozen


class GroupsState(enum.Enum):
    """State of the groups layer; values as in the status report."""

    GOP = 1
    GTRANS = 2
    GGATHER = 3
    GGT = 4


class Event(enum.Enum):
    """What the ring layer delivers."""

    TRANSITIONAL = "transitional membership"
    REGULAR_SMALLER = "regular membership, as large as the transitional one"
    REGULAR_LARGER = "regular membership, larger than the transitional one"
    JOIN = "JOIN"
    LEAVE = "LEAVE"
    KILL = "KILL"
    DATA = "regular message"
    GROUPS = "GROUPS"
    GROUPS_COMPLETE = "the last GROUPS message of the exchange"


class Action(enum.Enum):
    """What the layer does; each is one method of the layer."""

    MARK_LOST = "mark lost daemons partitioned, tell transitions"
    NOTE_LOST = "mark groups with lost daemons changed"
    DROP_LOST = "remove lost daemons, tell network changes"
    BEGIN_EXCHANGE = "remove lost daemons, hold clients, send state"
    RESTART_EXCHANGE = "merge what is complete, remove lost daemons, send state"
    JOIN = "add the member, tell"
    LEAVE = "remove the member, tell"
    KILL = "remove the member from all groups, tell"
    ROUTE = "write to the local members"
    ROUTE_PRIVATE = "write to private groups only"
    GATHER = "keep the message"
    MERGE = "merge all, tell network changes, serve clients"
    MERGE_THEN_MARK_LOST = "as MERGE, then as MARK_LOST with the signal that came first"
    IGNORE = "log and ignore"
    REFUSE = "log, drop, ask for a new membership"
    BROKEN = "the ring layer is out of order"


@frozen
class Step:
    """One entry of the table."""

    action: Action
    next_state: GroupsState


_GOP, _GTRANS, _GGATHER, _GGT = GroupsState
_BROKEN: Final = {state: Step(Action.BROKEN, state) for state in GroupsState}

TRANSITIONS: Final[dict[tuple[GroupsState, Event], Step]] = {
    (_GOP, Event.TRANSITIONAL): Step(Action.MARK_LOST, _GTRANS),
    (_GOP, Event.REGULAR_SMALLER): _BROKEN[_GOP],
    (_GOP, Event.REGULAR_LARGER): _BROKEN[_GOP],
    (_GOP, Event.JOIN): Step(Action.JOIN, _GOP),
    (_GOP, Event.LEAVE): Step(Action.LEAVE, _GOP),
    (_GOP, Event.KILL): Step(Action.KILL, _GOP),
    (_GOP, Event.DATA): Step(Action.ROUTE, _GOP),
    (_GOP, Event.GROUPS): Step(Action.IGNORE, _GOP),
    (_GTRANS, Event.TRANSITIONAL): _BROKEN[_GTRANS],
    (_GTRANS, Event.REGULAR_SMALLER): Step(Action.DROP_LOST, _GOP),
    (_GTRANS, Event.REGULAR_LARGER): Step(Action.BEGIN_EXCHANGE, _GGATHER),
    (_GTRANS, Event.JOIN): Step(Action.JOIN, _GTRANS),
    (_GTRANS, Event.LEAVE): Step(Action.LEAVE, _GTRANS),
    (_GTRANS, Event.KILL): Step(Action.KILL, _GTRANS),
    (_GTRANS, Event.DATA): Step(Action.ROUTE, _GTRANS),
    (_GTRANS, Event.GROUPS): Step(Action.IGNORE, _GTRANS),
    (_GGATHER, Event.TRANSITIONAL): Step(Action.NOTE_LOST, _GGT),
    (_GGATHER, Event.REGULAR_SMALLER): _BROKEN[_GGATHER],
    (_GGATHER, Event.REGULAR_LARGER): _BROKEN[_GGATHER],
    (_GGATHER, Event.JOIN): Step(Action.REFUSE, _GGATHER),
    (_GGATHER, Event.LEAVE): Step(Action.REFUSE, _GGATHER),
    (_GGATHER, Event.KILL): Step(Action.REFUSE, _GGATHER),
    (_GGATHER, Event.DATA): Step(Action.ROUTE_PRIVATE, _GGATHER),
    (_GGATHER, Event.GROUPS): Step(Action.GATHER, _GGATHER),
    (_GGATHER, Event.GROUPS_COMPLETE): Step(Action.MERGE, _GOP),
    (_GGT, Event.TRANSITIONAL): _BROKEN[_GGT],
    (_GGT, Event.REGULAR_SMALLER): Step(Action.RESTART_EXCHANGE, _GGATHER),
    (_GGT, Event.REGULAR_LARGER): Step(Action.RESTART_EXCHANGE, _GGATHER),
    (_GGT, Event.JOIN): Step(Action.REFUSE, _GGT),
    (_GGT, Event.LEAVE): Step(Action.REFUSE, _GGT),
    (_GGT, Event.KILL): Step(Action.REFUSE, _GGT),
    (_GGT, Event.DATA): Step(Action.ROUTE_PRIVATE, _GGT),
    (_GGT, Event.GROUPS): Step(Action.GATHER, _GGT),
    (_GGT, Event.GROUPS_COMPLETE): Step(Action.MERGE_THEN_MARK_LOST, _GTRANS),
}
"""What each event does.  GROUPS_COMPLETE is raised by GATHER, so it comes in no other state."""


class RingOutOfOrder(Exception):
    """The ring layer delivered a membership signal that cannot come now.

    A fault of this program, not of its input: the node must not run on with it.
    """
