"""The page of results: one file with everything in it."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from bench import page
from bench.detection import Detection
from bench.document import Findings, write_json
from bench.memory import Memory
from bench.report import Series
from bench.shapes import Result, Shape, Storm, Workload
from bench.soak import Soak
from txspread.wire.constants import ServiceType


def need_libraries():
    pytest.importorskip("jinja2", reason="the page needs the extra 'bench'")
    pytest.importorskip("matplotlib", reason="the page needs the extra 'bench'")


def findings():
    kinds = ["base", "<mine>"]
    table = []
    for body in (32, 1024, 100000):
        work = Workload(Shape(3, True), body, 1, 10, ServiceType.SAFE_MESS)
        row = [Series(work, kind) for kind in kinds]
        for number, one in enumerate(row):
            for noise in (1.0, 1.1, 0.9):
                rate = 1e6 / body * noise * (1 + number)
                one.results.append(
                    Result(rate, rate * body / 1e6, 12.5, 0.7, 0.31, 100, 200, 300, 400)
                )
        table.append(row)
    for groups in (1, 1000):
        storm = Storm(Shape(3), groups)
        table.append([Series(storm, kind, [Result(4321.0, cpu=20)]) for kind in kinds])
    table[0][1].errors.append("a generator <fell> over")
    soaks = [
        Soak(kind, (0.0, 1.0, 2.0), ((900.0, 950.0, 950.0),) * 3, (1.5,) * 3, (0.0,) * 3, {"x": 1})
        for kind in kinds
    ]
    return Findings(
        kinds,
        "base",
        {"base": "Version 4.04.00"},
        table,
        {"1 daemon, base": 0.001},
        [Detection(kind, 3, "low", 0, (0.25, 0.26)) for kind in kinds],
        [Memory(kind, 40000, 1.5, 0.25, 1.125, 64) for kind in kinds],
        soaks,
    )


@pytest.fixture(scope="module")
def text():
    need_libraries()
    return page.render(findings().document())


class Links(HTMLParser):
    """What the page would have a browser load."""

    def __init__(self):
        super().__init__()
        self.found = []
        self.tags = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.found += [
            value
            for name, value in attrs
            if name in ("src", "href", "xlink:href", "data") and not value.startswith("#")
        ]


def test_the_page_needs_nothing_but_itself_and_shows_everything(text):
    links = Links()
    links.feed(text)
    assert links.found == []
    assert not links.tags & {"script", "link", "img", "iframe"}
    assert "@import" not in text
    for shown in (
        "3 daemons accelerated, 1→10, 1024 B, SAFE",
        "Version 4.04.00",
        "&lt;mine&gt;",
        "2.00)",
        "a generator &lt;fell&gt; over",
        "4,321",
        "1.125",
        "joins and leaves a second",
        "ms until clients know, low timeouts",
        "resident memory, MiB",
        "latency, at half of the peak",
        "31%",
    ):
        assert shown in text
    assert "<mine>" not in text
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    # Five of messages, three of storms, one of detection, two of soaks.
    assert len(pictures) == 5 + 3 + 1 + 2
    for picture in pictures:
        ElementTree.fromstring(picture)


def test_pictures_do_not_share_ids(text):
    found = []
    for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        found += set(re.findall(r'<clipPath id="([^"]+)"', picture))
    assert len(found) == len(set(found)) > 0


def test_a_page_of_almost_nothing():
    need_libraries()
    text = page.render(Findings(["one"], "one").document())
    assert "<svg" not in text
    alone = Findings(["one"], "one", table=[[Series(Storm(Shape(1), 5), "one")]])
    assert "1 daemon, storm, 5 groups" in page.render(alone.document())


def test_the_command_makes_a_page_of_saved_results(tmp_path, capsys):
    need_libraries()
    saved, output = tmp_path / "saved.json", tmp_path / "page.html"
    write_json(Findings(["one"], "one").document(), saved)
    assert page.main([str(saved), "-o", str(output)]) == 0
    assert "Spread daemons side by side" in output.read_text(encoding="utf-8")
    assert page.main([str(tmp_path / "missing.json"), "-o", str(output)]) == 2
    assert "missing.json" in capsys.readouterr().err


def test_without_the_libraries_it_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(page.importlib.util, "find_spec", lambda name: None)
    saved = tmp_path / "saved.json"
    write_json(findings().document(), saved)
    assert page.main([str(saved), "-o", str(tmp_path / "page.html")]) == 2
    assert "pip install -e '.[bench]'" in capsys.readouterr().err
