"""One member of a settled ring, fed by hand; what it sends goes nowhere."""

from __future__ import annotations

from collections.abc import Sequence

from ring_cluster import Cluster, Member, formed, message

from txspread.wire.constants import PacketType
from txspread.wire.identifiers import MembershipId, ProcId
from txspread.wire.packet import PacketHeader, encode_packet
from txspread.wire.token import RetransmissionRequest, Token

HASH = 0x1234ABCD


class Probe:
    """A member after the installation of its ring, alone with the test."""

    def __init__(self, index: int = 1, sizes: Sequence[int] = (1, 1, 1), **changes: object) -> None:
        self.cluster: Cluster = formed(sizes, **changes)
        leader = self.cluster.members[0]
        self.cluster.run(lambda: leader.ring.counters.tokens_held > 1)
        self.members = self.cluster.members
        self.me: Member = self.members[index]
        self.ring = self.me.ring
        self.counters = self.ring.counters
        for member in self.members:
            member.alive = member is self.me
            member.data_queue.clear()
            member.token_queue.clear()
        self.me.sent.clear()
        self.me.upper.events.clear()
        self.arq = self.ring._machine._last_arq
        self.leader = index == 0

    @property
    def ring_id(self) -> MembershipId:
        return self.me.membership.installed.id

    @property
    def predecessor(self) -> ProcId:
        return self.me.membership.active.predecessor

    def make_token(self, **changes: object) -> Token:
        """The token that would come next on this settled ring."""
        store = self.ring._store
        arq = self.arq if self.leader else (self.arq + 1) & 15
        values: dict[str, object] = {
            "type": arq << 16,
            "transmiter_id": self.predecessor,
            "proc_id": self.predecessor,
            "memb_id": self.me.membership.active.id,
            "seq": store.highest_seq,
            "aru": store.my_aru,
            "aru_last_id": self.predecessor,
            "flow_control": 0,
            "conf_hash": HASH,
            "requests": (),
        }
        values.update(changes)
        return Token(**values)  # type: ignore[arg-type]

    def pass_token(self, **changes: object) -> Token | None:
        """Give the next token; returns the token that was sent on, if one was."""
        retrans = int(changes.pop("retrans", 0))  # type: ignore[call-overload]
        token = self.make_token(**changes)
        token.type |= retrans << 20
        before = len(self.tokens)
        self.me.take_token(token.encode())
        self.arq = self.ring._machine._last_arq
        return self.tokens[-1] if len(self.tokens) > before else None

    def give(
        self,
        seq: int,
        text: str = "",
        kind: int = PacketType.AGREED,
        sender: int = 2,
        fragments: list[tuple[int, bytes]] | None = None,
        memb_id: MembershipId | None = None,
        token_round: int = 0,
        transmitter: ProcId | None = None,
    ) -> None:
        """Give a data packet of another member."""
        self.me.take_data(
            self.packet(seq, text, kind, sender, fragments, memb_id, token_round, transmitter)
        )
        self.cluster.fire(self.me)

    def packet(
        self,
        seq: int,
        text: str = "",
        kind: int = PacketType.AGREED,
        sender: int = 2,
        fragments: list[tuple[int, bytes]] | None = None,
        memb_id: MembershipId | None = None,
        token_round: int = 0,
        transmitter: ProcId | None = None,
    ) -> bytes:
        origin = self.members[sender].id
        return encode_packet(
            int(kind),
            transmitter if transmitter is not None else origin,
            origin,
            memb_id or self.ring_id,
            seq,
            token_round,
            HASH,
            fragments or [(-1, message(text or f"m{seq}")[0])],
        )

    def request(
        self, *seqs: int, proc_id: ProcId, seg_index: int, memb_id: MembershipId | None = None
    ) -> RetransmissionRequest:
        return RetransmissionRequest(memb_id or self.ring_id, proc_id, seg_index, seqs)

    @property
    def tokens(self) -> list[Token]:
        return [Token.decode(datagram) for how, _to, datagram in self.me.sent if how == "token"]

    @property
    def data(self) -> list[tuple[str, object, PacketHeader]]:
        """(how, to whom, header) of every packet sent."""
        return [
            (how, to, PacketHeader.decode(datagram))
            for how, to, datagram in self.me.sent
            if how != "token"
        ]

    @property
    def texts(self) -> list[str]:
        return self.me.upper.texts
