"""Each malformed datagram that upstream trusts, at the decoder that stops it.

The table is section 14 of ``docs/protocol/daemon-datagrams.md``.  What depends on
the configuration or on the state of a ring (unknown ids, foreign hashes, numbers
far ahead) is stopped further up and tested there.
"""

from __future__ import annotations

import attrs
import pytest

from txspread.wire import datagram
from txspread.wire.dialect import SPREAD_4_3
from txspread.wire.errors import ProtocolError
from txspread.wire.groups import DaemonEntry, GroupEntry, GroupsMessage
from txspread.wire.identifiers import GroupId, MembershipId
from txspread.wire.layouts import message as message_layouts
from txspread.wire.membership import (
    Form1,
    Form2,
    Join,
    Representative,
    RepresentativeType,
    RingBlock,
    decode_alive,
    decode_refer,
    encode_alive,
    encode_refer,
)
from txspread.wire.membership_message import MembershipBody, encode_group_id
from txspread.wire.message import (
    MessageHeader,
    encode_message,
    encode_reject,
    message_groups,
    name_field,
    normalize,
    rejected_type,
)
from txspread.wire.monitor import (
    FlowControl,
    Status,
    decode_partition,
    decode_status_reply,
    encode_partition,
    encode_status_request,
    read_packet,
)
from txspread.wire.packet import (
    PacketHeader,
    encode_bare,
    encode_packet,
    read_fragments,
    read_units,
    restamp,
)
from txspread.wire.session import (
    AcceptReply,
    ConnectRequest,
    HandshakeError,
    decode_auth_choice,
    decode_auth_list,
    encode_accept,
    encode_auth_choice,
    encode_auth_list,
    encode_password,
)
from txspread.wire.token import NOBODY, RetransmissionRequest, Token, TokenHeader

ME = 0x7F000001
PEER = 0x7F000102
RING = MembershipId(ME, 1795466734)
HASH = 3088857960
orders = pytest.mark.parametrize("order", ["<", ">"])


def refused(decode, *arguments):
    with pytest.raises(ProtocolError) as caught:
        decode(*arguments)
    assert str(caught.value)


def patched(data, at, value, size, order="<", signed=True):
    """The same bytes with one integer replaced."""
    word = value.to_bytes(size, "little" if order == "<" else "big", signed=signed)
    return data[:at] + word + data[at + size :]


def data_packet(order="<", *, fragments=((-1, b"first message"), (-1, b"second"))):
    return encode_packet(datagram.AGREED, ME, ME, RING, 1, 1, HASH, fragments, order)


class TestPackets:
    def test_shorter_than_its_header(self):
        for size in range(40):
            refused(PacketHeader.decode, data_packet()[:size])
            refused(restamp, data_packet()[:size], 0, 0, ME, HASH)
        refused(PacketHeader.decode, data_packet()[:35], SPREAD_4_3)

    @pytest.mark.parametrize("word", [b"\x80\0\0\0", b"\0\0\0\x80"])
    def test_half_a_byte_order_marker(self, word):
        refused(PacketHeader.decode, word + data_packet()[4:])
        refused(TokenHeader.decode, word + bytes(36))
        refused(Token.decode, word + bytes(36))
        refused(restamp, word + data_packet()[4:], 0, 0, ME, HASH)
        refused(MessageHeader.decode, word + bytes(44))
        refused(normalize, word + bytes(44))

    @orders
    @pytest.mark.parametrize("difference", [-1, 1, 32000])
    def test_a_data_len_that_is_not_the_number_of_bytes_received(self, order, difference):
        data = data_packet(order)
        data = patched(data, 32, len(data) - 40 + difference, 2, order)
        header = PacketHeader.decode(data)
        refused(read_fragments, data, header)
        refused(read_packet, data)

    def test_a_negative_data_len(self):
        data = patched(data_packet(), 32, -1, 2)
        refused(read_fragments, data, PacketHeader.decode(data))
        refused(read_fragments, data[:39], PacketHeader.decode(data))


