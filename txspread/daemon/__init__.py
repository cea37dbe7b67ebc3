"""The Twisted shell round the engine: sockets, service, logging, command line."""
