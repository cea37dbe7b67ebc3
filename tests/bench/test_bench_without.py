"""Each step towards speed can be taken away, and the daemon works without it."""

from __future__ import annotations

import pytest

from bench.clusters import Cluster, parse_kind
from bench.latency import Probe
from bench.without import STEPS, main
from txspread.form import form
from txspread.wire.constants import ServiceType

pytestmark = pytest.mark.skipif(
    form() != "plain Python", reason="steps are taken away from sources that are not compiled"
)


def test_a_ring_of_daemons_that_each_lack_one_step_delivers():
    kind = parse_kind("less=" + ",".join(f"without:{step}" for step in sorted(STEPS)))
    cluster = Cluster.start(kind, len(STEPS))
    try:
        addresses = [member.address for member in cluster.members]
        for sender in addresses:
            probe = Probe(sender, addresses, 100, int(ServiceType.AGREED_MESS))
            try:
                assert len(probe.run(0.05)) >= len(addresses)
            finally:
                probe.close()
        assert "Traceback" not in cluster.log()
    finally:
        cluster.stop()


def test_an_unknown_step_is_an_error():
    with pytest.raises(KeyError):
        main(["nothing", "-c", "none"])
