"""Reading the recorded vectors for the tests of this directory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from construct import Container, ListContainer
from recorded import VECTORS

from txspread.wire.dialect import SPREAD_4_3, SPREAD_4_4, SPREAD_5_0, Dialect

DIALECT_OF_FOLDER = {"daemon": SPREAD_4_4, "daemon-4.3": SPREAD_4_3, "daemon-5.0": SPREAD_5_0}


def files(*folders: str) -> list[Path]:
    """All vector files of some folders; never none."""
    found = [path for folder in folders for path in sorted((VECTORS / folder).glob("*.json"))]
    assert found
    return found


def load(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        loaded: dict[str, Any] = json.load(file)
    return loaded


def name_of(path: Path) -> str:
    """Test id of a vector file."""
    return f"{path.parent.name}/{path.stem}"


def datagrams(path: Path) -> Iterator[tuple[str, bytes, dict[str, Any], Dialect]]:
    """Kind, bytes, recorded fields and dialect of each datagram of a file."""
    dialect = DIALECT_OF_FOLDER[path.parent.name]
    for datagram in load(path)["datagrams"]:
        yield datagram["kind"], bytes.fromhex(datagram["hex"]), datagram["fields"], dialect


def plain(value: Any) -> Any:
    """A parsed container as dictionaries and lists, without what is not on the wire."""
    if isinstance(value, Container):
        return {key: plain(item) for key, item in value.items() if not key.startswith("_")}
    if isinstance(value, (list, ListContainer)):
        return [plain(item) for item in value]
    return value


def address(quad: str) -> int:
    """A dotted quad as the number that is on the wire."""
    a, b, c, d = (int(part) for part in quad.split("."))
    return a << 24 | b << 16 | c << 8 | d


def order_of(fields: dict[str, Any]) -> str:
    word = fields.get("endian") or fields["byte_order"]
    return {"little": "<", "big": ">"}[word]


def name_in(field: bytes) -> str:
    """A name field as the recordings write it."""
    return field.partition(b"\0")[0].decode("latin-1")
