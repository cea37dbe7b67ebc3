"""What a trace says, in a page of text."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from txspread.observe.trace_reader import Record, Run

_MOST_GAPS = 5


def clock(moment: float) -> str:
    """A time of day with milliseconds, local time."""
    return time.strftime("%H:%M:%S", time.localtime(moment)) + f".{int(moment % 1 * 1000):03d}"


def summarise(runs: Sequence[Run]) -> str:
    """Describe each run: how long, what was exchanged, which memberships, which pauses."""
    return "\n\n".join("\n".join(_run(run)) for run in runs)


def _run(run: Run) -> Iterator[str]:
    records = run.records
    first, last = records[0]["time"], records[-1]["time"]
    end = "stopped" if run.stopped else "trace full" if run.cut else "ends without a word"
    day = time.strftime("%Y-%m-%d", time.localtime(first))
    yield (
        f"{run.daemon} ({run.id}), {day} {clock(first)} to {clock(last)}, "
        f"{last - first:.3f} s, {len(records)} records; {end}"
    )
    for kind in ("received", "sent"):
        yield f"  {kind}: {_counts(record.get('what') for record in _of(records, kind))}"
    for kind in ("submitted", "message"):
        word = "delivered" if kind == "message" else kind
        yield f"  {word}: {_counts(record.get('what') for record in _of(records, kind))}"
    tokens = [r["time"] for r in _of(records, "received") if r.get("what") == "token"]
    if len(tokens) > 1:
        gaps = sorted(((b - a, a) for a, b in pairwise(tokens)), reverse=True)
        middle = gaps[len(gaps) // 2][0]
        longest = ", ".join(
            f"{gap * 1000:.1f} ms from {clock(at)}" for gap, at in gaps[:_MOST_GAPS]
        )
        yield f"  tokens: {middle * 1000:.2f} ms apart in the middle; longest: {longest}"
    resent = sum(1 for r in _of(records, "received") if r.get("retrans"))
    asked = sum(r.get("requests", 0) for r in _of(records, "sent") if r.get("what") == "token")
    if resent or asked:
        yield f"  tokens sent again to it: {resent}; requests on tokens it sent: {asked}"
    unreadable = [r for r in _of(records, "received") if r.get("what") == "unreadable"]
    if unreadable:
        yield f"  unreadable: {_counts(record.get('why') for record in unreadable)}"
    names = run.names
    yield "  memberships:"
    began = first
    for record in records:
        if record["kind"] == "state" and record["before"] == "OP":
            began = record["time"]
        elif record["kind"] == "regular":
            members = ", ".join(names.get(member, member) for member in record["members"])
            yield (
                f"    {clock(record['time'])} {record['ring']}: {members} "
                f"({(record['time'] - began) * 1000:.0f} ms after {clock(began)})"
            )
    faults = [record for record in records if record["kind"] == "fault"]
    if faults:
        yield f"  INTERNAL ERRORS: {faults[-1]['count']}, the first at {clock(faults[0]['time'])}"


def _of(records: Sequence[Record], kind: str) -> Iterator[Record]:
    return (record for record in records if record["kind"] == kind)


def _counts(words: Iterator[str | None]) -> str:
    counts = Counter(word or "?" for word in words)
    return ", ".join(f"{count} {word}" for word, count in counts.most_common()) or "nothing"
