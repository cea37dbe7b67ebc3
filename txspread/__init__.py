"""txspread: the Spread 4 group-communication toolkit, in Python on Twisted.

The package holds a daemon that is wire-compatible with Spread 4 daemons and
clients, a client library without any C below it, and what users need to test
their own programs.  ``docs/architecture.md`` is the map.
"""

__version__ = "0.1.0"