class TestFragments:
    @orders
    @pytest.mark.parametrize("length", [-1, -32768, 24, 27, 32767])
    def test_a_first_fragment_that_is_negative_or_ends_behind_the_body(self, order, length):
        data = patched(data_packet(order), 38, length, 2, order)
        refused(read_fragments, data, PacketHeader.decode(data))

    @orders
    def test_an_empty_first_fragment_with_others_behind_it(self, order):
        data = patched(data_packet(order), 38, 0, 2, order)
        refused(read_fragments, data, PacketHeader.decode(data))

    @orders
    @pytest.mark.parametrize("length", [-1, 7, 32767])
    def test_a_further_fragment_that_is_negative_or_ends_behind_the_body(self, order, length):
        data = data_packet(order)
        at = 40 + 16 + 2
        assert data[at : at + 2] in (b"\x06\0", b"\0\x06")
        data = patched(data, at, length, 2, order)
        refused(read_fragments, data, PacketHeader.decode(data))

    @pytest.mark.parametrize("surplus", [1, 2, 3, 4, 6])
    def test_bytes_behind_the_last_fragment_that_hold_no_fragment(self, surplus):
        data = data_packet(fragments=[(-1, b"abcd")]) + bytes([1] * surplus)
        data = patched(data, 32, len(data) - 40, 2)
        refused(read_fragments, data, PacketHeader.decode(data))

    @pytest.mark.parametrize("index", [101, -101, 32767, -32768])
    def test_an_index_beyond_the_hundred_fragments_of_a_message(self, index):
        data = data_packet(fragments=[(index, b"abcd")])
        refused(read_fragments, data, PacketHeader.decode(data))

    @pytest.mark.parametrize("index", [1, 99, -100, 100])
    def test_legal_indexes_pass(self, index):
        data = data_packet(fragments=[(index, b"abcd")])
        assert read_fragments(data, PacketHeader.decode(data)) == [(index, b"abcd")]

    @orders
    def test_packed_packets_of_either_byte_order_are_read(self, order):
        data = data_packet(order)
        assert read_fragments(data, PacketHeader.decode(data)) == [
            (-1, b"first message"),
            (-1, b"second"),
        ]

    def test_units_that_do_not_make_up_the_datagram(self):
        unit = encode_bare(8, ME, ME, RING, HASH, b"abcd", 1, "<", SPREAD_4_3)
        assert [body for _, body in read_units(unit + unit, SPREAD_4_3)] == [b"abcd"] * 2
        refused(read_units, unit + unit[:-1], SPREAD_4_3)
        refused(read_units, unit + unit[:35], SPREAD_4_3)
        refused(read_units, unit + b"pad", SPREAD_4_3)
        refused(read_units, patched(unit, 30, -1, 2), SPREAD_4_3)

    def test_what_does_not_fit_is_not_written(self):
        fits = data_packet(fragments=[(1, bytes(1432))])
        assert len(fits) == 1472
        refused(encode_packet, 8, ME, ME, RING, 1, 1, HASH, [(1, bytes(1433))])
        refused(encode_packet, 8, ME, ME, RING, 1, 1, HASH, [])
        refused(encode_packet, 8, ME, ME, RING, 1 << 31, 1, HASH, [(1, b"x")])
        refused(encode_bare, 8, ME, ME, RING, HASH, bytes(1433))
        refused(encode_bare, 8, -1, ME, RING, HASH)
        refused(restamp, fits, 0, 0, 1 << 32, HASH)


class TestMessages:
    def message(self):
        return encode_message(0x10, b"#a#d1", [b"g", b"h"], b"body")

    @pytest.mark.parametrize("size", range(0, 48, 7))
    def test_shorter_than_its_header(self, size):
        refused(MessageHeader.decode, self.message()[:size])
        refused(normalize, self.message()[:size])

    def test_fewer_names_than_its_header_says(self):
        message = self.message()
        refused(message_groups, message, 3)
        refused(message_groups, message, 1 << 30)
        refused(message_groups, message, -1)
        refused(message_groups, message[:79], 1)
        assert message_groups(message, 2) == [b"g", b"h"]

    def test_a_reject_without_the_refused_type(self):
        refused(rejected_type, self.message()[:51])

    def test_a_name_without_a_nul_is_the_whole_field(self):
        name = b"n" * 32
        assert message_groups(encode_message(4, b"s", [name]), 1) == [name]

    def test_what_does_not_fit_is_not_written(self):
        refused(name_field, b"n" * 33)
        refused(encode_message, 4, b"s", [b"n" * 33])
        refused(encode_message, -1, b"s", [])
        refused(encode_message, 1 << 32, b"s", [])
        refused(encode_reject, self.message(), 1 << 32, [b"g"])


