"""The daemon membership algorithm: who is in the ring, and what the ring is called.

* :mod:`~txspread.engine.membership.tables`: the six states and every transition, as data;
* :mod:`~txspread.engine.membership.machine`: the object that walks the tables;
* :mod:`~txspread.engine.membership.standing`: what that object has and knows;
* :mod:`~txspread.engine.membership.conditions`, and the actions in
  :mod:`~txspread.engine.membership.transitions`, :mod:`~txspread.engine.membership.packets`
  and :mod:`~txspread.engine.membership.forming`;
* :mod:`~txspread.engine.membership.formation`: what FORM1 and FORM2 carry and how
  each visit changes them, as pure functions;
* :mod:`~txspread.engine.membership.gathering` and
  :mod:`~txspread.engine.membership.representatives`: who was heard, whom to ask;
* :mod:`~txspread.engine.membership.roster`: look-ups in the configuration;
* :mod:`~txspread.engine.membership.identifiers`: time parts that only grow;
* :mod:`~txspread.engine.membership.lines`: log lines.

``docs/protocol/membership.md`` describes the whole.
"""

from txspread.engine.membership.machine import Membership
from txspread.engine.membership.standing import MembershipNetwork
from txspread.engine.membership.tables import DropCause

__all__ = ["DropCause", "Membership", "MembershipNetwork"]
