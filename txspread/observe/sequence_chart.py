"""A message sequence chart of a span of a trace, as SVG.

One lane for each daemon, time going down.  A datagram that was sent by one daemon of
the trace and received by another is an arrow between their lanes; one that only one of
the two has in its trace (the other has none, or it was lost) is a short arrow.  A lane
is coloured by the state of the membership machine; memberships are bars with their
members, deliveries are dots at the side.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from attrs import frozen

from txspread.observe.trace_reader import Record, Run
from txspread.observe.trace_summary import clock

MOST_ARROWS: Final = 2000
_LANE: Final = 230
_TOP: Final = 76
_LEFT: Final = 120
_LEAST_STEP: Final = 15.0
"""Pixels between two labels of a lane."""
_NOT_PART: Final = frozenset({"kind", "time", "channel", "to", "port"})
_STATES: Final = {
    "OP": "#bfe5cf",
    "SEG": "#f9d9a6",
    "REPRESENTED": "#f6e3a1",
    "GATHER": "#fbe9c4",
    "FORM": "#f6c2b0",
    "EVS": "#d5c5f0",
}
_COLORS: Final = {
    "data": "#2f6fde",
    "token": "#1f9d63",
    "hurry": "#12908e",
    "alive": "#8a6d3b",
    "join": "#d9730d",
    "refer": "#8a6d3b",
    "form1": "#c0392b",
    "form2": "#7a4fd0",
}
_OTHER: Final = "#66727f"


class EmptySpanError(Exception):
    """Nothing was traced in the span."""


@frozen
class Arrow:
    """One datagram."""

    label: str
    what: str
    sent: tuple[int, float] | None
    """Lane and time; None where that end is not in the trace."""
    received: tuple[int, float] | None


def draw(runs: Sequence[Run], begin: float, end: float, kinds: frozenset[str] | None = None) -> str:
    """The chart of what happened from ``begin`` to ``end``, seconds since the epoch.

    Args:
        runs: several runs of one daemon share its lane.
        begin: start of the span.
        end: its end.
        kinds: datagrams to draw, by what they are; None draws all.

    Raises:
        EmptySpanError: nothing was traced then.

    """
    present = {run.id for run in runs}
    order = [daemon["id"] for run in runs for daemon in run.start["daemons"]]
    lanes = [daemon for daemon in dict.fromkeys(order) if daemon in present]
    names = {run.id: run.daemon for run in runs}
    inside = [
        (lanes.index(run.id), record)
        for run in runs
        for record in run.records
        if begin <= record["time"] <= end
    ]
    if not inside:
        raise EmptySpanError
    inside.sort(key=lambda item: float(item[1]["time"]))
    arrows = [arrow for arrow in match(inside, lanes) if kinds is None or arrow.what in kinds]
    hidden = max(0, len(arrows) - MOST_ARROWS)
    arrows = arrows[:MOST_ARROWS]
    scale = _Scale(
        sorted(
            {end_[1] for arrow in arrows for end_ in (arrow.sent, arrow.received) if end_}
            | {record["time"] for _, record in inside if record["kind"] in _MARKED}
        )
    )
    width = _LEFT + _LANE * len(lanes) + 60
    height = _TOP + scale.height + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:.0f}" '
        f'viewBox="0 0 {width} {height:.0f}" '
        'font-family="system-ui, Helvetica, Arial, sans-serif" font-size="11">',
        "<style>text { paint-order: stroke; stroke: #fff; stroke-width: 3px; }</style>",
        "<defs>",
        *(
            f'<marker id="m{number}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 1 8 4 0 7z" fill="{color}"/></marker>'
            for number, color in enumerate((*_COLORS.values(), _OTHER))
        ),
        "</defs>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="12" y="20" font-size="14" font-weight="600">{clock(inside[0][1]["time"])} to '
        f"{clock(inside[-1][1]['time'])}</text>",
    ]
    if hidden:
        parts.append(f'<text x="12" y="38" fill="#c0392b">{hidden} more datagrams not drawn</text>')
    parts += _draw_times(scale, width)
    for number, lane in enumerate(lanes):
        parts += _draw_lane(number, names[lane], lane, runs, scale)
    parts += [text for arrow in arrows for text in _draw_arrow(arrow, scale, len(lanes))]
    parts += [
        text for number, record in inside for text in _draw_mark(number, record, scale, names)
    ]
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def match(inside: Sequence[tuple[int, Record]], lanes: Sequence[str]) -> Iterator[Arrow]:
    """Bring both ends of each datagram together, in order of time.

    Ends belong together if they say the same and the receiver is the addressee, or
    anybody where the address is a broadcast; copies are matched in their order.
    """
    waiting: dict[str, deque[tuple[int, float, Record, list[int]]]] = defaultdict(deque)
    found: list[Arrow] = []
    for lane, record in inside:
        if record["kind"] == "sent":
            waiting[_content(record)].append((lane, record["time"], record, []))
    for lane, record in inside:
        if record["kind"] != "received":
            continue
        origin = None
        for candidate in waiting.get(_content(record), ()):
            sender, _moment, sent, takers = candidate
            broadcast = sent["to"] not in lanes
            if sender != lane and (sent["to"] == lanes[lane] or broadcast) and lane not in takers:
                takers.append(lane)
                origin = (sender, candidate[1])
                break
        found.append(Arrow(_label(record), record["what"], origin, (lane, record["time"])))
    for group in waiting.values():
        for sender, moment, record, takers in group:
            if not takers:
                found.append(Arrow(_label(record), record["what"], (sender, moment), None))
    found.sort(key=lambda arrow: min(end[1] for end in (arrow.sent, arrow.received) if end))
    return iter(found)


def _content(record: Record) -> str:
    return json.dumps(
        {
            key: value
            for key, value in record.items()
            # A segment's first member sends a ROUTED packet on as its own.
            if key not in _NOT_PART and key not in {"routed", "by"}
        },
        sort_keys=True,
    )


def _label(record: Record) -> str:
    what = str(record["what"])
    if what == "token":
        text = f"token {record['seq']} aru {record['aru']}"
        if record["requests"]:
            text += f" asks {record['requests']}"
        return text + (f" again {record['retrans']}" if record["retrans"] else "")
    if what == "data":
        return f"{record['service']} {record['seq']}"
    if what in {"form1", "form2"}:
        return f"{what}: {len(record['members'])} members"
    if what == "join":
        return f"join: {len(record['members'])} members"
    return what


class _Scale:
    """Places times on the page: true where there is room, stretched where it is crowded."""

    def __init__(self, moments: Sequence[float]) -> None:
        self._moments = list(moments)
        self._places: list[float] = []
        place = 0.0
        span = max(moments[-1] - moments[0], 1e-6) if moments else 1.0
        for number, moment in enumerate(moments):
            if number:
                gap = moment - moments[number - 1]
                # A step is at least a label high; long silences are cut short.
                place += max(_LEAST_STEP, min(80.0, gap / span * 600))
            self._places.append(place)
        self.height = place + 40

    @property
    def marks(self) -> Iterator[tuple[float, float]]:
        """Times with their places."""
        return zip(self._moments, self._places, strict=True)

    def place(self, moment: float) -> float:
        """Where a time is on the page."""
        moments, places = self._moments, self._places
        if not moments or moment <= moments[0]:
            return _TOP
        low, high = 0, len(moments) - 1
        if moment >= moments[high]:
            return _TOP + places[high] + (8 if moment > moments[high] else 0)
        while high - low > 1:
            middle = (low + high) // 2
            if moments[middle] <= moment:
                low = middle
            else:
                high = middle
        part = (moment - moments[low]) / max(moments[high] - moments[low], 1e-9)
        return _TOP + places[low] + part * (places[high] - places[low])


_MARKED: Final = frozenset({"regular", "transitional", "state", "start", "stopped", "fault"})


def _x(lane: int) -> int:
    return _LEFT + _LANE * lane + 60


def _draw_times(scale: _Scale, width: int) -> Iterator[str]:
    last = -100.0
    for moment, place in scale.marks:
        if place - last >= 45:
            last = place
            y = _TOP + place
            yield (
                f'<line x1="92" x2="{width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#eef0f2"/>'
                f'<text x="8" y="{y + 4:.1f}" fill="{_OTHER}">{clock(moment)}</text>'
            )


def _draw_lane(
    number: int, name: str, lane: str, runs: Sequence[Run], scale: _Scale
) -> Iterator[str]:
    x = _x(number)
    bottom = _TOP + scale.height
    yield (
        f'<text x="{x}" y="50" text-anchor="middle" font-size="13" font-weight="600">'
        f"{escape(name)}</text>"
        f'<text x="{x}" y="65" text-anchor="middle" fill="{_OTHER}">{escape(lane)}</text>'
    )
    for run in runs:
        if run.id != lane:
            continue
        state, since = "OP", run.records[0]["time"]
        spans = []
        for record in run.records:
            if record["kind"] == "state":
                spans.append((since, record["time"], state))
                state, since = str(record["after"]), record["time"]
        spans.append((since, run.records[-1]["time"], state))
        for begin, end, state in spans:
            top, low = scale.place(begin), scale.place(end)
            if low > top:
                yield (
                    f'<rect x="{x - 6}" y="{top:.1f}" width="12" height="{low - top:.1f}" '
                    f'fill="{_STATES.get(state, "#dddddd")}"><title>{escape(state)}</title></rect>'
                )
    yield (
        f'<line x1="{x}" x2="{x}" y1="{_TOP}" y2="{bottom:.1f}" stroke="{_OTHER}" '
        'stroke-width=".6"/>'
    )


def _draw_arrow(arrow: Arrow, scale: _Scale, lanes: int) -> Iterator[str]:
    color = _COLORS.get(arrow.what, _OTHER)
    marker = list(_COLORS).index(arrow.what) if arrow.what in _COLORS else len(_COLORS)
    lost = ""
    if arrow.sent is not None and arrow.received is not None:
        x1, y1 = _x(arrow.sent[0]), scale.place(arrow.sent[1])
        x2, y2 = _x(arrow.received[0]), scale.place(arrow.received[1])
        if arrow.sent[0] == arrow.received[0]:
            x1 = x2 - 50
    elif arrow.sent is not None:
        x1, y1 = _x(arrow.sent[0]), scale.place(arrow.sent[1])
        x2, y2 = x1 + (70 if arrow.sent[0] < lanes - 1 else -70), y1 + 4
        lost = ' stroke-dasharray="3 3"'
    else:
        assert arrow.received is not None
        x2, y2 = _x(arrow.received[0]), scale.place(arrow.received[1])
        x1, y1 = x2 - 70, y2 - 4
        lost = ' stroke-dasharray="3 3"'
    side = 1 if x2 > x1 else -1
    tx = x1 + side * 14
    ty = y1 + (y2 - y1) * 14 / max(abs(x2 - x1), 1) - 3
    yield (
        f'<line x1="{x1}" y1="{y1:.1f}" x2="{x2 - side * 3}" y2="{y2:.1f}" stroke="{color}" '
        f'stroke-width="1.3" marker-end="url(#m{marker})"{lost}/>'
        f'<text x="{tx}" y="{ty:.1f}" text-anchor="{"start" if side > 0 else "end"}" '
        f'fill="{color}" font-size="10">{escape(arrow.label)}</text>'
    )


def _draw_mark(lane: int, record: Record, scale: _Scale, names: dict[str, str]) -> Iterator[str]:
    x, y = _x(lane), scale.place(record["time"])
    kind = record["kind"]
    if kind == "message":
        yield (
            f'<circle cx="{x + 10}" cy="{y:.1f}" r="2.6" fill="#1d2733"><title>'
            f"{escape(str(record.get('what')))} from {escape(str(record.get('sender')))}"
            "</title></circle>"
        )
    elif kind in {"regular", "transitional"}:
        members = " ".join(names.get(member, member) for member in record["members"])
        color = "#1f9d63" if kind == "regular" else "#d98a0b"
        text = escape(f"{kind} {record['ring'].partition('/')[2]}: {members}")
        yield (
            f'<rect x="{x - 9}" y="{y - 3:.1f}" width="18" height="6" fill="{color}"/>'
            f'<text x="{x + 14}" y="{y + 4:.1f}" font-weight="600" '
            f'fill="{color}">{text}</text>'
        )
    elif kind == "state":
        yield (
            f'<text x="{x + 14}" y="{y + 11:.1f}" fill="#1d2733" font-style="italic" '
            f'font-size="10">{escape(str(record["after"]))}</text>'
        )
    elif kind in {"start", "stopped", "fault"}:
        yield (
            f'<circle cx="{x}" cy="{y:.1f}" r="5" fill="#c0392b"/>'
            f'<text x="{x + 14}" y="{y - 2:.1f}" fill="#c0392b" font-weight="600">{kind}</text>'
        )
