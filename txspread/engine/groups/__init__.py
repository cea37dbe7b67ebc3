"""Process groups: the layer between the ring and the client sessions."""

from txspread.engine.groups.layer import Groups
from txspread.engine.groups.machine import GroupsState

__all__ = ["Groups", "GroupsState"]
