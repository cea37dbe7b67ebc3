"""What changes of the daemon membership do to the replica.

Every function is one block of the algorithm; in which state which one runs is the
table in :mod:`txspread.engine.groups.machine`.

Source: ``docs/protocol/groups.md`` sections 3.3 to 3.6 and 3.10.
"""

from __future__ import annotations

from collections.abc import Sequence

from txspread.engine.groups.log import GroupsLog
from txspread.engine.groups.state import Group, GroupTable
from txspread.engine.groups.telling import Teller
from txspread.wire.identifiers import MembershipId, ProcId


def mark_lost(
    table: GroupTable, tell: Teller, members: Sequence[ProcId], membership_id: MembershipId
) -> None:
    """Transitional membership while operational: mark partitioned, tell transitions.

    Groups that lose nobody are left alone.  The others get the transitional id,
    also where no member is local, since replicas count on their own.
    """
    remaining = frozenset(members)
    for group in table.in_order():
        if remaining.issuperset(group.daemons):
            continue
        tell.transition(group)
        group.renew(membership_id)
        group.changed = True
        for record in group.ordered:
            record.membership_id = membership_id if record.proc_id in remaining else None


def note_lost(table: GroupTable, members: Sequence[ProcId]) -> None:
    """Transitional membership during an exchange: only remember which groups lose."""
    remaining = frozenset(members)
    for group in table.groups.values():
        if not remaining.issuperset(group.daemons):
            group.changed = True


def drop_lost(table: GroupTable, tell: Teller, log: GroupsLog, membership_id: MembershipId) -> None:
    """Regular membership that only takes away: remove, renew, tell network changes."""
    for group in table.in_order():
        if not group.changed:
            log.info("G_handle_reg_memb: no state transfer needed for group %s.", group.name)
        elif _remove_partitioned_of(table, group):
            group.renew(membership_id)
            group.changed = False
            # The records first: the message shows the survivors as one set.
            group.come_from(membership_id)
            tell.network(group)


def remove_partitioned(table: GroupTable) -> None:
    """Regular membership that adds daemons: only remove; ids wait for the exchange."""
    for group in table.in_order():
        if group.changed:
            _remove_partitioned_of(table, group)


def remove_outside(table: GroupTable, members: Sequence[ProcId]) -> None:
    """Interrupted exchange: remove daemons that did not come along."""
    remaining = frozenset(members)
    for group in table.in_order():
        lost = [proc_id for proc_id in group.daemons if proc_id not in remaining]
        for proc_id in lost:
            table.remove_record(group, proc_id)
        if lost:
            if group.daemons:
                group.changed = True
            else:
                table.remove(group)


def renew_changed(table: GroupTable, tell: Teller, membership_id: MembershipId) -> None:
    """Exchange complete: renew what has changed, tell who came together with whom."""
    for group in table.in_order():
        if group.changed:
            group.renew(membership_id)
            group.changed = False
            # The records after it: where they came from is what forms the sets.
            tell.network(group)
            group.come_from(membership_id)


def _remove_partitioned_of(table: GroupTable, group: Group) -> bool:
    """Remove a group's partitioned daemons; False if nothing is left of it."""
    for record in list(group.ordered):
        if record.membership_id is None:
            table.remove_record(group, record.proc_id)
    if group.daemons:
        return True
    table.remove(group)
    return False
