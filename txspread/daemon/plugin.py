"""The ``twist`` and ``twistd`` plugin: ``twist spread --config FILE --name NAME``."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.application.service import IService, IServiceMaker
from twisted.plugin import IPlugin
from twisted.python import usage
from zope.interface import implementer

from txspread.config import ConfigurationError
from txspread.daemon.access_files import AccessError, make_authentication
from txspread.daemon.command import read_configuration, show_configuration
from txspread.daemon.event_log import EventLog
from txspread.daemon.service import SpreadService
from txspread.daemon.time_file import default_directory
from txspread.daemon.twisted_log import write_to_twisted


class Options(usage.Options):
    """Options of ``twist spread``, named as those of the ``txspread`` command."""

    optParameters: ClassVar[list[list[object]]] = [
        ["config", "c", None, "configuration file"],
        ["name", "n", None, "be the daemon of this name in the configuration"],
        ["socket-directory", None, "/tmp", "directory of the Unix socket"],
        ["state-directory", None, default_directory(), "directory of what is kept over restarts"],
    ]
    optFlags: ClassVar[list[list[object]]] = [
        ["no-unix-socket", None, "serve TCP only"],
    ]


@implementer(IServiceMaker, IPlugin)
class SpreadServiceMaker:
    """Makes the service from the options."""

    tapname = "spread"
    description = "Spread group-communication daemon"
    options = Options

    def makeService(self, options: Any) -> IService:  # noqa: ANN401 - Twisted's Options
        """Read the configuration and make the daemon's service."""
        log = EventLog(write_to_twisted)
        try:
            configuration, me = read_configuration(options["config"], options["name"])
            log.configure(configuration)
            authentication = make_authentication(configuration, log)
        except (ConfigurationError, AccessError) as error:
            raise usage.UsageError(str(error)) from error
        show_configuration(log, configuration, me)
        return SpreadService(
            configuration,
            me,
            log,
            socket_directory=None if options["no-unix-socket"] else options["socket-directory"],
            drop_privileges=True,
            authentication=authentication,
            state_directory=options["state-directory"],
        )
