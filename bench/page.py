"""One page of everything: ``python -m bench.page RESULT.json... -o page.html``.

The page needs no network and no scripts: plots are SVG in the page.  It is made of
what ``python -m bench --json`` has written, of several runs as well, or by
``python -m bench --html`` right after the run.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.document import read_json

_TEMPLATE = "page.html.j2"
_COLUMNS = (
    ("rate", "messages or changes/s", 0),
    ("megabytes", "MB/s", 1),
    ("cpu", "CPU µs each", 2),
    ("p50", "p50 µs", 0),
    ("p99", "p99 µs", 0),
    ("half_p50", "p50 µs, half load", 0),
    ("half_p99", "p99 µs, half load", 0),
    ("daemon_busy", "daemons, of a core", 0),
    ("generator_busy", "busiest generator", 0),
)
_MEMORY = (
    ("base", "after the start", 0),
    ("session", "for each idle session", 2),
    ("member", "for each member of one group", 3),
    ("group", "for each group with one member", 3),
    ("again", "more when all sessions have gone and come again, in all", 0),
)


class PageError(Exception):
    """The page cannot be made."""


def check_library() -> None:
    """See that what draws the page is there.

    Raises:
        PageError: it is not.

    """
    missing = [name for name in ("jinja2", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise PageError(
            f"the page needs {' and '.join(missing)}: pip install -e '.[bench]', or leave out "
            "--html and make the page of the --json file elsewhere"
        )


def write_page(document: Mapping[str, Any], path: Path) -> None:
    """Write the page of a document.

    Raises:
        PageError: a library is missing.

    """
    path.write_text(render(document), encoding="utf-8")


def render(document: Mapping[str, Any]) -> str:
    """The text of the page.

    Raises:
        PageError: a library is missing.

    """
    check_library()
    import jinja2

    from bench import plots

    whole = {key: document.get(key, []) for key in ("workloads", "detection", "memory", "soak")}
    base, kinds = document["base"], _kinds(document)
    storms = [line for line in whole["workloads"] if "groups" in line]
    workloads = [line for line in whole["workloads"] if "groups" not in line]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True
    )
    return environment.get_template(_TEMPLATE).render(
        document={"failures": [], "versions": {}, **document, **whole},
        kinds=kinds,
        base=base,
        shapes=[
            {
                "name": name,
                "blocks": [
                    {
                        "title": title,
                        "svg": plots.workload_plots(block, kinds, base, f"{name} {title}"),
                    }
                    for title, block in _blocks(of_shape).items()
                ],
            }
            for name, of_shape in _by_shape(workloads).items()
        ],
        storms=[
            {"title": name, "svg": plots.storm_plots(lines, kinds, base, f"{name} storms")}
            for name, lines in _by_shape(storms).items()
        ],
        detections=detection_rows(whole["detection"], kinds),
        detection_svg=plots.detection_plots(whole["detection"], kinds)
        if whole["detection"]
        else "",
        memory=memory_medians(whole["memory"]),
        memory_rows=_MEMORY,
        soak=whole["soak"],
        soak_svg=plots.soak_plot(whole["soak"], kinds) if whole["soak"] else "",
        columns=_COLUMNS,
    )


def _kinds(document: Mapping[str, Any]) -> list[str]:
    """All kinds that occur, in the order of the run."""
    found = list(document.get("kinds", []))
    for line in document.get("workloads", []):
        found += line["kinds"]
    for part in ("detection", "memory", "soak"):
        found += [one["kind"] for one in document.get(part, [])]
    return list(dict.fromkeys(found))


def _by_shape(lines: Sequence[Any]) -> dict[str, list[Any]]:
    """Lines of each ring, rings by size."""
    found: dict[str, list[Any]] = {}
    for line in sorted(lines, key=lambda line: (line["daemons"], line["accelerated"])):
        name = f"{line['daemons']} daemon{'s'[: line['daemons'] > 1]}"
        found.setdefault(name + " accelerated" * line["accelerated"], []).append(line)
    return found


def _blocks(lines: Sequence[Any]) -> dict[str, list[Any]]:
    """Lines that differ in the body size only."""
    found: dict[str, list[Any]] = {}
    for line in lines:
        service = line["service"].removesuffix("_MESS")
        found.setdefault(f"{line['senders']}→{line['receivers']}, {service}", []).append(line)
    return found


def detection_rows(found: Sequence[Mapping[str, Any]], kinds: Sequence[str]) -> list[Any]:
    """Median and largest time in milliseconds for each ring, set of timeouts and kind."""
    rows = []
    for daemons, timeouts in dict.fromkeys((one["daemons"], one["timeouts"]) for one in found):
        for kind in kinds:
            values = [
                1000 * value
                for one in found
                if (one["daemons"], one["timeouts"], one["kind"]) == (daemons, timeouts, kind)
                for value in one["seconds"]
            ]
            if values:
                rows.append(
                    {
                        "daemons": daemons,
                        "timeouts": timeouts,
                        "kind": kind,
                        "median": statistics.median(values),
                        "largest": max(values),
                        "clients": len(values),
                    }
                )
    return rows


def memory_medians(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Medians over the rounds of each kind, KiB."""
    return {
        kind: {
            what: statistics.median(one[what] for one in found if one["kind"] == kind)
            for what, _, _ in _MEMORY
        }
        for kind in dict.fromkeys(one["kind"] for one in found)
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a page; 2 if that is not possible."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT.json")
    parser.add_argument("-o", "--output", type=Path, default=Path("bench.html"))
    options = parser.parse_args(arguments)
    try:
        write_page(read_json(options.results), options.output)
    except (PageError, OSError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
