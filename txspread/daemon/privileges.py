"""What a daemon started as root gives up, and when it stays root.

Upstream looks up ``DaemonGroup`` and ``DaemonUser``, changes its root directory
to ``RuntimeDir`` and becomes that user; it exits where one of them is missing.
Here:

* a missing user or group is a warning and the daemon goes on as it is: in
  containers there often is no such user and root is not what it is elsewhere;
* the root directory is changed only if ``RuntimeDir`` is *stated*, because inside
  it no file can be read again (a reload, host names, time zones); a stated one
  that cannot be used is an error.

Source: ``docs/configuration.md`` section 8.6.
"""

from __future__ import annotations

import grp
import os
import pwd
import time
from typing import Final

from attrs import frozen

from txspread.config.model import Configuration
from txspread.engine.alarms import AlarmSink, Category, Priority

DEFAULT_USER: Final = "spread"
DEFAULT_GROUP: Final = "spread"


class PrivilegeError(Exception):
    """A privilege could not be given up although it should be."""


@frozen
class Target:
    """Whom the daemon becomes."""

    user: int
    group: int
    runtime_dir: str | None


def target(configuration: Configuration, alarms: AlarmSink) -> Target | None:
    """Whom to become; None for a daemon that is not root, or must stay root."""
    if os.geteuid() != 0:
        alarms.alarm(Category.SECURITY, Priority.INFO, "Spread: not running as root, won't chroot")
        return None
    user_name = configuration.daemon_user or DEFAULT_USER
    group_name = configuration.daemon_group or DEFAULT_GROUP
    try:
        group = grp.getgrnam(group_name).gr_gid
        user = pwd.getpwnam(user_name).pw_uid
    except KeyError as error:
        alarms.alarm(
            Category.PRINT,
            Priority.WARNING,
            "Spread: SECURITY RISK! no privilege drop to user/group '%s/%s' (DaemonUser and "
            "DaemonGroup in spread.conf): %s; going on as root",
            user_name,
            group_name,
            error.args[0],
        )
        return None
    return Target(user, group, configuration.runtime_dir or None)


def drop(to: Target, alarms: AlarmSink) -> None:
    """Become the target: root directory, supplementary groups, group, user.

    Raises:
        PrivilegeError: some step failed; the process may be left half-way.

    """
    if to.runtime_dir is not None:
        # The time zone is read once, at first use: not from inside the new root.
        time.localtime()
        try:
            os.chdir(to.runtime_dir)
            os.chroot(".")
        except OSError as error:
            raise PrivilegeError(
                f"Spread: FAILED chroot to '{to.runtime_dir}' ({error.strerror})"
            ) from error
    try:
        os.setgroups([to.group])
        os.setgid(to.group)
        os.setuid(to.user)
    except OSError as error:
        raise PrivilegeError(
            f"Spread: FAILED privilege drop to user/group {to.user}/{to.group} ({error.strerror})"
        ) from error
    alarms.alarm(Category.SECURITY, Priority.INFO, "Spread: setugid and chroot successeful")
