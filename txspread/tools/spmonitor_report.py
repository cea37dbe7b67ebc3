"""A status report in upstream's words, and as a JSON object.

Source: ``docs/protocol/monitoring-and-tools.md`` sections 3.5 and 10.
"""

from __future__ import annotations

from typing import Final

from attrs import asdict, define

from txspread.config.model import Configuration
from txspread.wire.identifiers import ProcId, format_address
from txspread.wire.monitor import Status

STATES: Final = {
    1: "operational",
    2: "segment",
    3: "represented",
    4: "gather",
    5: "form",
    6: "recovery",
}
"""Membership states in words, by number."""
GROUP_STATES: Final = {1: "normal", 2: "transitional", 3: "gather", 4: "gather, transitional"}
"""States of the groups layer in words, by number."""

_EDGE: Final = "=" * 28
_END: Final = "=" * 34


def _signed(proc_id: ProcId) -> int:
    return proc_id - (1 << 32 if proc_id >= 1 << 31 else 0)


@define
class Reporter:
    """Prints reports; the differences are to the report before, whoever sent it."""

    _messages: int = 0
    _aru: int = 0
    _sec: int = 0

    def lines(self, status: Status, configuration: Configuration) -> str:
        """A report with its prompt, or the complaint about an unknown daemon."""
        daemon = configuration.by_id.get(status.my_id)
        if daemon is None:
            return f"\n{_EDGE}\nReport_message: Skiping illegal status \n{_END}\n"
        leader = configuration.by_id.get(status.leader_id)
        kind = "accelerated" if status.accelerated_ring else "regular"
        version = f"V{status.major_version:2d}.{status.minor_version:02d}.{status.patch_version:2d}"
        rows = (
            (("rounds   ", status.token_rounds), ("tok_hurry ", status.token_hurry),
             ("memb change", status.membership_changes)),
            (("sent pack", status.packet_sent), ("recv pack ", status.packet_recv),
             ("retrans    ", status.retrans)),
            (("u retrans", status.u_retrans), ("s retrans ", status.s_retrans),
             ("b retrans  ", status.b_retrans)),
            (("My_aru   ", status.my_aru), ("Aru       ", status.aru),
             ("Highest seq", status.highest_seq)),
            (("Sessions ", status.num_sessions), ("Groups    ", status.num_groups),
             ("Window     ", status.window)),
            (("Deliver M", status.message_delivered), ("Deliver Pk", status.packet_delivered),
             ("P/A Window ", status.personal_window)),
            (("Delta Mes", status.message_delivered - self._messages),
             ("Delta Pk  ", status.aru - self._aru), ("Delta sec  ", status.sec - self._sec)),
        )  # fmt: skip
        table = ["\t".join(f"{name}: {value:7d}" for name, value in row) for row in rows]
        table[5] += f"/{status.accelerated_window}"
        self._messages, self._aru, self._sec = status.message_delivered, status.aru, status.sec
        return (
            f"\n{_EDGE}\n"
            f"Status at {daemon.name} {version} (state {status.state}, gstate {status.gstate})"
            f" after {status.sec} seconds :\n"
            f"Membership  :  {status.num_procs}  procs in {status.num_segments} segments,"
            f" leader is {leader.name if leader else _signed(status.leader_id)}, {kind} protocol\n"
            + "".join(f"{line}\n" for line in table)
            + f"{_END}\n\nMonitor> "
        )


def status_object(
    name: str, address: str, status: Status | None, configuration: Configuration
) -> dict[str, object]:
    """One daemon's status for JSON: what was reported, and words for the numbers in it."""
    result: dict[str, object] = {
        "daemon": name,
        "address": address,
        "answered": status is not None,
    }
    if status is not None:
        leader = configuration.by_id.get(status.leader_id)
        reported = asdict(status)
        for key in ("my_id", "leader_id", "major_version", "minor_version", "patch_version"):
            del reported[key]
        result |= reported
        result |= {
            "state_name": STATES.get(status.state, "unknown"),
            "gstate_name": GROUP_STATES.get(status.gstate, "unknown"),
            "accelerated_ring": bool(status.accelerated_ring),
            "leader": leader.name if leader else None,
            "leader_address": format_address(status.leader_id) if status.leader_id else None,
            "version": f"{status.major_version}.{status.minor_version}.{status.patch_version}",
        }
    return result
