"""The Wireshark dissector, by tshark, on what upstream's programs have sent."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
from pathlib import Path

import pytest
from recorded import VECTORS

SCRIPT = Path(__file__).parents[2] / "tools" / "wireshark" / "spread.lua"
TSHARK = shutil.which("tshark")
PORT = 4803

pytestmark = pytest.mark.skipif(TSHARK is None, reason="needs tshark")


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(protocol: int, source: str, target: str, payload: bytes) -> bytes:
    head = struct.pack(
        ">BBHHHBBH4s4s",
        0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0,
        socket.inet_aton(source), socket.inet_aton(target),
    )  # fmt: skip
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def udp(source: tuple[str, int], target: tuple[str, int], payload: bytes) -> bytes:
    head = struct.pack(">HHHH", source[1], target[1], 8 + len(payload), 0)
    return ip(17, source[0], target[0], head + payload)


class TcpFlow:
    """The segments of one connection, each side's bytes in order."""

    def __init__(self, client_port: int):
        self.ports = {"c2d": (client_port, PORT), "d2c": (PORT, client_port)}
        self.numbers = {"c2d": 1000, "d2c": 5000}
        self.packets = []
        self._segment("c2d", b"", 2)
        self._segment("d2c", b"", 18)
        self._segment("c2d", b"", 16)

    def _segment(self, way: str, payload: bytes, flags: int) -> None:
        other = "d2c" if way == "c2d" else "c2d"
        source, target = self.ports[way]
        head = struct.pack(
            ">HHIIBBHHH",
            source, target, self.numbers[way], self.numbers[other], 0x50, flags, 65535, 0, 0,
        )  # fmt: skip
        self.packets.append(ip(6, "127.0.0.1", "127.0.0.1", head + payload))
        self.numbers[way] += len(payload) + (1 if flags & 2 else 0)

    def send(self, way: str, payload: bytes, pieces: int = 60000) -> None:
        for at in range(0, len(payload), pieces):
            self._segment(way, payload[at : at + pieces], 24)