class TestTokens:
    def token(self, order="<"):
        requests = (
            RetransmissionRequest(RING, PEER, 0, (92,)),
            RetransmissionRequest(MembershipId(PEER, 5), NOBODY, -1, (1, 2, 3)),
        )
        return Token(0x30000, ME, ME, RING, 100, 91, PEER, 3, HASH, requests).encode(order)

    def test_shorter_than_its_header(self):
        for size in range(40):
            refused(Token.decode, self.token()[:size])
            refused(TokenHeader.decode, self.token()[:size])

    @orders
    @pytest.mark.parametrize("rtr_len", [-1, 0, 47, 49, 32767])
    def test_an_rtr_len_that_is_not_the_number_of_bytes_received(self, order, rtr_len):
        refused(Token.decode, patched(self.token(order), 34, rtr_len, 2, order))

    @orders
    @pytest.mark.parametrize("count", [-4, -1, 0, 2, 32767])
    def test_requests_whose_counts_do_not_fill_the_body(self, order, count):
        refused(Token.decode, patched(self.token(order), 40 + 14, count, 2, order))

    def test_a_request_cut_short(self):
        data = self.token()
        for cut in range(1, 27):
            short = patched(data[:-cut], 34, len(data) - cut - 40, 2)
            refused(Token.decode, short)

    @pytest.mark.parametrize("bit", [datagram.FORM1, datagram.FORM2])
    def test_a_form_token_is_not_a_regular_one(self, bit):
        refused(Token.decode, patched(self.token(), 0, 0x80000080 | bit, 4, signed=False))

    def test_more_requests_than_a_token_can_say(self):
        request = RetransmissionRequest(RING, NOBODY, -1, tuple(range(8187)))
        fits = Token(0, ME, ME, RING, 1, 1, NOBODY, 0, HASH, (request,))
        assert Token.decode(fits.encode()).requests == (request,)
        large = attrs.evolve(request, seqs=tuple(range(8188)))
        for seq, requests in [
            (1, (large,)),
            (1 << 31, ()),
            (1, (attrs.evolve(request, seg_index=40000),)),
        ]:
            refused(Token(0, ME, ME, RING, seq, 1, NOBODY, 0, HASH, requests).encode)


def ring(**changes):
    block = RingBlock(MembershipId(ME, -1), 0, 10, 52, (11, 15), (ME, PEER), 1)
    return attrs.evolve(block, **changes)


def form1(order="<", **changes):
    form = Form1(
        transmiter_id=ME,
        proc_id=ME,
        attempt=RING,
        seq=3385,
        conf_hash=HASH,
        members=(ME,),
        pending=(PEER,),
        reps=(Representative(ME, RepresentativeType.SEG_REP, 0),),
        rep_index=1,
        rings=(ring(),),
        byteorder=order,
    )
    return attrs.evolve(form, **changes)


def form2(order="<", **changes):
    form = Form2(
        transmiter_id=ME,
        proc_id=ME,
        attempt=RING,
        seq=3385,
        conf_hash=HASH,
        members=(ME,),
        pending=(PEER,),
        future_memb_id=MembershipId(ME, 7),
        rings=(ring(),),
        byteorder=order,
    )
    return attrs.evolve(form, **changes)


FORMS = {"form1": (form1, Form1, 760), "form2": (form2, Form2, 564)}
every_form = pytest.mark.parametrize(("make", "form", "rings_at"), FORMS.values(), ids=FORMS.keys())


