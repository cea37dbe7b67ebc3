"""``txsptuser``: the interactive client that prints messages while one types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from txspread.tools.user import run_program


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program; ``arguments`` default to the command line.

    :raises SystemExit: with status 0, as upstream's does also on errors.
    """
    run_program(True, arguments)


if __name__ == "__main__":
    main()
