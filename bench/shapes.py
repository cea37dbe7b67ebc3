"""What can be measured: rings, workloads of messages and storms, and what one gives."""

from __future__ import annotations

from attrs import define, field, frozen

from txspread.wire.constants import ServiceType

Address = tuple[str, int]
"""Host and port of a daemon."""


@frozen
class Shape:
    """A ring to start; workloads of one shape run on the same daemons."""

    daemons: int = 1
    accelerated: bool = False

    def __str__(self) -> str:
        return f"{self.daemons} daemon{'s'[: self.daemons > 1]}" + (
            " accelerated" if self.accelerated else ""
        )


@frozen
class Workload:
    """One line of the report: messages of one size."""

    shape: Shape
    body: int
    senders: int
    """In all, spread over the daemons."""
    receivers: int
    """For each daemon."""
    service: ServiceType = ServiceType.AGREED_MESS

    @property
    def name(self) -> str:
        """How it is printed and selected."""
        service = (self.service.name or "").removesuffix("_MESS")
        return f"{self.shape}, {self.senders}→{self.receivers}, {self.body} B, {service}"


@frozen
class Storm:
    """One line of the report: sessions at every daemon that join and leave groups."""

    shape: Shape
    groups: int

    @property
    def name(self) -> str:
        """How it is printed and selected."""
        return f"{self.shape}, storm, {self.groups} group{'s'[: self.groups > 1]}"


@define
class Result:
    """What one measurement gave; None where it was not taken."""

    rate: float | None = None
    """Messages a second at each receiver; of a storm, changes a second that all see."""
    megabytes: float | None = None
    """Bodies, 10^6 bytes a second at each receiver."""
    cpu: float | None = None
    """Microseconds of the daemons' CPU for each message at each receiver, or each change."""
    daemon_busy: float | None = None
    """Cores that the daemons of the cluster used, summed over them."""
    generator_busy: float | None = None
    """Share of one core that the busiest load generator used: at 1 it is the limit."""
    p50: float | None = None
    """Microseconds from writing to arrival, one message at a time."""
    p99: float | None = None
    half_p50: float | None = None
    """The same while others send at half of the slowest kind's peak."""
    half_p99: float | None = None
    samples: int = field(default=0)
    """Arrivals behind ``p50`` and ``p99``."""
    half_samples: int = field(default=0)
