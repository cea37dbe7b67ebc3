"""``txspuser``: the interactive client, in the place of upstream's spuser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from txspread.tools.user import run_program


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program; ``arguments`` default to the command line.

    :raises SystemExit: with status 0, as upstream's does also on errors.
    """
    run_program(False, arguments)


if __name__ == "__main__":
    main()