def capture(path: Path, packets: list[bytes]) -> Path:
    """A pcap of raw IP."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 101))
        for number, packet in enumerate(packets):
            file.write(struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet)
    return path


def dissect(path: Path, fields: list[str], display: str = "") -> list[list[list[str]]]:
    """For each packet the values of each field."""
    command = [str(TSHARK), "-n", "-X", f"lua_script:{SCRIPT}", "-r", str(path), "-T", "fields"]
    command += ["-E", "separator=/t", "-E", "aggregator=~", "-E", "occurrence=a"]
    for field in fields:
        command += ["-e", field]
    if display:
        command += ["-Y", display]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    problems = done.stderr.decode().replace("Running as user", "")
    assert "Lua" not in problems, problems
    lines = done.stdout.decode("utf-8", "replace").split("\n")[:-1]
    return [[value.split("~") if value else [] for value in line.split("\t")] for line in lines]


def address(number: int) -> str:
    return socket.inet_ntoa(struct.pack(">I", number))


UDP_FIELDS = [
    "spreadd.kind",
    "spreadd.endian",
    "spreadd.transmiter_id",
    "spreadd.proc_id",
    "spreadd.memb_id.time",
    "spreadd.seq",
    "spreadd.conf_hash",
    "spreadd.member",
    "spreadd.rep",
    "spreadd.ring.commit",
    "spreadd.request.seq",
    "spreadd.fragment_len",
    "spread.sender",
    "_ws.malformed",
]


def test_datagrams_of_rings_are_taken_apart(tmp_path):
    recorded = [
        datagram
        for path in sorted((VECTORS / "daemon").glob("*.json"))
        for datagram in json.loads(path.read_text())["datagrams"]
    ]
    packets = []
    for datagram in recorded:
        source, target = (
            (host, int(port))
            for host, _, port in (datagram[end].rpartition(":") for end in ("src", "dst"))
        )
        packets.append(udp(source, target, bytes.fromhex(datagram["hex"])))
    found = dissect(capture(tmp_path / "c.pcap", packets), UDP_FIELDS)
    assert len(found) == len(recorded)
    for values, datagram in zip(found, recorded, strict=True):
        fields = datagram["fields"]
        header = fields["header"]
        (
            kind, endian, transmitter, proc, time, seq, conf_hash,
            members, reps, commits, asked, lengths, senders, malformed,
        ) = values  # fmt: skip
        assert kind == [datagram["kind"]]
        assert endian == [fields["endian"]]
        assert transmitter == [address(header["transmiter_id"])]
        assert proc == [address(header["proc_id"])]
        assert time == [str(header["memb_id"]["time"])]
        assert seq == [str(header["seq"])]
        assert conf_hash == [str(header["conf_hash"])]
        info = fields.get("members_info", {"members": []})
        assert members == [address(member) for member in info["members"]]
        info = fields.get("reps_info", {"reps": []})
        assert reps == [address(rep["proc_id"]) for rep in info["reps"]]
        rings = fields.get("rings", [])
        assert commits == [address(one) for ring in rings for one in ring["commit"]]
        requests = fields.get("rtr", [])
        assert asked == [str(number) for request in requests for number in request["seqs"]]
        fragments = fields.get("fragments", [])
        assert lengths == [str(fragment["fragment_len"]) for fragment in fragments]
        whole = [
            fragment["message"]["private_group_name"]
            for fragment in fragments
            if fragment["fragment_index"] == -1 and "message" in fragment
        ]
        assert senders == [name for name in whole if name] or senders == whole
        assert malformed == []


def conversations() -> list[Path]:
    found = []
    for path in sorted((VECTORS / "client").glob("*.json")):
        name = path.name
        if not name.startswith(("illegal", "handshake", "quirk", "unchecked", "auth", "other")):
            found.append(path)
    return found


@pytest.mark.parametrize("pieces", [60000, 7], ids=["whole", "pieces"])
def test_conversations_of_clients_are_taken_apart(pieces, tmp_path):
    checked = 0
    flows = {}
    expected = {"c2d": [], "d2c": []}
    for path in conversations():
        for event in json.loads(path.read_text())["events"]:
            # What an event calls bytes is not one message.
            if (
                event["what"].startswith("bytes")
                or event["dir"] not in expected
                or not event.get("hex")
            ):
                continue
            key = (path.name, event.get("conn"))
            flow = flows.setdefault(key, TcpFlow(20000 + len(flows)))
            data = bytes.fromhex(event["hex"])
            if pieces < 60000 and len(data) > 3000:
                break
            flow.send(event["dir"], data, pieces)
            fields = event.get("fields", {})
            if "private_group" in fields and "num_groups" in fields:
                expected[event["dir"]].append(
                    (
                        fields["private_group"],
                        str(fields["data_len"]),
                        int(fields["type"], 16),
                        tuple(fields["groups"]),
                    )
                )
                checked += 1
    assert checked > 100
    # One connection after the other, so that a frame's messages are in a known order.
    packets = [packet for flow in flows.values() for packet in flow.packets]
    path = capture(tmp_path / "c.pcap", packets)
    wanted = ["tcp.dstport", "spread.sender", "spread.data_len", "spread.type", "_ws.malformed"]
    found = {"c2d": [], "d2c": []}
    for port, senders, lengths, types, malformed in dissect(path, wanted, "spread"):
        assert malformed == []
        way = "c2d" if port == [str(PORT)] else "d2c"
        found[way] += list(zip(senders, lengths, [int(t, 16) for t in types], strict=True))
    for way, messages in expected.items():
        assert sorted(found[way]) == sorted(message[:3] for message in messages)


def test_a_handshake_is_told_in_words(tmp_path):
    flow = TcpFlow(30000)
    for event in json.loads((VECTORS / "client" / "connect-with-membership.json").read_text())[
        "events"
    ]:
        if event.get("hex"):
            flow.send(event["dir"], bytes.fromhex(event["hex"]))
    path = capture(tmp_path / "c.pcap", flow.packets)
    told = " ".join(value[0][0] for value in dissect(path, ["_ws.col.Info"], "spread"))
    for words in (
        "connect alice (4.4.0)",
        "methods NULL",
        "authenticate by NULL",
        "accepted",
        "you are #alice#d1",
        "JOIN #alice#d1 -> g",
        "CAUSED_BY_JOIN|REG_MEMB g (1 members)",
    ):
        assert words in told
    (values,) = [
        v for v in dissect(path, ["spread.vs_set.member"], "spread.type.reg_memb == 1") if v[0]
    ]
    assert values[0] == ["#alice#d1"]


def test_other_datagrams_are_left_alone(tmp_path):
    packets = [
        udp(("127.0.0.1", 5000), ("127.0.0.1", 4803), payload)
        for payload in (b"", b"x", bytes(39), bytes(41), b"\x80" + bytes(60), b"\xff" * 500)
    ]
    assert dissect(capture(tmp_path / "c.pcap", packets), ["frame.number"], "spreadd") == []


def test_cut_off_and_hostile_datagrams_give_no_error(tmp_path):
    packets = []
    for name in ("startup_three_segments", "retransmissions_two_segments", "packing_rules"):
        recorded = json.loads((VECTORS / "daemon" / f"{name}.json").read_text())["datagrams"]
        for datagram in recorded[:60]:
            data = bytearray.fromhex(datagram["hex"])
            for place in range(40, len(data), 7):
                hostile = bytearray(data)
                hostile[place : place + 4] = b"\xff\xff\xff\x7f"[: len(data) - place]
                packets.append(udp(("127.0.0.1", 1), ("127.0.0.1", 2), bytes(hostile)))
    found = dissect(capture(tmp_path / "c.pcap", packets), ["frame.number", "_ws.lua.error"], "")
    assert len(found) == len(packets)
    assert all(error == [] for _number, error in found)
