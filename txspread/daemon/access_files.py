"""The files that authentication of clients reads, and the check of passwords.

``spread.access_ip`` is looked for in the working directory at start, then in
``/etc``; without it every check of the IP method fails.  Passwords are an extra
that is off unless a file is named on the command line, and needs the system's
``crypt``.

Source: ``docs/protocol/client-session.md`` section 2.7.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from txspread.config.model import Configuration
from txspread.engine.alarms import AlarmSink, Category, Priority
from txspread.engine.authentication import (
    AccessFileError,
    AccessRules,
    Authentication,
    PasswordVerifier,
    parse_access_ip,
    parse_access_pword,
)

SEARCHED: Final = ("spread.access_ip", "/etc/spread.access_ip")


class AccessError(Exception):
    """An access file is bad, or passwords cannot be checked on this system."""


def make_authentication(
    configuration: Configuration, alarms: AlarmSink, password_file: str | None = None
) -> Authentication:
    """Methods in force, with the files they need.

    Raises:
        AccessError: a file cannot be used.

    """
    passwords: Mapping[bytes, bytes] | None = None
    verify: PasswordVerifier | None = None
    if password_file is not None:
        passwords = _read_passwords(password_file)
        verify = system_verifier()
    return Authentication.build(
        configuration.allowed_auth_methods,
        configuration.required_auth_methods,
        _read_rules(alarms),
        passwords,
        verify,
    )


def _read_rules(alarms: AlarmSink) -> AccessRules | None:
    for name in SEARCHED:
        try:
            text = Path(name).read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            continue
        except OSError as error:
            raise AccessError(f"{name}: {error.strerror}") from error
        try:
            rules = parse_access_ip(text)
        except AccessFileError as error:
            raise AccessError(f"{name}: {error}") from error
        for warning in rules.warnings:
            alarms.alarm(
                Category.PRINT | Category.SECURITY, Priority.WARNING, "%s: %s", name, warning
            )
        return rules
    alarms.alarm(
        Category.SECURITY | Category.ACM,
        Priority.INFO,
        "ip_init: no file %s: the IP method lets nobody in",
        " or ".join(SEARCHED),
    )
    return None


def _read_passwords(name: str) -> dict[bytes, bytes]:
    try:
        return parse_access_pword(Path(name).read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError as error:
        raise AccessError(f"{name}: {error.strerror}") from error
    except (AccessFileError, UnicodeError) as error:
        raise AccessError(f"{name}: {error}") from error


def system_verifier() -> PasswordVerifier:
    """A check of passwords with the system's ``crypt``.

    Raises:
        AccessError: the system has none.

    """
    name = ctypes.util.find_library("crypt")
    if name is None:
        raise AccessError("passwords cannot be checked: this system has no crypt library")
    crypt = ctypes.CDLL(name, use_errno=True).crypt
    crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    crypt.restype = ctypes.c_char_p

    def verify(password: bytes, crypted: bytes) -> bool:
        result: bytes | None = crypt(password, crypted)
        return result is not None and bool(crypted) and hmac.compare_digest(result, crypted)

    return verify
