"""Between Twisted's log and the daemon's: failures in, lines out."""

from __future__ import annotations

from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    formatEventAsClassicLogText,
    globalLogBeginner,
)
from zope.interface import provider

from txspread.daemon.event_log import EventLog
from txspread.engine.alarms import Category, Priority


def show_failures(log: EventLog) -> None:
    """Send what Twisted reports as an error to the daemon's log."""

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        level = event.get("log_level")
        if level is not None and level >= LogLevel.error:
            text = formatEventAsClassicLogText(event)
            log.alarm(Category.PRINT, Priority.CRITICAL, "Internal error: %s", (text or "").strip())

    globalLogBeginner.beginLoggingTo([observe], redirectStandardIO=False, discardBuffer=True)


def write_to_twisted(text: str) -> None:
    """Send a line of the daemon's log to Twisted's, under ``twist``."""
    _logger.info("{text}", text=text.rstrip("\n"))


_logger = Logger(namespace="spread")
