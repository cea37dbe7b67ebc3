"""The plots of the page, each an SVG that stands in the page itself.

Takes documents of ``bench.document``: lines with medians, spreads and rounds.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#66ccee", "#bbbb44")
"""Told apart by colour-blind eyes as well (Paul Tol's bright scheme)."""
_MARKERS = ("o", "s", "^", "D", "v", "P")
_PANEL = (3.8, 3.0)
"""Inches of one plot."""
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: smaller, and it can be searched
    "font.size": 9.0,
    "axes.grid": True,
    "grid.alpha": 0.35,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
}

Line = Mapping[str, Any]
"""A workload or storm of a document."""


def _svg(panels: Sequence[Callable[[Axes], None]], name: str) -> str:
    """Draw panels, each a picture of its own, so that a narrow window can break the line."""
    found = []
    for number, panel in enumerate(panels):
        # Ids within a picture are made of the salt: no two pictures share one.
        with mpl.rc_context({**_STYLE, "svg.hashsalt": f"{name} {number}"}):
            figure = Figure(figsize=_PANEL)
            # Fixed margins: finding the best ones takes longer than drawing.
            figure.subplots_adjust(left=0.15, right=0.97, top=0.9, bottom=0.2)
            panel(figure.add_subplot())
            output = io.StringIO()
            figure.savefig(output, format="svg", metadata={"Date": None, "Creator": None})
        text = output.getvalue()
        found.append(text[text.index("<svg") :])
    return "\n".join(found)


def _style(kinds: Sequence[str], kind: str) -> dict[str, Any]:
    number = kinds.index(kind)
    return {
        "color": _COLOURS[number % len(_COLOURS)],
        "marker": _MARKERS[number % len(_MARKERS)],
        "markersize": 4,
        "linewidth": 1.4,
    }


def _short(value: float, _: object = None) -> str:
    for size, least, letter in ((1e6, 1e6, "M"), (1e3, 1e4, "k")):
        if abs(value) >= least:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"


def _scales(axes: Axes, ticks: Sequence[int], what: str) -> None:
    """Lay out the axes: logarithmic, x with a tick for each value that was measured."""
    axes.set_xscale("log")
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelrotation=45 if len(ticks) > 4 else 0)
    axes.set_xlabel(what)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_short))


def _points(
    lines: Sequence[Line], kind: str, x: str, metric: str, part: str = "median"
) -> list[tuple[int, float, Line]]:
    found = []
    for line in lines:
        values = line["kinds"].get(kind, {}).get(part, {})
        if values.get(metric):
            found.append((line[x], values[metric], line))
    return sorted(found, key=lambda point: point[0])


def _has(lines: Sequence[Line], kinds: Sequence[str], x: str, metric: str) -> bool:
    return any(_points(lines, kind, x, metric) for kind in kinds)


def _curves(
    lines: Sequence[Line],
    kinds: Sequence[str],
    x: str,
    metrics: Mapping[str, str],
    title: str,
    what: str,
) -> Callable[[Axes], None]:
    """Medians of one or two metrics for each kind, bars from the least to the greatest round."""

    def draw(axes: Axes) -> None:
        ticks: set[int] = set()
        for kind in kinds:
            for (metric, label), dashes in zip(metrics.items(), ("-", "--"), strict=False):
                points = _points(lines, kind, x, metric)
                if not points:
                    continue
                ticks.update(point[0] for point in points)
                least, most = [], []
                for _, middle, line in points:
                    rounds = [one[metric] for one in line["kinds"][kind]["rounds"] if one[metric]]
                    least.append(middle - min(rounds, default=middle))
                    most.append(max(rounds, default=middle) - middle)
                axes.errorbar(
                    [point[0] for point in points],
                    [point[1] for point in points],
                    yerr=[least, most],
                    linestyle=dashes,
                    capsize=2,
                    label=f"{kind} {label}".strip(),
                    **_style(kinds, kind),
                )
        _scales(axes, sorted(ticks), what)
        axes.set_title(title)
        if ticks:
            axes.legend()

    return draw


