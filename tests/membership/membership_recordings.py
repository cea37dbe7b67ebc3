"""Recorded rings of upstream daemons, as membership machines are held against them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from attrs import frozen
from recorded import VECTORS

from txspread.config.model import Configuration
from txspread.config.parsing import parse
from txspread.wire.identifiers import ProcId


@frozen
class Recorded:
    """One datagram of a recording."""

    time: float
    kind: str
    data: bytes
    to: tuple[str, int]
    sender: ProcId
    fields: dict[str, Any]


@cache
def recording(name: str) -> dict[str, Any]:
    """The file of one recorded scenario."""
    loaded: dict[str, Any] = json.loads((VECTORS / "daemon" / f"{name}.json").read_text())
    return loaded


@cache
def configuration_in(name: str) -> Configuration:
    """What the daemons of a recording were configured with."""
    return parse(recording(name)["conf"])


@cache
def datagrams_in(name: str) -> tuple[Recorded, ...]:
    """All datagrams, in the order of capture."""
    result = []
    for entry in recording(name)["datagrams"]:
        address, port = entry["dst"].split(":")
        result.append(
            Recorded(
                time=entry["t"],
                kind=entry["kind"],
                data=bytes.fromhex(entry["hex"]),
                to=(address, int(port)),
                sender=entry["fields"]["header"]["transmiter_id"],
                fields=entry["fields"],
            )
        )
    return tuple(result)
