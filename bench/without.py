"""The daemon in plain Python with one of its steps towards speed taken away.

``-d 'one by one=without:trains'`` is a kind for :mod:`bench`: what a step gives on
today's code is the difference to a kind that has it.  The steps are replaced where
they are made, so this works only for sources that are not compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from txspread import form
from txspread.daemon import batch_send, command, datagrams, host, hub, process_options, service
from txspread.engine import ring_stack
from txspread.engine.ring import lingering
from txspread.wire.packet import cut_train


def _trains() -> None:
    """One system call for each datagram sent (no UDP GSO)."""
    _sender(trains=False)


def _connected() -> None:
    """One sending socket for all addresses."""
    _sender(open_socket=None)


def _sender(**changes: object) -> None:
    class Changed(batch_send.BatchSender):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, **changes})

    _replace(host, "BatchSender", Changed)


def _batches() -> None:
    """One system call for each datagram received (no recvmmsg, no UDP GRO)."""
    _replace(datagrams, "make_receiver", datagrams.SingleReceiver)


def _turns() -> None:
    """Every socket registered with the reactor, one turn for each event."""
    _replace(host, "make_hub", hub.ReactorHub)


def _loop() -> None:
    """Back to the reactor as soon as nothing is ready."""
    original = service.SpreadService

    class Changed(original):  # type: ignore[valid-type,misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "linger": False})

    _replace(command, "SpreadService", Changed)


def _runs() -> None:
    """Every packet examined by itself, those of trains included."""
    _replace(ring_stack.RingStack, "_usual", lambda _stack, _batch, start, _now: start)
    _replace(
        ring_stack.RingStack,
        "train",
        lambda stack, train, size, channel, now: stack.datagrams(
            cut_train(train, size), channel, now
        ),
    )


def _lingering() -> None:
    """The token goes on after each visit."""
    _replace(lingering.Lingering, "willing", lambda _lingering, _now: False)


def _held() -> None:
    """A leader's message waits for a rotation of the token that it keeps."""
    from txspread.engine.ring import token_visit

    def release(machine: token_visit.TokenMachine) -> bool:
        machine._held = False
        return kept(machine)

    kept = token_visit.TokenMachine._release
    _replace(token_visit.TokenMachine, "_release", release)


def _collector() -> None:
    """Python's own garbage collection, nothing frozen."""
    _replace(process_options, "apply_started", lambda _options: None)


STEPS: Final[dict[str, Callable[[], None]]] = {
    "trains": _trains,
    "connected": _connected,
    "batches": _batches,
    "turns": _turns,
    "loop": _loop,
    "runs": _runs,
    "lingering": _lingering,
    "held": _held,
    "collector": _collector,
}
"""What can be taken away, by name."""


def _replace(where: object, name: str, value: object) -> None:
    if not hasattr(where, name):
        raise AttributeError(f"{where} has no {name}: this step is made elsewhere now")
    setattr(where, name, value)


def main(arguments: list[str]) -> int:
    """Take the steps away that are named with commas in the first word; run the daemon.

    Raises:
        KeyError: there is no such step.
        RuntimeError: the compiled form cannot be changed.

    """
    if form.form() != "plain Python":
        raise RuntimeError("bench.without needs sources that are not compiled")
    for step in arguments[0].split(","):
        STEPS[step]()
    return command.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