class TestFormTokens:
    @every_form
    @orders
    def test_the_undamaged_token_passes(self, make, form, rings_at, order):
        assert form.decode(make(order).encode(order)) == make(order)

    @every_form
    def test_cut_short_anywhere(self, make, form, rings_at):
        data = make().encode()
        for size in range(len(data)):
            refused(form.decode, data[:size])
            if size >= 40:
                refused(form.decode, patched(data[:size], 34, size - 40, 2))

    @every_form
    def test_bytes_behind_the_last_block(self, make, form, rings_at):
        data = make().encode() + bytes(4)
        refused(form.decode, data)
        refused(form.decode, patched(data, 34, len(data) - 40, 2))

    @every_form
    @orders
    @pytest.mark.parametrize("difference", [-4, 4])
    def test_an_rtr_len_other_than_the_content(self, make, form, rings_at, order, difference):
        data = make(order).encode(order)
        refused(form.decode, patched(data, 34, len(data) - 40 + difference, 2, order))

    @every_form
    def test_a_token_of_another_kind(self, make, form, rings_at):
        data = make().encode()
        refused(form.decode, patched(data, 0, 0x80000080, 4, signed=False))
        other = datagram.FORM2 if form is Form1 else datagram.FORM1
        refused(form.decode, patched(data, 0, 0x80000080 | other, 4, signed=False))

    def test_both_form_bits_mean_form1(self):
        both = 0x80000080 | datagram.FORM
        assert Form1.decode(patched(form1().encode(), 0, both, 4, signed=False))
        refused(Form2.decode, patched(form2().encode(), 0, both, 4, signed=False))

    @every_form
    @pytest.mark.parametrize(("members", "pending"), [(-1, 2), (2, -1), (128, 1), (1, 128)])
    def test_absurd_members(self, make, form, rings_at, members, pending):
        data = patched(make().encode(), 40, members, 2)
        refused(form.decode, patched(data, 42, pending, 2))

    @every_form
    @pytest.mark.parametrize("count", [-1, 0, 2, 21, 32767, -(1 << 31)])
    def test_absurd_numbers_of_rings(self, make, form, rings_at, count):
        refused(form.decode, patched(make().encode(), rings_at, count, 4))

    @every_form
    @pytest.mark.parametrize("holes", [-1, 1, 3, 1 << 30, -(1 << 31)])
    def test_holes_that_are_not_there(self, make, form, rings_at, holes):
        refused(form.decode, patched(make().encode(), rings_at + 4 + 20, holes, 4))

    @every_form
    @pytest.mark.parametrize(
        ("commit", "trans"), [(2, 0), (2, -1), (2, 3), (-1, 1), (0, 0), (3, 1), (129, 1), (1, 1)]
    )
    def test_absurd_commit_sets(self, make, form, rings_at, commit, trans):
        data = patched(make().encode(), rings_at + 4 + 24, commit, 2)
        refused(form.decode, patched(data, rings_at + 4 + 26, trans, 2))

    @every_form
    def test_a_commit_set_above_128(self, make, form, rings_at):
        large = ring(commit=tuple(range(1, 130)), num_trans=1)
        refused(form.decode, make(rings=(large,)).encode())

    @pytest.mark.parametrize(("reps", "index"), [(-1, -1), (1, 2), (1, -1), (26, 0), (0, 1)])
    def test_absurd_representatives(self, reps, index):
        data = patched(form1().encode(), 556, reps, 2)
        refused(Form1.decode, patched(data, 558, index, 2))

    @pytest.mark.parametrize("kind", [3, -1, 32767])
    def test_a_representative_of_no_known_type(self, kind):
        refused(Form1.decode, patched(form1().encode(), 564, kind, 2))

    def test_a_form1_may_have_any_number_of_holes_a_form2_only_1600(self):
        for holes in (1600, 1601, 1700):
            block = ring(holes=tuple(range(holes)))
            assert Form1.decode(form1(rings=(block,)).encode()).rings == (block,)
            data = form2(rings=(block,)).encode()
            if holes > 1600:
                refused(Form2.decode, data)
            else:
                assert Form2.decode(data).rings == (block,)

    def test_a_form2_that_nobody_is_left_to_read(self):
        refused(Form2.decode, form2(members=(ME, PEER), pending=()).encode())

    @every_form
    def test_what_does_not_fit_is_not_written(self, make, form, rings_at):
        for changes in (
            {"members": tuple(range(128)), "pending": (1,)},
            {"rings": ()},
            {"rings": (ring(),) * 21},
            {"rings": (ring(holes=tuple(range(9000))),)},
            {"rings": (ring(aru=1 << 31),)},
            {"rings": (ring(num_trans=40000),)},
            {"rings": (ring(holes=(1 << 31,)),)},
            {"members": (-1,)},
            {"seq": 1 << 31},
        ):
            refused(make(**changes).encode)

    def test_what_does_not_fit_one_kind_is_not_written(self):
        rep = Representative(ME, RepresentativeType.SEG_REP, 0)
        refused(form1(reps=(rep,) * 26).encode)
        refused(form1(reps=(attrs.evolve(rep, seg_index=40000),)).encode)
        refused(form1(rep_index=40000).encode)
        refused(form2(future_memb_id=MembershipId(-1, 0)).encode)


