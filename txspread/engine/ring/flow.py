"""Flow control: how many packets one visit of the token may make.

Rules:

* ``flow_control`` on the token is the sum over all members of what each put
  on the wire in its most recent visit, new packets and answered requests
  alike.  Each member adds its present contribution and takes back exactly its
  last one; an error would never heal within a membership.
* The quota of a visit is Window + PersonalWindow - flow_control (own last
  contribution included), between 0 and the smaller of the two windows.
* Nothing new is made in recovery, nor while the highest number is more than
  :data:`MAX_SEQ_GAP` above the safe line.

Source: ``docs/protocol/ring-ordering.md`` sections 6.5, 6.6, 7.1 and 10.
"""

from __future__ import annotations

from typing import Final

from txspread.config.model import Configuration

MAX_SEQ_GAP: Final = 1600
"""Packets by which the highest number may be ahead of the safe line."""
UNCHANGED: Final = -1
"""A monitor's value that leaves a window as it is."""


def _int16(value: int) -> int:
    return ((value + 0x8000) & 0xFFFF) - 0x8000


class FlowControl:
    """Windows in force and this daemon's last contribution to ``flow_control``."""

    __slots__ = (
        "accelerated",
        "accelerated_window",
        "last_num_retrans",
        "last_num_sent",
        "personal_window",
        "window",
    )

    def __init__(
        self, window: int, personal_window: int, accelerated_window: int, accelerated: bool
    ) -> None:
        self.window = window
        """Packets of one rotation, all members together."""
        self.personal_window = personal_window
        """Packets of one visit."""
        self.accelerated_window = accelerated_window
        """Packets of one visit that may follow the token."""
        self.accelerated = accelerated
        """Whether the accelerated ring is on."""
        self.last_num_sent = 0
        self.last_num_retrans = 0

    @classmethod
    def of(cls, configuration: Configuration) -> FlowControl:
        """Take the windows of a configuration; acceleration is off unless stated."""
        return cls(
            window=configuration.window,
            personal_window=configuration.personal_window,
            accelerated_window=configuration.accelerated_window,
            accelerated=bool(configuration.accelerated_ring),
        )

    def reload(self, configuration: Configuration) -> None:
        """Take the windows of a configuration that was read again.

        A reload makes the default of an unstated AcceleratedRing visible that
        was without effect at the start: on, unless the network is wide
        (``docs/protocol/ring-ordering.md`` section 7.1).
        """
        self.window = configuration.window
        self.personal_window = configuration.personal_window
        self.accelerated_window = configuration.accelerated_window
        stated = configuration.accelerated_ring
        self.accelerated = not configuration.wide_area if stated is None else stated

    def set_windows(
        self,
        window: int = UNCHANGED,
        personal_window: int = UNCHANGED,
        accelerated_window: int = UNCHANGED,
    ) -> None:
        """Set what a monitor's flow-control datagram says of this daemon; -1 changes nothing.

        As upstream does, any other value is taken; a window of 0 or less lets
        this daemon send nothing until it is raised again.
        """
        if window != UNCHANGED:
            self.window = window
        if personal_window != UNCHANGED:
            self.personal_window = personal_window
        if accelerated_window != UNCHANGED:
            self.accelerated_window = accelerated_window

    def quota(self, flow_control: int) -> int:
        """Packets that may be made in a visit of a token with this ``flow_control``."""
        allowed = self.window + self.personal_window - flow_control
        return max(0, min(allowed, self.window, self.personal_window))

    def contribute(self, flow_control: int, num_sent: int, num_retrans: int) -> int:
        """Exchange the last contribution for this visit's; returns the new ``flow_control``."""
        change = num_sent + num_retrans - self.last_num_sent - self.last_num_retrans
        self.last_num_sent = num_sent
        self.last_num_retrans = num_retrans
        return _int16(flow_control + change) if change else flow_control

    def reset(self) -> None:
        """Forget the last contribution: a new ring's token starts at 0."""
        self.last_num_sent = self.last_num_retrans = 0
