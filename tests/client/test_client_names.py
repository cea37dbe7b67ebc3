import pytest

from txspread.client.errors import IllegalSpread
from txspread.client.names import (
    EndpointAddress,
    TcpAddress,
    UnixAddress,
    parse_spread_name,
)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (None, UnixAddress("/tmp/4803")),
        ("", UnixAddress("/tmp/4803")),
        ("4803", UnixAddress("/tmp/4803")),
        (" 15000", UnixAddress("/tmp/15000")),
        ("4803@localhost", TcpAddress("localhost", 4803)),
        ("15000 @127.0.0.1", TcpAddress("127.0.0.1", 15000)),
        ("15000@127.0.0.1 what follows is ignored", TcpAddress("127.0.0.1", 15000)),
        ("tcp:example.net:4803", TcpAddress("example.net", 4803)),
        ("tcp:host=example.net:port=4803", TcpAddress("example.net", 4803)),
        ("tcp:example.net:port=4803", TcpAddress("example.net", 4803)),
        (r"tcp:\:\:1:4803", TcpAddress("::1", 4803)),
        ("unix:/run/spread", UnixAddress("/run/spread")),
        ("unix:path=/run/spread", UnixAddress("/run/spread")),
        ("tls:example.net:4803", EndpointAddress("tls:example.net:4803")),
        ("tcp:h:1:timeout=3", EndpointAddress("tcp:h:1:timeout=3")),
    ],
)
def test_a_spread_name_is_understood(name, address):
    assert parse_spread_name(name) == address


@pytest.mark.parametrize(
    "name",
    [
        "15000:127.0.0.1",
        "@127.0.0.1",
        "15000@@127.0.0.1",
        "4803@",
        "bogus@127.0.0.1",
        "bogus",
        "0",
        "65536@localhost",
        "99999@127.0.0.1",
        "4803@" + "h" * 66,
        "tcp:host",
        "tcp::4803",
        "tcp:host:port",
        "unix:",
        "4803x",
        "-5",
    ],
)
def test_a_malformed_name_is_refused_and_the_error_quotes_it(name):
    with pytest.raises(IllegalSpread) as caught:
        parse_spread_name(name)
    assert caught.value.code.value == -1
    assert name[:20] in str(caught.value)


def test_the_longest_name_is_accepted():
    host = "h" * 65
    assert parse_spread_name(f"4803@{host}") == TcpAddress(host, 4803)