class TestMembershipPackets:
    def join(self, order="<"):
        reps = (Representative(ME, RepresentativeType.SEG_REP, 0),)
        return Join((ME, PEER), reps).encode(ME, HASH, order)

    def decode(self, data):
        return Join.decode(data, PacketHeader.decode(data))

    @orders
    @pytest.mark.parametrize("count", [-32000, -1, 1, 3, 4, 129, 32000])
    def test_a_join_with_absurd_members(self, order, count):
        refused(self.decode, patched(self.join(order), 40, count, 2, order))

    @orders
    @pytest.mark.parametrize("count", [-1, 0, 2, 26, 32000])
    def test_a_join_with_absurd_representatives(self, order, count):
        refused(self.decode, patched(self.join(order), 52, count, 2, order))

    def test_a_join_with_pending_members(self):
        refused(self.decode, patched(self.join(), 42, 1, 2))

    @pytest.mark.parametrize("kind", [3, -1, 32000])
    def test_a_join_with_a_representative_of_no_known_type(self, kind):
        refused(self.decode, patched(self.join(), 60, kind, 2))

    def test_a_join_cut_short_or_too_long(self):
        data = self.join()
        for size in range(40, len(data)):
            refused(self.decode, data[:size])
            refused(self.decode, patched(data[:size], 32, size - 40, 2))
        refused(self.decode, patched(data + b"x", 32, len(data) - 39, 2))

    def test_an_alive_with_absurd_counts(self):
        data = encode_alive(ME, HASH, [ME, PEER])
        for at, count in ((40, -1), (40, 1), (40, 3), (40, 32000), (42, 1)):
            wrong = patched(data, at, count, 2)
            refused(decode_alive, wrong, PacketHeader.decode(wrong))
        refused(decode_alive, data[:-1], PacketHeader.decode(data))

    @pytest.mark.parametrize("kind", [3, -1, 1 << 30])
    def test_a_refer_to_a_representative_of_no_known_type(self, kind):
        data = encode_refer(ME, HASH, Representative(PEER, RepresentativeType.RING_REP, 0))
        refused(decode_refer, PacketHeader.decode(patched(data, 16, kind, 4)))

    def test_what_does_not_fit_is_not_written(self):
        refused(encode_alive, -1, HASH, [ME])
        refused(encode_alive, ME, HASH, [-1])
        refused(encode_alive, ME, HASH, [ME] * 400)


class TestMonitorPackets:
    def test_bodies_with_less_than_the_configuration_needs(self):
        refused(decode_partition, bytes(5), 3, "<")
        assert decode_partition(bytes(6), 3, "<") == (0, 0, 0)
        refused(FlowControl.decode_body, bytes(13), 3, "<")
        assert FlowControl.decode_body(bytes(14), 3, "<").window == 0
        refused(FlowControl.decode_body, bytes(7), 3, "<", SPREAD_4_3)

    def test_a_window_behind_the_array_is_left_alone(self):
        windows = FlowControl.decode_body(bytes(512), 128, "<")
        assert windows.window == -1
        assert len(windows.accelerated_windows) == 128

    def test_a_request_is_no_reply(self):
        refused(decode_status_reply, encode_status_request(ME, 6543))
        refused(decode_status_reply, encode_partition([1], ME, 6543))
        refused(Status.decode_body, bytes(95), "<")
        refused(Status.decode_body, bytes(96), "<", SPREAD_4_3)

    def test_what_does_not_fit_is_not_written(self):
        refused(encode_partition, [0] * 129, ME, 6543)
        refused(encode_partition, [40000], ME, 6543)
        refused(FlowControl(0, (0,) * 129, (0,) * 129).encode_body)


