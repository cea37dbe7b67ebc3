"""Fragmentation and packing, by rule and by what upstream was seen to send."""

from __future__ import annotations

import json

import pytest
from recorded import VECTORS

from txspread.engine.interfaces import DownQueue
from txspread.engine.ring.packing import DownQueues
from txspread.wire.constants import PacketType
from txspread.wire.identifiers import MembershipId
from txspread.wire.message import packet_type_of
from txspread.wire.packet import Fragments, PacketHeader, encode_packet, read_fragments

RELIABLE, FIFO = PacketType.RELIABLE, PacketType.FIFO
AGREED, SAFE = PacketType.AGREED, PacketType.SAFE


def queue_of(*messages: tuple[int, int]) -> DownQueues:
    """Messages of (packet type, body bytes) to one group."""
    queues = DownQueues()
    for kind, size in messages:
        queues.normal.append((int(kind), bytes(80 + size)))
    return queues


def next_packets(queues: DownQueues, limit: int) -> list[tuple[int, Fragments]]:
    """(packet type, fragments) of the next packets, a whole message as a fragment, too."""
    return [
        (kind, [(-1, body)] if isinstance(body, bytes) else body)
        for kind, body in queues.make_packets(limit)
    ]


def shape(made: list[tuple[int, Fragments]]) -> list[tuple[int, list[tuple[int, int]]]]:
    return [(kind, [(index, len(data)) for index, data in parts]) for kind, parts in made]


def test_the_captured_example_of_all_services():
    queues = queue_of(
        (FIFO, 5000),
        (FIFO, 10),
        (AGREED, 33),
        (SAFE, 10),
        (SAFE, 21),
        (RELIABLE, 5),
        (RELIABLE, 7),
        (RELIABLE, 9),
        (AGREED, 11),
        (FIFO, 1352),
    )
    assert shape(next_packets(queues, 100)) == [
        (FIFO, [(1, 1432)]),
        (FIFO, [(2, 1432)]),
        (FIFO, [(3, 1432)]),
        (FIFO, [(-4, 784), (-1, 90), (-1, 113)]),
        (SAFE, [(-1, 90), (-1, 101)]),
        (RELIABLE, [(-1, 85), (-1, 87), (-1, 89)]),
        (AGREED, [(-1, 91)]),
        (FIFO, [(-1, 1432)]),
    ]
    assert next_packets(queues, 1) == []


@pytest.mark.parametrize(
    ("size", "lengths"),
    [(1352, [1432]), (1353, [1432, 1]), (2784, [1432, 1432]), (0, [80])],
)
def test_a_message_is_cut_into_elements_of_1432_bytes(size, lengths):
    queues = queue_of((AGREED, size))
    made = next_packets(queues, 10)
    assert [len(parts[0][1]) for _kind, parts in made] == lengths
    indexes = [parts[0][0] for _kind, parts in made]
    assert indexes == [*range(1, len(lengths)), -len(lengths)]


def test_the_largest_message_takes_exactly_a_hundred_packets():
    queues = queue_of((AGREED, 143_200 - 80))
    made = next_packets(queues, 200)
    assert [parts[0][0] for _kind, parts in made] == [*range(1, 100), -100]


@pytest.mark.parametrize(
    ("second", "packets"), [(1428 - 4 - 100 - 80, 1), (1428 - 4 - 100 - 79, 2)]
)
def test_the_last_byte_of_a_packet_is_used_and_no_more(second, packets):
    # 104 bytes with padding, 4 of fragment header, the rest for the second.
    queues = queue_of((AGREED, 22), (AGREED, second))
    made = next_packets(queues, 10)
    assert len(made) == packets
    for kind, parts in made:
        datagram = encode_packet(kind, 1, 1, MembershipId(1, 1), 1, 0, 0, parts)
        assert len(datagram) <= 1472


def test_the_first_that_does_not_fit_ends_the_packet():
    queues = queue_of((AGREED, 800), (AGREED, 800), (AGREED, 10))
    assert [len(parts) for _kind, parts in next_packets(queues, 10)] == [1, 2]


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (FIFO, AGREED, True),
        (AGREED, FIFO, True),
        (SAFE, SAFE, True),
        (RELIABLE, RELIABLE, True),
        (RELIABLE, FIFO, False),
        (RELIABLE, AGREED, False),
        (AGREED, SAFE, False),
        (SAFE, AGREED, False),
        (FIFO, RELIABLE, False),
    ],
)
def test_which_services_share_a_packet(first, second, together):
    made = next_packets(queue_of((first, 1), (second, 1)), 10)
    assert len(made) == (1 if together else 2)
    assert made[0][0] == first


