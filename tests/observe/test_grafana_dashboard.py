"""The Grafana dashboard asks for metrics that exist."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

FOLDER = Path(__file__).parents[2] / "tools" / "grafana"


def test_the_dashboard_is_what_its_script_makes():
    spec = importlib.util.spec_from_file_location("make_dashboard", FOLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (FOLDER / "spread.json").read_text() == module.text()


def test_every_metric_of_the_dashboard_is_exposed(observe, eventually):
    one = observe(2)[0]
    eventually(lambda: b"spread_dropped_total{" in one.ask("/metrics")[2])
    exposed = {
        sample.name
        for family in text_string_to_metric_families(one.ask("/metrics")[2].decode())
        for sample in family.samples
    }
    dashboard = json.loads((FOLDER / "spread.json").read_text())
    asked = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            asked |= set(re.findall(r"\b(?:spread|process)_\w+", target["expr"]))
    assert len(asked) > 15
    assert asked <= exposed
