"""The one error that reading a configuration may raise."""

from __future__ import annotations

from attrs import define


@define(eq=False, slots=False)
class ConfigurationError(Exception):
    """A spread.conf that cannot be used, or a daemon that is not in it.

    ``line`` and ``column`` count characters from 1 and point at the offending
    token; both are None when the file as a whole is at fault (a daemon that is
    not in it, windows that contradict each other by default, a file that cannot
    be opened).  ``str()`` gives one line: ``spread.conf:3:12: message``.
    """

    message: str
    """What is wrong, and what to do about it where that is known."""
    file_name: str | None = None
    line: int | None = None
    column: int | None = None
    expected: tuple[str, ...] = ()
    """What could have stood there, in words; empty when the token itself is right."""
    found: str | None = None
    """Text of the offending token; empty at the end of the file."""

    def __str__(self) -> str:
        place = self.file_name or "configuration"
        if self.line is not None:
            place += f":{self.line}"
            if self.column is not None:
                place += f":{self.column}"
        return f"{place}: {self.message}"
