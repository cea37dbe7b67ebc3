"""Makes ``spread.json``, the Grafana dashboard: ``python tools/grafana/make.py``."""

from __future__ import annotations

import json
from pathlib import Path

SOURCE = {"type": "prometheus", "uid": "${source}"}
CHOSEN = '{job=~"$job"}'


def target(expression: str, legend: str) -> dict[str, object]:
    """One query."""
    return {"datasource": SOURCE, "expr": expression, "legendFormat": legend, "refId": legend[:8]}


def panel(
    title: str, unit: str, place: tuple[int, int, int, int], *queries: tuple[str, str]
) -> dict[str, object]:
    """Lines over time."""
    x, y, width, height = place
    return {
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": height},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"tooltip": {"mode": "multi"}, "legend": {"displayMode": "list"}},
        "targets": [target(expression, legend) for expression, legend in queries],
    }


def number(title: str, x: int, expression: str, unit: str = "none") -> dict[str, object]:
    """One number."""
    return {
        "type": "stat",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": 0, "w": 4, "h": 4},
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"},
        "targets": [target(expression, title)],
    }


def rate(name: str) -> str:
    """Per second, over a time that several scrapes fall into."""
    return f"rate({name}{CHOSEN}[$__rate_interval])"


PANELS = [
    number("Daemons up", 0, f"sum(spread_up{CHOSEN})"),
    number("Smallest ring", 4, f"min(spread_members{CHOSEN})"),
    number("Clients", 8, f"sum(spread_sessions{CHOSEN})"),
    number("Groups", 12, f"max(spread_groups{CHOSEN})"),
    number("Messages delivered", 16, f"max({rate('spread_messages_delivered_total')})", "cps"),
    number("Token rotation", 20, f"1 / max({rate('spread_tokens_total')})", "s"),
    panel(
        "Messages delivered", "cps", (0, 4, 12, 8),
        (rate("spread_messages_delivered_total"), "{{instance}}"),
    ),
    panel(
        "Packets", "pps", (12, 4, 12, 8),
        (rate("spread_packets_sent_total"), "sent {{instance}}"),
        (rate("spread_packets_received_total"), "received {{instance}}"),
    ),
    panel(
        "Packets sent again", "pps", (0, 12, 12, 8),
        (rate("spread_retransmissions_total"), "{{instance}} to {{to}}"),
    ),
    panel(
        "Token rotation", "s", (12, 12, 12, 8),
        (f"1 / {rate('spread_tokens_total')}", "{{instance}}"),
    ),
    panel(
        "Members of the ring", "none", (0, 20, 12, 8),
        (f"spread_members{CHOSEN}", "{{instance}}"),
        (f"max(spread_configured_daemons{CHOSEN})", "configured"),
    ),
    panel(
        "Membership changes and late tokens", "none", (12, 20, 12, 8),
        (f"increase(spread_membership_changes_total{CHOSEN}[5m])", "changes {{instance}}"),
        (f"increase(spread_late_tokens_total{CHOSEN}[5m])", "late {{instance}}"),
    ),
    panel(
        "Queues", "none", (0, 28, 12, 8),
        (f"spread_queued_messages{CHOSEN}", "to be ordered {{instance}}"),
        (f"spread_longest_session_queue_messages{CHOSEN}", "slowest client {{instance}}"),
    ),
    panel(
        "Dropped", "cps", (12, 28, 12, 8),
        (f"sum by (instance, layer, cause) ({rate('spread_dropped_total')})",
         "{{instance}} {{layer}} {{cause}}"),
    ),
    panel(
        "CPU", "percentunit", (0, 36, 12, 8), (rate("process_cpu_seconds_total"), "{{instance}}")
    ),
    panel(
        "Memory", "bytes", (12, 36, 12, 8),
        (f"process_resident_memory_bytes{CHOSEN}", "{{instance}}"),
    ),
]  # fmt: skip

DASHBOARD = {
    "title": "Spread",
    "uid": "txspread",
    "tags": ["spread"],
    "schemaVersion": 39,
    "version": 1,
    "editable": True,
    "refresh": "10s",
    "time": {"from": "now-30m", "to": "now"},
    "templating": {
        "list": [
            {"name": "source", "type": "datasource", "query": "prometheus", "label": "Source"},
            {
                "name": "job",
                "type": "query",
                "datasource": SOURCE,
                "query": "label_values(spread_up, job)",
                "refresh": 2,
                "includeAll": True,
                "multi": True,
                "current": {"text": "All", "value": "$__all"},
            },
        ]
    },
    "panels": [{"id": number, **one} for number, one in enumerate(PANELS, 1)],
}


def text() -> str:
    """The file."""
    return json.dumps(DASHBOARD, indent=2) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "spread.json").write_text(text(), encoding="utf-8")
