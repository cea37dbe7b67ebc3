"""``python -m txspread``: the daemon."""

from __future__ import annotations

import sys

from txspread.daemon.command import main

if __name__ == "__main__":
    sys.exit(main())