def _ratios(
    lines: Sequence[Line], kinds: Sequence[str], base: str, x: str, what: str
) -> Callable[[Axes], None]:
    """Ratio of messages or changes a second to those of the base."""

    def draw(axes: Axes) -> None:
        ticks: set[int] = set()
        for kind in kinds:
            points = [] if kind == base else _points(lines, kind, x, "rate", "ratio")
            if not points:
                continue
            ticks.update(point[0] for point in points)
            where, values = [point[0] for point in points], [point[1] for point in points]
            axes.plot(where, values, label=f"{kind} / {base}", **_style(kinds, kind))
            for place, value in zip(where, values, strict=True):
                axes.annotate(
                    f"{value:.2f}",
                    (place, value),
                    textcoords="offset points",
                    xytext=(0, 6),
                    ha="center",
                    fontsize=7,
                )
        axes.axhline(1, color="#555555", linewidth=1, linestyle=":")
        _scales(axes, sorted(ticks), what)
        axes.margins(x=0.1, y=0.25)
        axes.set_title("rate, ratio")
        if ticks:
            axes.legend()

    return draw


def workload_plots(lines: Sequence[Line], kinds: Sequence[str], base: str, name: str) -> str:
    """Plots by body size for workloads that differ in nothing else."""
    x, what = "body", "bytes of body"
    panels = []
    if _has(lines, kinds, x, "rate"):
        panels.append(_curves(lines, kinds, x, {"rate": ""}, "messages a second", what))
        if len(kinds) > 1:
            panels.append(_ratios(lines, kinds, base, x, what))
    if _has(lines, kinds, x, "cpu"):
        title = "CPU µs for each delivered message"
        panels.append(_curves(lines, kinds, x, {"cpu": ""}, title, what))
    for names, title in (
        ({"p50": "p50", "p99": "p99"}, "latency, idle, µs"),
        ({"half_p50": "p50", "half_p99": "p99"}, "latency, at half of the peak, µs"),
    ):
        if any(_has(lines, kinds, x, metric) for metric in names):
            panels.append(_curves(lines, kinds, x, names, title, what))
    return _svg(panels, name) if panels else ""


def storm_plots(lines: Sequence[Line], kinds: Sequence[str], base: str, name: str) -> str:
    """Plots by number of groups for the storms of one ring."""
    x, what = "groups", "groups"
    panels = [_curves(lines, kinds, x, {"rate": ""}, "joins and leaves a second", what)]
    if len(kinds) > 1:
        panels.append(_ratios(lines, kinds, base, x, what))
    if _has(lines, kinds, x, "cpu"):
        panels.append(_curves(lines, kinds, x, {"cpu": ""}, "CPU µs for each change", what))
    return _svg(panels, name)


def detection_plots(found: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> str:
    """For each set of timeouts: milliseconds from the kill, all clients as points."""

    def panel(timeouts: str) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            sizes = sorted({one["daemons"] for one in found if one["timeouts"] == timeouts})
            for number, kind in enumerate(kinds):
                shift = (number - (len(kinds) - 1) / 2) * 0.18
                points = [
                    (sizes.index(one["daemons"]) + shift, 1000 * value)
                    for one in found
                    if one["kind"] == kind and one["timeouts"] == timeouts
                    for value in one["seconds"]
                ]
                style = _style(kinds, kind) | {"linestyle": "none", "alpha": 0.6}
                axes.plot(*zip(*points, strict=True), label=kind, **style) if points else None
            axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
            axes.set_xlabel("daemons")
            axes.set_ylim(bottom=0)
            axes.set_title(f"ms until clients know, {timeouts} timeouts")
            axes.legend()

        return draw

    names = list(dict.fromkeys(one["timeouts"] for one in found))
    return _svg([panel(timeouts) for timeouts in names], "detection")


def soak_plot(found: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> str:
    """Resident memory of every daemon over time, one panel for each kind."""

    def panel(one: Mapping[str, Any]) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            style = _style(kinds, one["kind"]) | {"marker": "", "linewidth": 1}
            minutes = [when / 60 for when in one["times"]]
            for values, dashes in zip(one["resident"], ("-", "--", ":"), strict=False):
                axes.plot(minutes, [value / 1024 for value in values], dashes, **style)
            axes.set_xlabel("minutes")
            axes.set_ylim(bottom=0)
            axes.set_title(f"{one['kind']}: resident memory, MiB")

        return draw

    return _svg([panel(one) for one in found], "soak")
