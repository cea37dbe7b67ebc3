"""The client library: a Twisted connection to any Spread 4 daemon."""
