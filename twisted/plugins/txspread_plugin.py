"""Makes ``twist spread`` known to Twisted."""

from txspread.daemon.plugin import SpreadServiceMaker

spread = SpreadServiceMaker()