def test_a_half_sent_message_goes_on_in_the_next_visit_and_starts_over_in_a_new_ring():
    queues = queue_of((AGREED, 5000))
    assert shape(next_packets(queues, 2)) == [(AGREED, [(1, 1432)]), (AGREED, [(2, 1432)])]
    assert shape(next_packets(queues, 1)) == [(AGREED, [(3, 1432)])]
    queues.restart_first()
    assert [parts[0][0] for _kind, parts in next_packets(queues, 10)] == [1, 2, 3, -4]


def test_only_the_current_queue_is_served():
    queues = queue_of((AGREED, 1))
    queues.switch(DownQueue.GROUPS)
    assert next_packets(queues, 10) == []
    queues.current.append((int(RELIABLE), bytes(80)))
    assert len(next_packets(queues, 10)) == 1
    queues.switch(DownQueue.NORMAL)
    assert len(next_packets(queues, 10)) == 1


def visits(name: str) -> list[list[tuple[PacketHeader, bytes]]]:
    """The packets of each visit of each daemon in a recorded scenario, in order."""
    recorded = json.loads((VECTORS / "daemon" / f"{name}.json").read_text())
    seen: dict[tuple[int, MembershipId, int], tuple[PacketHeader, bytes]] = {}
    for datagram in recorded["datagrams"]:
        if datagram["kind"] == "data":
            raw = bytes.fromhex(datagram["hex"])
            header = PacketHeader.decode(raw)
            if header.transmiter_id == header.proc_id:
                seen.setdefault((header.proc_id, header.memb_id, header.seq), (header, raw))
    grouped: dict[tuple[int, MembershipId], list[tuple[PacketHeader, bytes]]] = {}
    for (proc_id, memb_id, _seq), packet in sorted(seen.items()):
        grouped.setdefault((proc_id, memb_id), []).append(packet)
    found: list[list[tuple[PacketHeader, bytes]]] = []
    for packets in grouped.values():
        run: list[tuple[PacketHeader, bytes]] = []
        for packet in packets:
            if run:
                last = run[-1][0]
                same = packet[0].seq == last.seq + 1
                # A message cut in two by a visit belongs together.
                if not (
                    same and (packet[0].token_round == last.token_round or last.fragment_index > 0)
                ):
                    found.append(run)
                    run = []
            run.append(packet)
        found.append(run)
    return found


@pytest.mark.parametrize(
    "name",
    [
        "packing_rules",
        "data_three_segments",
        "accelerated_ring",
        "retransmissions_two_segments",
        "accelerated_retransmissions",
        "broadcast_five_changes",
    ],
)
def test_recorded_messages_are_packed_as_upstream_packed_them(name):
    compared = 0
    for packets in visits(name):
        queues = DownQueues()
        expected = []
        partial = b""
        complete = True
        for header, raw in packets:
            fragments = read_fragments(raw, header)
            expected.append((header.type & 0x1F, fragments))
            for position, (index, piece) in enumerate(fragments):
                data = piece
                if position == 0 and abs(index) > 1:
                    complete = complete and (bool(partial) or index == 1)
                if position == 0:
                    partial += piece
                    if index > 0:
                        continue
                    data, partial = partial, b""
                kind = packet_type_of(int.from_bytes(data[:4], "little"))
                assert kind is not None
                if data[2] & 0x08:  # a message of the groups layer, typed by its place
                    kind = PacketType(header.type & 0x1F)
                queues.normal.append((int(kind), data))
        if partial or not complete:
            continue
        made = next_packets(queues, len(packets) + 5)
        assert made == expected
        for (kind, fragments), (header, raw) in zip(made, packets, strict=True):
            ours = encode_packet(
                kind | (header.type & 0x20),
                header.transmiter_id,
                header.proc_id,
                header.memb_id,
                header.seq,
                header.token_round,
                header.conf_hash,
                fragments,
            )
            assert len(ours) == len(raw)
            assert ours[:40] == raw[:40]
            compared += 1
    assert compared > 3
