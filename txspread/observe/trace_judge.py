"""Judges trace files by the properties of extended virtual synchrony.

The properties are those of :mod:`txspread.testing.checker`.  What a trace of real
programs lacks, compared with one of a test, and what is made of it:

* Messages have no names of their own.  A frame that was submitted once in all files
  is named by its digest.  Of frames that are equal, each delivery is named by the
  regular configuration it belongs to and how many of its kind came before it there.
* What clients received is not traced, so causal order is not judged; and a message
  that was on its way when a trace ended has not been lost.
* A member whose trace is not there, or ends too early, sends what nobody is seen to
  send, so "no creation" is judged only if all members have been traced to their end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from txspread.observe.trace_reader import Record, Run
from txspread.testing.checker import PROPERTIES, Breach
from txspread.testing.trace import (
    ClientHistory,
    Configuration,
    DaemonHistory,
    Delivery,
    MessageId,
    Sent,
    Trace,
)
from txspread.wire.constants import ServiceType
from txspread.wire.identifiers import MembershipId, ProcId

LIMIT = 5
"""Breaches of one property that are told."""
_NO_CREATION = "no creation"
_SERVICES = {
    "unreliable": ServiceType.UNRELIABLE_MESS,
    "reliable": ServiceType.RELIABLE_MESS,
    "fifo": ServiceType.FIFO_MESS,
    "causal": ServiceType.CAUSAL_MESS,
    "agreed": ServiceType.AGREED_MESS,
    "safe": ServiceType.SAFE_MESS,
}


def proc_id(address: str) -> ProcId:
    """The id of a daemon by its address."""
    number = 0
    for octet in address.split("."):
        number = number << 8 | int(octet)
    return number


def membership_id(text: str) -> MembershipId:
    """Read an id of a membership."""
    address, _, time = text.partition("/")
    return MembershipId(proc_id(address), int(time))


def judged(runs: Sequence[Run]) -> list[str]:
    """Names of the properties that these runs can be judged by."""
    traced = {run.id for run in runs}
    complete = all(run.stopped for run in runs) and all(
        traced.issuperset(record["members"])
        for run in runs
        for record in run.records
        if record["kind"] == "regular"
    )
    return [name for name in PROPERTIES if name != "causal" and (name != _NO_CREATION or complete)]


def judge(runs: Sequence[Run]) -> list[Breach]:
    """Every property that is broken, at most :data:`LIMIT` breaches of each."""
    trace = to_trace(runs)
    breaches: list[Breach] = []
    for name in judged(runs):
        found = _no_creation(runs) if name == _NO_CREATION else PROPERTIES[name](trace)
        breaches += [Breach(name, text) for text in islice(found, LIMIT)]
    return breaches


def _no_creation(runs: Sequence[Run]) -> Iterator[str]:
    """By digests: which of several equal frames one is cannot be told from outside."""
    known = {
        record["digest"] for run in runs for record in run.records if _is_data(record, "submitted")
    }
    for run in runs:
        for record in run.records:
            if _is_data(record, "message") and record["digest"] not in known:
                yield f"{run.daemon} delivered {record['digest']}, which nobody has sent"


def to_trace(runs: Sequence[Run]) -> Trace:
    """What the checker reads."""
    submitted = Counter(
        record["digest"] for run in runs for record in run.records if _is_data(record, "submitted")
    )
    trace = Trace()
    incarnations: Counter[str] = Counter()
    for run in runs:
        incarnations[run.id] += 1
        history, named = _history(run, incarnations[run.id], submitted)
        trace.daemons.append(history)
        trace.clients += _clients(run, named)
    return trace


def _is_data(record: Record, kind: str) -> bool:
    return record["kind"] == kind and record.get("what") in _SERVICES


def _history(
    run: Run, incarnation: int, submitted: Counter[str]
) -> tuple[DaemonHistory, dict[str, list[MessageId]]]:
    """What a daemon delivered, and the names it gives to each digest, in order."""
    me = proc_id(run.id)
    # A trace always ends before its daemon has delivered everything.
    history = DaemonHistory(me, incarnation, crashed=True)
    named: dict[str, list[MessageId]] = defaultdict(list)
    ring = f"{run.id}/-1"
    seen: Counter[str] = Counter()
    for record in run.records:
        kind = record["kind"]
        if kind in {"regular", "transitional"}:
            history.events.append(
                Configuration(
                    kind == "regular",
                    membership_id(record["ring"]),
                    tuple(proc_id(member) for member in record["members"]),
                )
            )
            if kind == "regular":
                ring = record["ring"]
                seen.clear()
        elif _is_data(record, "message"):
            digest = record["digest"]
            name = digest
            if submitted[digest] != 1:
                name = f"{digest}:{ring}:{seen[digest]}"
            seen[digest] += 1
            message = name.encode()
            named[digest].append(message)
            history.events.append(Delivery(message, int(_SERVICES[record["what"]])))
    return history, named


def _clients(run: Run, named: dict[str, list[MessageId]]) -> Iterable[ClientHistory]:
    """What each client of a daemon sent, as far as its daemon has delivered it.

    A daemon delivers what its clients send, in their order; so the n-th of equal
    frames that it was given is the n-th that it delivered.
    """
    clients: dict[str, ClientHistory] = {}
    taken: Counter[str] = Counter()
    for record in run.records:
        if not _is_data(record, "submitted"):
            continue
        digest = record["digest"]
        number = taken[digest]
        taken[digest] += 1
        if number >= len(named[digest]):
            continue
        sender = record["sender"]
        client = clients.get(sender)
        if client is None:
            client = clients[sender] = ClientHistory(sender.encode(), proc_id(run.id), alive=False)
        client.sent.append(
            Sent(
                named[digest][number],
                int(_SERVICES[record["what"]]),
                tuple(group.encode() for group in record["groups"]),
                0,
            )
        )
    return clients.values()
