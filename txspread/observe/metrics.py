"""The daemon's counters as Prometheus metrics.

A scrape reads what the daemon counts anyway; nothing is done for a message.
:class:`DaemonCollector` is an ordinary collector of ``prometheus_client`` (the extra
``txspread[metrics]``), so a program with a daemon inside can register it with its own
registry; :func:`make_exposition` is behind ``/metrics``.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

import txspread
from txspread.daemon.host import DaemonHost
from txspread.engine.node import Node
from txspread.engine.ring_stack import RingStack
from txspread.observe import snapshot

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_RETRANSMISSIONS: Final = (
    ("daemon", "u_retrans"),
    ("segment", "s_retrans"),
    ("everybody", "b_retrans"),
)
_RING_COUNTERS: Final = (
    ("packets_sent", "packet_sent", "New packets made by this daemon"),
    ("packets_received", "packet_recv", "Packets of other daemons that were stored"),
    ("packets_delivered", "packet_delivered", "Packets handed up in order"),
    ("tokens", "tokens_accepted", "Tokens taken; the rate is that of the rotations"),
    ("tokens_held", "tokens_held", "Tokens the leader kept because the ring was idle"),
    ("tokens_lingered", "tokens_lingered", "Tokens that stayed for the only daemon that spoke"),
    ("tokens_hurried", "token_hurry", "Tokens that had to be sent again or were let go"),
    ("tokens_repeated", "tokens_repeated", "Tokens passed on again as a predecessor did"),
    ("retransmission_requests", "requests_sent", "Packets that this daemon asked for"),
)


class DaemonCollector(Collector):
    """Metrics of the daemon that ``find`` gives at the time of a scrape, if any."""

    def __init__(self, find: Callable[[], DaemonHost | None]) -> None:
        self._find = find

    def collect(self) -> Iterator[Metric]:
        """All families."""
        host = self._find()
        node = snapshot.running_node(host)
        yield _gauge("spread_up", "Whether the daemon runs", float(node is not None))
        if host is None or node is None:
            return
        yield InfoMetricFamily(
            "spread_daemon",
            "What runs",
            {
                "version": txspread.__version__,
                "name": snapshot.shown(node.me.name),
                "address": node.me.address,
                "configuration_hash": str(node.configuration.hash),
            },
        )
        yield from _daemon(host, node)
        yield from _clients(node)
        if node.ring is not None:
            yield from _ring(node.ring)
        yield _drops(node)
        yield from _process()


def make_exposition(find: Callable[[], DaemonHost | None]) -> Callable[[], bytes]:
    """Make a function that gives all families in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(DaemonCollector(find))
    return lambda: generate_latest(registry)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value)


def _daemon(host: DaemonHost, node: Node) -> Iterator[Metric]:
    yield _gauge(
        "spread_uptime_seconds", "Since the start", round(time.monotonic() - node.started_at, 3)
    )
    yield _gauge("spread_ready", "Whether clients are served", float(snapshot.is_ready(node)))
    yield _gauge(
        "spread_membership_state",
        "1 OP, 2 SEG, 3 REPRESENTED, 4 GATHER, 5 FORM, 6 EVS",
        node.membership_state.value,
    )
    yield _gauge(
        "spread_groups_state",
        "1 normal, 2 transitional, 3 gathering, 4 both",
        node.groups.state.value,
    )
    yield _gauge("spread_members", "Daemons in the ring", len(node.membership))
    yield _gauge(
        "spread_configured_daemons", "Daemons in the file", len(node.configuration.daemons)
    )
    yield _gauge(
        "spread_leader", "1 at the leader of the ring", float(snapshot.leader(node) == node.me.id)
    )
    changes = node.history.changes
    if changes:
        last = changes[-1]
        yield _gauge("spread_last_change_time_seconds", "Of the membership, epoch", last.time)
        yield _gauge("spread_last_change_seconds", "How long it took", last.seconds)
    yield _counter("spread_reloads", "Configurations taken over", node.reloads)
    yield _counter("spread_internal_errors", "Contained defects", node.faults + host.faults)
    sender = host.sender
    if sender is not None:
        yield _counter("spread_datagrams_sent", "Datagrams given to the kernel", sender.datagrams)
        yield _counter("spread_send_calls", "System calls made for them", sender.calls)
        yield _counter("spread_send_failures", "Datagrams given up", sum(sender.failures.values()))


def _clients(node: Node) -> Iterator[Metric]:
    sessions = node.sessions.sessions()
    yield _counter(
        "spread_messages_delivered",
        "Messages delivered in order, with receivers here or not",
        node.groups.messages_delivered,
    )
    yield _gauge("spread_sessions", "Clients of this daemon", len(sessions))
    yield _gauge("spread_groups", "Groups of the ring", node.groups.count)
    yield _gauge(
        "spread_queued_messages",
        "Clients' messages that wait for the token",
        snapshot.down_queue(node),
    )
    yield _gauge(
        "spread_longest_session_queue_messages",
        "Messages that wait for the slowest client",
        snapshot.longest_queue(sessions),
    )
    yield _gauge(
        "spread_session_queue_limit_messages",
        "MaxSessionMessages: a client with more is cut off",
        node.configuration.max_session_messages,
    )


def _ring(stack: RingStack) -> Iterator[Metric]:
    ring, membership = stack.ring, stack.membership
    counters = ring.counters
    for name, field, text in _RING_COUNTERS:
        yield _counter(f"spread_{name}", text, getattr(counters, field))
    resent = CounterMetricFamily("spread_retransmissions", "Packets sent again", labels=("to",))
    for to, field in _RETRANSMISSIONS:
        resent.add_metric((to,), getattr(counters, field))
    yield resent
    yield _counter("spread_membership_changes", "Rings installed", membership.membership_changes)
    yield _counter("spread_token_losses", "Tokens lost", membership.token_losses)
    yield _counter(
        "spread_late_tokens",
        "Tokens that came after three quarters of the timeout, or not at all",
        stack.late_tokens,
    )
    yield _gauge("spread_aru", "All members hold all packets up to this number", ring.aru)
    yield _gauge("spread_highest_sequence", "Highest packet number known", ring.highest_seq)
    yield _gauge("spread_window_packets", "Window of the ring", ring.flow.window)
    yield _gauge(
        "spread_personal_window_packets", "Window of this daemon", ring.flow.personal_window
    )


def _drops(node: Node) -> Metric:
    family = CounterMetricFamily(
        "spread_dropped",
        "What was received and came to nothing; causes that never occurred are left out",
        labels=("layer", "cause"),
    )
    for layer, causes in snapshot.drops(node).items():
        for cause, count in causes.items():
            if count:
                family.add_metric((layer, cause), count)
    return family


def _process() -> Iterator[Metric]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    yield _counter(
        "process_cpu_seconds", "User and system CPU time", usage.ru_utime + usage.ru_stime
    )
    yield _gauge(
        "process_resident_memory_bytes",
        "Resident memory",
        snapshot.resident_bytes(usage.ru_maxrss),
    )
