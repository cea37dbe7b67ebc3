"""Small traces, in order and not, one for each thing that the checker looks at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from trace_builder import (
    NETWORK,
    RELIABLE,
    SAFE,
    daemon,
    first_ring,
    got,
    receiver,
    regular,
    sender,
    told,
    trace,
    transitional,
    view,
)

from txspread.testing.trace import Configuration, Delivery, Left, Trace, Transition

Case: TypeAlias = Callable[[], Trace]
ALLOWED: dict[str, Case] = {}
"""Traces that are in order, by name."""
FORBIDDEN: dict[str, tuple[set[str], Case]] = {}
"""Traces that are not, by name, each with the properties that it breaks."""


def allowed(case: Case) -> Case:
    """Register a trace that is in order."""
    ALLOWED[case.__name__] = case
    return case


def breaks(*properties: str) -> Callable[[Case], Case]:
    """Register a trace that breaks these properties and no other."""

    def register(case: Case) -> Case:
        FORBIDDEN[case.__name__] = (set(properties), case)
        return case

    return register


# --- in order


@allowed
def nothing_happens() -> Trace:
    return trace()


@allowed
def a_crash_and_a_merge() -> Trace:
    later: list[Configuration | list[Delivery]] = [
        transitional(19, 1, 2),
        told("c"),
        regular(20, 1, 2),
        told("d"),
        transitional(29, 1, 2),
        regular(30, 1, 2, 3),
    ]
    return trace(
        daemon(1, *first_ring(1, 1, 2, 3), told("a", "b"), *later),
        daemon(2, *first_ring(2, 1, 2, 3), told("a", "b"), *later),
        daemon(3, *first_ring(3, 1, 2, 3), told("a"), crashed=True),
        daemon(3, transitional(28, 3), regular(30, 1, 2, 3), incarnation=2),
        sender("#x#d1", 1, "a", "b", "c", "d", alive=True),
    )


@allowed
def two_parts_of_a_ring_that_deliver_different_messages() -> Trace:
    return trace(
        daemon(1, *first_ring(1, 1, 2), told("a"), transitional(19, 1), told("b"), regular(20, 1)),
        daemon(2, *first_ring(2, 1, 2), told("a"), transitional(18, 2), regular(19, 2)),
        sender("#x#d1", 1, "a", "b"),
    )


@allowed
def a_reliable_message_that_overtakes() -> Trace:
    return trace(
        daemon(1, *first_ring(1, 1, 2), told("r", service=RELIABLE), told("a")),
        daemon(2, *first_ring(2, 1, 2), told("a"), told("r", service=RELIABLE)),
        sender("#x#d1", 1, "a"),
        sender("#y#d1", 1, "r", service=RELIABLE),
    )


@allowed
def a_reliable_message_behind_a_lost_one_at_one_survivor_only() -> Trace:
    rest = [transitional(19, 1, 2), regular(20, 1, 2)]
    return trace(
        daemon(1, *first_ring(1, 1, 2, 3), told("r", service=RELIABLE), *rest),
        daemon(2, *first_ring(2, 1, 2, 3), *rest),
        sender("#y#d3", 3, "r", service=RELIABLE),
    )


@allowed
def ids_of_a_group_that_emptied_come_again() -> Trace:
    return trace(
        receiver("#a#d1", view(10, 1, "#a#d1"), Left(b"g"), view(10, 1, "#a#d1")),
        receiver("#b#d1", view(10, 1, "#b#d1")),
    )


@allowed
def members_that_come_from_two_rings_with_different_messages() -> Trace:
    both = ("#a#d1", "#b#d2")
    sets = (("#a#d1",), ("#b#d2",))
    return trace(
        daemon(1, *first_ring(1, 1, 2), told("m")),
        sender("#x#d1", 1, "m"),
        receiver(
            "#a#d1",
            view(10, 2, *both),
            Transition(b"g"),
            got("m"),
            view(20, 1, *both, cause=NETWORK, vs_sets=sets, mine=sets[0]),
        ),
        receiver(
            "#b#d2",
            view(10, 2, *both),
            Transition(b"g"),
            view(20, 1, *both, cause=NETWORK, vs_sets=sets, mine=sets[1]),
        ),
    )


@allowed
def a_client_that_left_and_came_back_missed_messages() -> Trace:
    first, second = view(10, 1, "#b#d1"), view(10, 4, "#a#d1", "#b#d1")
    return trace(
        daemon(1, *first_ring(1, 1), told("m")),
        sender("#x#d1", 1, "m"),
        receiver("#a#d1", view(10, 2, "#a#d1", "#b#d1"), Left(b"g"), second),
        receiver(
            "#b#d1",
            first,
            view(10, 2, "#a#d1", "#b#d1"),
            view(10, 3, "#b#d1"),
            got("m"),
            second,
        ),
    )


# --- what daemons must not do


@breaks("no creation")
def a_message_out_of_nowhere() -> Trace:
    return trace(daemon(1, *first_ring(1, 1), told("a")))


@breaks("no duplication")
def a_message_delivered_twice() -> Trace:
    return trace(
        daemon(1, *first_ring(1, 1), told("r", "r", service=RELIABLE)),
        sender("#x#d1", 1, "r", service=RELIABLE),
    )


@breaks("self inclusion", "alternation")
def a_ring_without_the_daemon_that_installs_it() -> Trace:
    return trace(daemon(1, transitional(9, 1), regular(10, 2, 3)))


@breaks("unique ids")
def one_id_for_two_rings() -> Trace:
    return trace(daemon(1, *first_ring(1, 1, 2)), daemon(2, *first_ring(2, 1, 2, 3)))


@breaks("unique ids")
def one_id_for_two_transitional_configurations() -> Trace:
    return trace(
        daemon(1, *first_ring(1, 1, 2, 3), transitional(19, 1, 2)),
        daemon(2, *first_ring(2, 1, 2, 3), transitional(19, 1, 2)),
        daemon(3, *first_ring(3, 1, 2, 3), transitional(19, 1, 3)),
    )


@breaks("unique ids")
def a_ring_installed_twice() -> Trace:
    return trace(daemon(1, *first_ring(1, 1), transitional(19, 1), regular(10, 1)))


@breaks("alternation")
def a_regular_configuration_out_of_turn() -> Trace:
    return trace(daemon(1, *first_ring(1, 1), regular(20, 1)))


@breaks("alternation")
def a_transitional_member_that_was_not_in_the_old_ring() -> Trace:
    return trace(daemon(1, *first_ring(1, 1, 2), transitional(19, 1, 3), regular(20, 1, 3)))


@breaks("alternation")
def a_transitional_member_that_is_not_in_the_new_ring() -> Trace:
    return trace(daemon(1, *first_ring(1, 1, 2), transitional(19, 1, 2), regular(20, 1)))


@breaks("right configuration")
def a_message_in_two_rings() -> Trace:
    return trace(
        daemon(1, *first_ring(1, 1, 2), told("a")),
        daemon(2, transitional(8, 2), regular(20, 2, 3), told("a")),
        sender("#x#d1", 1, "a"),
    )


@breaks("failure atomicity")
def survivors_that_differ() -> Trace:
    return trace(
        daemon(1, *first_ring(1, 1, 2), told("a"), transitional(19, 1, 2), regular(20, 1, 2)),
        daemon(2, *first_ring(2, 1, 2), transitional(19, 1, 2), regular(20, 1, 2)),
        sender("#x#d1", 1, "a"),
    )


@breaks("failure atomicity")
def survivors_with_the_signal_at_different_places() -> Trace:
    return trace(
        daemon(1, *first_ring(1, 1, 2), told("a"), transitional(19, 1, 2), regular(20, 1, 2)),
        daemon(2, *first_ring(2, 1, 2), transitional(19, 1, 2), told("a"), regular(20, 1, 2)),
        sender("#x#d1", 1, "a"),
    )


@breaks("agreed order")
def two_orders() -> Trace:
    return trace(
        daemon(1, *first_ring(1, 1, 2), told("a", "b")),
        daemon(2, *first_ring(2, 1, 2), told("b", "a")),
        sender("#x#d1", 1, "a"),
        sender("#y#d2", 2, "b"),
    )


@breaks("FIFO")
def a_senders_messages_out_of_order() -> Trace:
    return trace(daemon(1, *first_ring(1, 1), told("b", "a")), sender("#x#d1", 1, "a", "b"))


@breaks("FIFO")
def a_gap_in_a_senders_messages() -> Trace:
    return trace(daemon(1, *first_ring(1, 1), told("a", "c")), sender("#x#d1", 1, "a", "b", "c"))


@breaks("FIFO")
def a_gap_behind_the_signal() -> Trace:
    return trace(
        daemon(1, *first_ring(1, 1), told("a"), transitional(19, 1), told("c")),
        sender("#x#d1", 1, "a", "b", "c"),
    )


@breaks("self delivery")
def a_message_of_a_living_client_that_never_comes() -> Trace:
    return trace(daemon(1, *first_ring(1, 1), told("a")), sender("#x#d1", 1, "a", "b", alive=True))


@breaks("causal")
def an_answer_before_its_cause() -> Trace:
    return trace(
        daemon(3, *first_ring(3, 1, 2, 3), told("answer", "question")),
        sender("#x#d1", 1, "question"),
        sender("#y#d2", 2, "answer", after=1, received=[got("question", group=b"#y#d2")]),
    )


@breaks("causal")
def an_answer_without_its_cause() -> Trace:
    return trace(
        daemon(1, *first_ring(1, 1, 2, 3), told("question", "answer")),
        daemon(3, *first_ring(3, 1, 2, 3), told("answer")),
        sender("#x#d1", 1, "question"),
        sender("#y#d2", 2, "answer", after=1, received=[got("question", group=b"#y#d2")]),
    )


@breaks("safe")
def a_safe_message_that_a_member_went_on_without() -> Trace:
    return trace(
        daemon(1, *first_ring(1, 1, 2), told("s", service=SAFE), crashed=True),
        daemon(2, *first_ring(2, 1, 2), transitional(19, 2), regular(20, 2)),
        sender("#x#d1", 1, "s", service=SAFE),
    )


@breaks("safe")
def a_safe_message_in_half_of_a_transitional_configuration() -> Trace:
    return trace(
        daemon(
            1,
            *first_ring(1, 1, 2, 3),
            transitional(19, 1, 2),
            told("s", service=SAFE),
            crashed=True,
        ),
        daemon(2, *first_ring(2, 1, 2, 3), transitional(19, 1, 2), regular(20, 1, 2)),
        sender("#x#d1", 1, "s", service=SAFE),
    )


# --- what clients must not see


@breaks("client: no duplication")
def a_client_gets_a_message_twice() -> Trace:
    return trace(receiver("#a#d1", view(10, 1, "#a#d1"), got("m"), got("m")))


@breaks("client: targets")
def a_client_gets_a_message_of_a_group_it_is_not_in() -> Trace:
    return trace(receiver("#a#d1", view(10, 1, "#a#d1"), got("m", group=b"other")))


@breaks("client: view inclusion")
def a_client_gets_a_view_without_itself() -> Trace:
    return trace(receiver("#a#d1", view(10, 1, "#b#d1")))


@breaks("client: one view order")
def two_clients_see_views_in_two_orders() -> Trace:
    one, other = view(10, 2, "#a#d1", "#b#d1"), view(10, 3, "#a#d1", "#b#d1", "#c#d1")
    return trace(receiver("#a#d1", one, other), receiver("#b#d1", other, one))


@breaks("client: vs sets")
def vs_sets_that_are_not_a_partition() -> Trace:
    members = ("#a#d1", "#b#d1")
    sets = (("#a#d1",),)
    return trace(
        receiver("#a#d1", view(20, 1, *members, cause=NETWORK, vs_sets=sets, mine=sets[0]))
    )


@breaks("client: vs sets")
def a_client_outside_its_own_vs_set() -> Trace:
    members = ("#a#d1", "#b#d1")
    sets = (("#a#d1",), ("#b#d1",))
    return trace(
        receiver("#a#d1", view(20, 1, *members, cause=NETWORK, vs_sets=sets, mine=sets[1]))
    )


@breaks("client: virtual synchrony")
def members_that_go_together_with_different_messages() -> Trace:
    both = ("#a#d1", "#b#d2")
    new = view(20, 1, *both, cause=NETWORK, vs_sets=(both,), mine=both)
    return trace(
        receiver("#a#d1", view(10, 2, *both), got("m"), Transition(b"g"), new),
        receiver("#b#d2", view(10, 2, *both), Transition(b"g"), new),
    )


@breaks("client: virtual synchrony")
def a_join_that_comes_before_a_message_at_one_and_after_it_at_another() -> Trace:
    old, new = view(10, 2, "#a#d1", "#b#d2"), view(10, 3, "#a#d1", "#b#d2", "#c#d1")
    return trace(
        receiver("#a#d1", old, got("m"), new),
        receiver("#b#d2", old, new, got("m")),
    )


@breaks("client: agreed order")
def two_clients_get_messages_in_two_orders() -> Trace:
    start = view(10, 2, "#a#d1", "#b#d2")
    return trace(
        receiver("#a#d1", start, got("m"), got("n")),
        receiver("#b#d2", start, got("n"), got("m")),
    )


@breaks("client: FIFO")
def a_client_gets_a_senders_messages_out_of_order() -> Trace:
    return trace(
        sender("#x#d2", 2, "m", "n"),
        receiver("#a#d1", view(10, 1, "#a#d1"), got("n"), got("m")),
    )


@breaks("client: self delivery")
def a_member_never_gets_its_own_message() -> Trace:
    return trace(
        sender("#a#d1", 1, "m", after=1, received=[view(10, 1, "#a#d1")], alive=True),
    )
