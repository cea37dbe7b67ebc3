"""The membership machine's log lines, word for word as scripts look for them.

Source: ``docs/protocol/membership.md`` section 11.
"""

from __future__ import annotations

from collections.abc import Collection

from txspread.config.model import Configuration
from txspread.engine.membership.identifiers import signed32
from txspread.wire.identifiers import MembershipId, ProcId


def membership_line(ring_id: MembershipId) -> str:
    """The line that announces a new ring; both halves as signed decimals."""
    return f"Membership id is ( {signed32(ring_id.proc_id)}, {ring_id.time})"


def membership_block(name: str, configuration: Configuration, members: Collection[ProcId]) -> str:
    """The block that follows it: the members of each segment of the file."""
    present = frozenset(members)
    lines = [
        "--------------------",
        f"Configuration at {name} is:",
        f"Num Segments {len(configuration.segments)}",
    ]
    for segment in configuration.segments:
        here = [daemon for daemon in segment.daemons if daemon.id in present]
        lines.append(f"\t{len(here)}\t{segment.address:<16}  {segment.port}")
        lines.extend(f"\t\t{daemon.name:<20}\t{daemon.address:<16}" for daemon in here)
    lines.append("====================")
    return "\n".join(lines) + "\n"
