"""The status page in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


def show(url: str, profile: Path) -> str:
    """The page's elements after a few looks at the daemon."""
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=9000"]
    done = subprocess.run(
        [*command, "--dump-dom", url], capture_output=True, text=True, timeout=120, check=True
    )
    assert "Refused to" not in done.stderr, done.stderr
    return done.stdout


def test_the_page_draws_the_ring_and_fills_its_tables(observe, crowd, eventually, tmp_path):
    one, two, _three = observe(3)
    eventually(lambda: one.json("/status")["ring"]["members"] == 3)
    client = crowd.connect("127.0.1.7", one.service.me.port, name="carol")
    client.join("<b>lunch</b>")
    assert crowd.run_until(lambda: client.members("<b>lunch</b>") != ())
    two.running.call(two.service.stopService)
    eventually(lambda: one.json("/status")["ring"]["members"] == 2)
    eventually(lambda: (one.json("/series")["peers"]["d3"] or {}).get("rates"))

    dom = show(f"http://127.0.0.1:{one.status_service.port}/", tmp_path / "profile")
    assert int(re.search(r'data-looks="(\d+)"', dom)[1]) >= 2
    looks = dict(re.findall(r'class="daemon" data-name="(\w+)" data-look="(\w+)"', dom))
    assert looks == {"d1": "good", "d2": "off", "d3": "good"}
    assert dom.count('marker-end="url(#tip)"') == 2
    assert "2 / 3" in dom
    assert '<span class="chip lost">d2</span>' in dom
    assert "#carol#d1" in dom
    # A group's name is text, whatever it looks like.
    assert "&lt;b&gt;lunch&lt;/b&gt;" in dom
    assert "<b>lunch</b>" not in dom
    assert dom.count('class="plot"') == 4
    assert 'id="trouble" role="alert" style="display: none;"' in dom


def test_the_page_of_a_daemon_alone_has_a_picture_too(observe, tmp_path):
    one = observe(1)[0]
    dom = show(f"http://127.0.0.1:{one.status_service.port}/", tmp_path / "profile")
    assert re.findall(r'data-name="(\w+)" data-look="(\w+)"', dom) == [("d1", "good")]
    assert "no clients" in dom
    assert "no groups" in dom


def test_the_page_says_when_the_daemon_does_not_answer(observe, tmp_path):
    one = observe(1)[0]
    one.running.call(one.service.stopService)
    dom = show(f"http://127.0.0.1:{one.status_service.port}/", tmp_path / "profile")
    assert "No answer from the daemon" in dom
    assert 'role="alert" style="display: block;"' in dom