class TestGroupMessages:
    def state(self, **changes):
        daemon = DaemonEntry(ME, RING, (b"#a#d1", b"#b#d1"))
        group = GroupEntry(b"g", GroupId(*RING, 1), False, (daemon,))
        state = GroupsMessage(b"d1", 2, RING, (ME, PEER), (group,), True)
        return attrs.evolve(state, **changes)

    @orders
    def test_cut_short_anywhere(self, order):
        data = self.state().encode(order)
        with_group = 48 + 9 + 4 + 8
        for size in range(len(data)):
            refused(GroupsMessage.decode, data[:size])
            if size >= 48 and size != with_group:
                short = patched(data[:size], 44, size - 48, 4, order)
                refused(GroupsMessage.decode, short)

    @pytest.mark.parametrize(
        ("at", "value", "size"),
        [
            (57, 129, 4),
            (57, 0x7FFFFFFF, 4),
            (57, 1, 4),
            (56, 2, 1),
            (32, 129, 4),
            (36, 1, 4),
            (44, 1000, 4),
            (44, -1, 4),
            (115, 2, 2),
            (115, 0x7FFF, 2),
            (129, 1, 2),
            (129, 3, 2),
            (129, 0x7FFF, 2),
        ],
    )
    def test_counts_beyond_the_end_or_the_limits(self, at, value, size):
        data = self.state().encode()
        assert len(data) == 195
        refused(GroupsMessage.decode, patched(data, at, value, size))

    def test_not_a_groups_message(self):
        refused(GroupsMessage.decode, encode_message(0x10, b"d1", [], bytes(20)))

    def test_longer_than_the_buffer_of_every_peer(self):
        members = tuple(b"#%d#d1" % number for number in range(3200))
        daemon = DaemonEntry(ME, RING, members)
        group = GroupEntry(b"g", GroupId(*RING, 1), False, (daemon,))
        refused(self.state(groups=(group,)).encode)
        refused(GroupsMessage.decode, self.state().encode() + bytes(100000))

    def test_what_does_not_fit_is_not_written(self):
        refused(self.state(representative=b"d" * 29).encode)
        refused(self.state(set_size=-1).encode)
        refused(self.state(synced_set=(-1,)).encode)
        refused(self.state(memb_id=MembershipId(-1, 0)).encode)
        refused(encode_group_id, GroupId(-1, 0, 0))
        refused(MembershipBody(GroupId(*RING, 1), -1, ()).encode)
        refused(message_layouts.HEADER.build, {"type": 1})
        refused(message_layouts.COUNT.build, {"count": -1})

    def test_membership_bodies_whose_counts_do_not_fill_them(self):
        body = MembershipBody(GroupId(*RING, 1), 0, ((b"#a#d1",), (b"#b#d1", b"#c#d1")))
        data = body.encode()
        for size in range(len(data)):
            refused(MembershipBody.decode, data[:size])
        refused(MembershipBody.decode, data + b"x")
        for at, value in ((12, 3), (12, 1), (12, 1 << 30), (20, 0), (20, 2), (20, 1 << 30)):
            refused(MembershipBody.decode, patched(data, at, value, 4))

    @pytest.mark.parametrize("offset", [1, 35, 104, 0xFFFFFFFF])
    def test_an_offset_at_which_no_set_begins(self, offset):
        sets = ((b"#a#d1",), (b"#b#d1", b"#c#d1"))
        body = MembershipBody(GroupId(*RING, 1), offset, sets)
        with pytest.raises(ProtocolError):
            _ = body.local_vs_set
        assert attrs.evolve(body, local_vs_set_offset=36).local_vs_set == sets[1]


class TestHandshake:
    def test_what_a_daemon_may_answer_instead_of_a_list(self):
        for byte in (0xF7, 0xFB, 0x80, 91):
            with pytest.raises(HandshakeError):
                decode_auth_list(bytes([byte]) + bytes(91))
        assert decode_auth_list(b"\0") == ((), 1)
        assert decode_auth_list(b"\x05NULL") is None

    def test_replies_that_no_daemon_sends(self):
        for reply in (b"\x02", b"\xf7", b"\x01\x04\x04\0\x20" + bytes(32)):
            with pytest.raises(HandshakeError):
                AcceptReply.decode(reply)
        whole = encode_accept(b"#a#d1")
        for size in range(len(whole)):
            assert AcceptReply.decode(whole[:size]) is None

    def test_what_does_not_fit_is_not_written(self):
        refused(encode_auth_choice, [b"a"] * 4)
        refused(encode_auth_choice, [b"a" * 31])
        refused(encode_auth_list, [b"a" * 30] * 5)
        refused(encode_accept, b"#" * 32)
        refused(encode_accept, b"#a#d1", (4, 4, 256))
        refused(encode_password, b"u" * 33, b"")
        request = ConnectRequest(4, 4, 0, True, 0, b"alice")
        for changes in (
            {"patch": None},
            {"major": 3, "minor": 14},
            {"name": b"n" * 11},
            {"priority": 16},
            {"priority": -1},
            {"patch": 128},
            {"minor": -129},
        ):
            refused(attrs.evolve(request, **changes).encode)
        refused(decode_auth_choice, bytes(89))
