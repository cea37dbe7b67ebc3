"""What a daemon is and does at this moment, as plain data for JSON.

The source of ``/status``; see ``docs/observability.md`` for its fields.  Names
of groups and clients are any bytes: those that are not UTF-8 are shown with
backslashes.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Mapping
from itertools import islice
from typing import Final, TypeAlias

from attrs import asdict

import txspread
from txspread.config.model import Daemon
from txspread.daemon.host import DaemonHost
from txspread.engine.groups.machine import GroupsState
from txspread.engine.node import Node
from txspread.engine.ring_history import MembershipChange
from txspread.engine.ring_interfaces import MembershipState
from txspread.engine.sessions_state import Session
from txspread.wire.identifiers import MembershipId, format_address

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

DEFAULT_LISTED: Final = 100
MOST_LISTED: Final = 1000
"""Groups and sessions that one answer lists."""
SOME_MEMBERS: Final = 5
"""Members that are named with a group."""
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def text(name: bytes) -> str:
    """A name of any bytes, for showing."""
    return name.decode("utf-8", "backslashreplace")


def shown(name: str) -> str:
    """A configured name, whose bytes may not be UTF-8, for showing."""
    return text(name.encode("utf-8", "surrogateescape"))


def running_node(host: DaemonHost | None) -> Node | None:
    """The engine of a running daemon; None before its start and after its end."""
    engine = None if host is None else host.engine
    return engine if isinstance(engine, Node) else None


def is_ready(node: Node) -> bool:
    """Whether clients are served: the ring works and no state exchange holds them up."""
    stack = node.ring
    works = stack is None or (
        stack.membership.token_alive
        and stack.membership.state in {MembershipState.OP, MembershipState.GATHER}
    )
    return works and node.groups.state in {GroupsState.GOP, GroupsState.GTRANS}


def status(host: DaemonHost, node: Node, listed: int = DEFAULT_LISTED) -> dict[str, Json]:
    """Everything about a daemon.

    Args:
        host: the daemon.
        node: its engine.
        listed: how many groups and sessions to list, at most :data:`MOST_LISTED`.

    """
    now = time.monotonic()
    listed = max(0, min(listed, MOST_LISTED))
    me = node.me
    return {
        "version": txspread.__version__,
        "time": time.time(),
        "daemon": {
            "name": shown(me.name),
            "address": me.address,
            "port": me.port,
            "id": me.id,
            "pid": os.getpid(),
            "uptime": round(now - node.started_at, 3),
            "ready": is_ready(node),
            "internal_errors": node.faults + host.faults,
        },
        "configuration": _configuration(node),
        "ring": _ring(node),
        "counters": counters(host, node),
        "drops": {layer: dict(causes) for layer, causes in drops(node).items()},
        "membership_history": [_change(change) for change in node.history.changes],
        "sessions": _sessions(node, now, listed),
        "groups": _groups(node, listed),
        "process": process(),
    }


def _configuration(node: Node) -> Json:
    configuration = node.configuration
    timeouts: dict[str, float] = asdict(configuration.timeouts)
    return {
        "file": configuration.file_name,
        "hash": configuration.hash,
        "reloads": node.reloads,
        "wide_area": configuration.wide_area,
        "dangerous_monitor": configuration.dangerous_monitor,
        "timeouts": {**timeouts},
        "warnings": list(configuration.warnings),
    }


def membership_id(node: Node) -> MembershipId:
    """Id of the ring installed last; its time is -1 before the first."""
    changes = node.history.changes
    return changes[-1].membership_id if changes else MembershipId(node.me.id, -1)


def leader(node: Node) -> int:
    """Proc id of the leader of the ring installed last."""
    return node.me.id if node.ring is None else node.ring.membership.installed.leader


def _ring(node: Node) -> Json:
    members = node.membership
    ring_id = membership_id(node)
    first = leader(node)
    now = node.status(time.monotonic())

    def entry(daemon: Daemon) -> Json:
        return {
            "name": shown(daemon.name),
            "address": daemon.address,
            "port": daemon.port,
            "id": daemon.id,
            "member": daemon.id in members,
            "leader": daemon.id == first and daemon.id in members,
            "self": daemon.id == node.me.id,
        }

    return {
        "state": node.membership_state.name,
        "groups_state": node.groups.state.name,
        "membership_id": f"{format_address(ring_id.proc_id)} {ring_id.time}",
        "members": len(members),
        "configured": len(node.configuration.daemons),
        "accelerated": bool(now.accelerated_ring),
        "window": now.window,
        "personal_window": now.personal_window,
        "accelerated_window": now.accelerated_window,
        "aru": now.aru,
        "my_aru": now.my_aru,
        "highest_seq": now.highest_seq,
        "segments": [
            {
                "index": segment.index,
                "address": segment.address,
                "port": segment.port,
                "daemons": [entry(daemon) for daemon in segment.daemons],
            }
            for segment in node.configuration.segments
        ],
    }


def counters(host: DaemonHost, node: Node) -> dict[str, Json]:
    """What only grows since the start, apart from what was dropped."""
    sender = host.sender
    found: dict[str, Json] = {
        "messages_delivered": node.groups.messages_delivered,
        "datagrams_sent": 0 if sender is None else sender.datagrams,
        "send_calls": 0 if sender is None else sender.calls,
        "send_failures": 0 if sender is None else sum(sender.failures.values()),
    }
    stack = node.ring
    if stack is None:
        return found
    ring = stack.ring.counters.as_dict()
    found |= {name: ring[name] for name in RING_WORK}
    membership = stack.membership
    found |= {
        "membership_changes": membership.membership_changes,
        "token_losses": membership.token_losses,
        "late_tokens": stack.late_tokens,
        "packets_rebroadcast": stack.routing.rebroadcast,
    }
    return found


RING_WORK: Final = (
    "packet_sent",
    "packet_recv",
    "packet_delivered",
    "u_retrans",
    "s_retrans",
    "b_retrans",
    "token_hurry",
    "tokens_accepted",
    "tokens_held",
    "tokens_lingered",
    "tokens_repeated",
    "hurries_sent",
    "requests_sent",
)
"""Counters of the ordering layer that tell of work; the others tell of what was dropped."""
_RING_DROPS: Final = (
    "foreign_packets",
    "duplicate_packets",
    "late_packets",
    "far_packets",
    "stranger_packets",
    "malformed_packets",
    "sequence_errors",
    "malformed_tokens",
    "foreign_hash_tokens",
    "dead_tokens",
    "foreign_tokens",
    "stale_tokens",
    "rollover_tokens",
    "impossible_tokens",
    "illegal_requests",
    "refused_messages",
    "recoveries_abandoned",
    "invariant_breaches",
)


def drops(node: Node) -> Mapping[str, Mapping[str, int]]:
    """What came to nothing, by layer and cause."""
    stack = node.ring
    network = {cause.name.lower(): count for cause, count in node.routing.drops.items()}
    network["unsendable"] = node.routing.unsendable
    if stack is None:
        return {"network": network}
    ring = stack.ring.counters
    return {
        "network": network,
        "membership": {
            cause.name.lower(): count for cause, count in stack.membership.drops.items()
        },
        "ring": {name: getattr(ring, name) for name in _RING_DROPS},
    }


def _change(change: MembershipChange) -> Json:
    return {
        "time": change.time,
        "membership_id": (
            f"{format_address(change.membership_id.proc_id)} {change.membership_id.time}"
        ),
        "members": [shown(name) for name in change.members],
        "lost": [shown(name) for name in change.lost],
        "gained": [shown(name) for name in change.gained],
        "cause": change.cause,
        "seconds": round(change.seconds, 4),
        "attempts": change.attempts,
    }


def down_queue(node: Node) -> int:
    """Messages of clients that wait to be ordered."""
    return node.sessions.ordering.queued()


def longest_queue(sessions: list[Session]) -> int:
    """Messages that wait for the slowest client."""
    return max((len(session.output.queue) for session in sessions), default=0)


def _sessions(node: Node, now: float, listed: int) -> Json:
    sessions = node.sessions.sessions()
    slowest = sorted(sessions, key=lambda one: one.output.size, reverse=True)
    return {
        "count": len(sessions),
        "served": node.sessions.serving,
        "limit": node.configuration.max_session_messages,
        "waiting_to_be_ordered": down_queue(node),
        "longest_queue": longest_queue(sessions),
        "listed": min(listed, len(sessions)),
        "list": [
            {
                "name": text(session.private_group or session.name),
                "state": session.state.value,
                "address": format_address(session.peer.address)
                if session.peer.address
                else "local",
                "membership": session.wants_membership,
                "queued_messages": session.output.frames,
                "queued_bytes": session.output.size,
            }
            for session in slowest[:listed]
        ],
    }


def _groups(node: Node, listed: int) -> Json:
    entries: list[Json] = []
    own = b"#" + node.me.name_bytes
    for name in islice(node.groups.group_names(), listed):
        members = node.groups.members(name)
        entries.append(
            {
                "name": text(name),
                "members": len(members),
                "here": sum(member.endswith(own) for member in members),
                "some": [text(member) for member in members[:SOME_MEMBERS]],
            }
        )
    return {"count": node.groups.count, "listed": len(entries), "list": entries}


def process() -> dict[str, Json]:
    """CPU seconds and memory of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_user": usage.ru_utime,
        "cpu_system": usage.ru_stime,
        "memory": resident_bytes(usage.ru_maxrss),
        "involuntary_switches": usage.ru_nivcsw,
    }


def resident_bytes(peak: int) -> int:
    """Resident memory in bytes; ``peak`` (``ru_maxrss``) where the system tells no more."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return peak * (1 if sys.platform == "darwin" else 1024)
