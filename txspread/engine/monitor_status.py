"""The numbers of a status report, gathered from the layers that have them.

Source: ``docs/protocol/monitoring-and-tools.md`` section 1.4; upstream ``status.c``.
"""

from __future__ import annotations

from txspread.engine.groups import Groups
from txspread.engine.local_ring import LocalRing
from txspread.engine.ring.flow import FlowControl
from txspread.engine.ring_interfaces import MembershipState
from txspread.engine.ring_stack import RingStack
from txspread.engine.sessions import Sessions
from txspread.wire.identifiers import ProcId
from txspread.wire.monitor import Status


def ring_status(
    stack: RingStack, sessions: Sessions, groups: Groups, me: ProcId, seconds: int
) -> Status:
    """The report of a daemon with peers; ``seconds`` since its start."""
    ring, membership = stack.ring, stack.membership
    counters, flow = ring.counters, ring.flow
    installed = membership.installed
    once = membership.membership_changes > 0
    return Status(
        sec=seconds,
        state=membership.state.value,
        gstate=groups.state.value,
        packet_sent=counters.packet_sent,
        packet_recv=counters.packet_recv,
        packet_delivered=counters.packet_delivered,
        retrans=counters.retrans,
        u_retrans=counters.u_retrans,
        s_retrans=counters.s_retrans,
        b_retrans=counters.b_retrans,
        aru=ring.aru,
        my_aru=ring.my_aru,
        highest_seq=ring.highest_seq,
        token_hurry=counters.token_hurry,
        token_rounds=ring.token_rounds,
        my_id=me,
        leader_id=installed.id.proc_id if once else 0,
        message_delivered=groups.messages_delivered,
        membership_changes=membership.membership_changes,
        num_procs=len(installed.members) if once else 0,
        num_segments=membership.segments if once else 0,
        window=flow.window,
        personal_window=flow.personal_window,
        accelerated_ring=int(flow.accelerated),
        accelerated_window=flow.accelerated_window,
        num_sessions=sessions.count,
        num_groups=groups.count,
    )


def local_status(
    ring: LocalRing,
    flow: FlowControl,
    sessions: Sessions,
    groups: Groups,
    me: ProcId,
    seconds: int,
) -> Status:
    """The report of a daemon that orders alone: each message is a packet, all are stable."""
    delivered = ring.messages_delivered
    return Status(
        sec=seconds,
        state=MembershipState.OP.value,
        gstate=groups.state.value,
        packet_sent=delivered,
        packet_delivered=delivered,
        aru=delivered,
        my_aru=delivered,
        highest_seq=delivered,
        my_id=me,
        leader_id=me if ring.membership_changes else 0,
        message_delivered=groups.messages_delivered,
        membership_changes=ring.membership_changes,
        num_procs=1 if ring.membership_changes else 0,
        num_segments=1 if ring.membership_changes else 0,
        window=flow.window,
        personal_window=flow.personal_window,
        accelerated_ring=int(flow.accelerated),
        accelerated_window=flow.accelerated_window,
        num_sessions=sessions.count,
        num_groups=groups.count,
    )
