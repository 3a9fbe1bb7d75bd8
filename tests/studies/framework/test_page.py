"""`report.html` of the studies, and verdicts from measurements alone."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from studies.framework.tiny import Tiny

from rnnnorm.cli import main
from rnnnorm.studies.framework.measurements import read, save
from rnnnorm.studies.framework.page import build, effect, interval, strip, tally

if TYPE_CHECKING:
    from tests.studies.framework.conftest import Runner

pytestmark = pytest.mark.filterwarnings("ignore")

VOID = {"meta", "link", "br", "hr", "img", "input", "source", "col", "wbr"}


class Reader(HTMLParser):
    """Collects tags, ids and links, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.order: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._note(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> where <{self.open[-1]}> is open, line {self.getpos()[0]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def _note(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert len(found) == len(attrs), f"<{tag}> has an attribute twice"
        self.order.append(f"{tag}.{found.get('class')}" if found.get("class") else tag)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        for key in ("href", "src", "xlink:href", "srcset", "data", "poster", "action"):
            if found.get(key):
                self.links.append(str(found[key]))


def page(tiny: Runner) -> Reader:
    return Reader((tiny.out / "report.html").read_text())


def report(tiny: Runner) -> int:
    return main(["report", str(tiny.out)])


def test_it_is_well_formed_and_every_link_leads_somewhere(finished: Runner) -> None:
    found = page(finished)
    assert len(found.ids) == len(set(found.ids))
    assert found.links
    assert {link for link in found.links if not link.startswith("#")} == set()
    assert {link[1:] for link in found.links} <= set(found.ids)


def test_it_needs_nothing_from_elsewhere(finished: Runner) -> None:
    text = (finished.out / "report.html").read_text()
    names = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink", "http://purl.org", "http://www.w3.org")
    for name in names:  # of XML, never fetched
        text = text.replace(name, "")
    assert "http" not in text
    assert "<script src" not in text
    assert "@import" not in text
    assert all(inside.startswith(("#", "data:")) for inside in re.findall(r"url\(['\"]?([^)]*)", text))


def test_it_has_anchors_for_studies_and_claims_and_the_table_comes_first(finished: Runner) -> None:
    found = page(finished)
    assert {"tiny", "tiny-higher", "tiny-lower", "tiny-either"} <= set(found.ids)
    assert {"#tiny", "#tiny-higher", "#tiny-lower", "#tiny-either"} <= set(found.links)
    assert found.order.index("table.claims") < found.order.index("article")
    assert found.order.index("table.claims") < found.order.index("figure")


def test_it_has_light_and_dark_colours(finished: Runner) -> None:
    text = (finished.out / "report.html").read_text()
    assert "prefers-color-scheme: dark" in text
    used = set(re.findall(r"var\((--[\w-]+)", text))
    defined = re.findall(r"(--[\w-]+):", text)
    assert used <= set(defined)
    assert all(defined.count(name) >= 2 for name in ("--yes", "--no", "--mixed"))
    assert "width=device-width" in text


def test_special_characters_are_text(finished: Runner) -> None:
    text, found = (finished.out / "report.html").read_text(), page(finished)
    for raw in ("<bold>", "<b>bold", "<1999>", "<tiny>", "<units>", "<2>", "<size>", "<lines>"):
        assert raw not in text, raw
    for shown in ("& <b>bold</b>.", '"et al." <1999>', "a <tiny> study &", "numbers & <units>", "size <2> & more"):
        assert shown in found.text, shown
    assert "<code>ln</code>" in text
    assert "numbers < infinity & code." in found.text


def test_it_shows_verdicts_effects_and_how_to_run_it_again(finished: Runner) -> None:
    text = " ".join(page(finished).text.split())
    assert "1✓ supported 1✗ opposite 0≈ negligible 1± heterogeneous 0? undecided" in text
    assert "heterogeneous 1 ✓ 1 ✗" in text
    assert "15 of 15 trials, full configuration" in text
    assert "rnnnorm study tiny --out" in text
    assert "max_epochs: 2" in text
    assert text.count("Nobody, 2001") >= 2
    assert "Published: 10 & more" in text


def test_a_study_without_anything_to_say_has_a_section(tiny: Runner) -> None:
    assert tiny(name="bare") == 0
    found = page(tiny)
    assert "bare" in found.ids
    assert "2 of 2 trials" in found.text
    assert report(tiny) == 0


def test_nothing_at_all_is_a_page_too(tiny: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("not today")

    monkeypatch.setattr(Tiny, "measure", fail)
    assert tiny("--quick") == 1
    assert "tiny" not in page(tiny).ids


def test_the_report_of_measurements_alone_is_the_same(finished: Runner, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(finished) == 0  # the page names the folder, which the copy has changed
    before, text = json.loads((finished.folder / "verdict.json").read_text()), page(finished).text
    for path in finished.folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name.startswith("figure"):
            path.unlink()
    assert report(finished) == 0
    assert "report.html" in capsys.readouterr().out
    assert json.loads((finished.folder / "verdict.json").read_text()) == before
    assert re.sub(r"\d+ minutes", "", page(finished).text) == re.sub(r"\d+ minutes", "", text)
    assert (finished.folder / "figure.png").is_file()
    assert (finished.folder / "figure.svg").is_file()


@pytest.mark.parametrize("left", ["verdict.json", "study.yaml", "both"])
def test_the_table_alone_is_enough(finished: Runner, left: str) -> None:
    for name in ("verdict.json", "study.yaml"):
        if left in (name, "both"):
            (finished.folder / name).unlink()
    shutil.rmtree(finished.folder / "part=trained")
    assert report(finished) == 0
    assert finished.verdicts() == {"higher": "supported", "lower": "opposite", "either": "heterogeneous"}
    assert "tiny" in page(finished).ids


def test_verdicts_flip_with_the_measurements(finished: Runner) -> None:
    table = read(finished.folder)
    table["norm"] = table["norm"].map({"none": "ln", "ln": "none"})
    save(table, finished.folder)
    assert report(finished) == 0
    assert finished.verdicts() == {"higher": "opposite", "lower": "supported", "either": "heterogeneous"}
    assert "1✓ supported" in " ".join(page(finished).text.split())
    shrunk = read(finished.folder)
    shrunk = shrunk[(shrunk["size"] != 0.5)]
    save(shrunk, finished.folder)
    assert report(finished) == 0
    assert finished.verdicts() == {"higher": "opposite", "lower": "supported", "either": "opposite"}


def test_verdicts_vanish_with_the_measurements(finished: Runner) -> None:
    table = read(finished.folder)
    save(table[table["quantity"] != "number"], finished.folder)
    assert report(finished) == 0
    assert finished.verdicts() == {}


def test_half_a_study_can_be_reported(finished: Runner) -> None:
    table = read(finished.folder)
    for rows in (table[table["seed"] == 0], table[table["part"] == "trained"], table.iloc[:1], table.iloc[-1:]):
        save(rows, finished.folder)
        assert report(finished) == 0
        page(finished)


@pytest.mark.parametrize("part", ["judge", "panels", "findings"])
def test_a_study_that_cannot_be_concluded_does_not_take_the_page_along(
    finished: Runner, part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a column that is not there")

    assert finished(name="bare") == 0
    (finished.out / "report.html").unlink()
    monkeypatch.setattr(Tiny, part, fail)
    assert report(finished) == 1
    said = capsys.readouterr()
    assert "a column that is not there" in said.out + said.err
    assert "bare" in page(finished).ids


@pytest.mark.parametrize("name", ["empty", "nope", "tiny"])
def test_a_folder_without_studies_is_refused(
    finished: Runner, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`tiny`: the folder of one study, where that of all of them belongs."""
    (finished.out / "empty").mkdir()
    assert main(["report", str(finished.out / name)]) == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, "–"), (float("nan"), "–"), (float("inf"), "–"), (0.0, "0"), (0.5, "0.5"), (-0.12345, "−0.123")),
        *((1e-12, "1e−12"), (999.4, "999"), (1234.0, "1,230"), (-25128.0, "−25,100"), (1e6, "1e+06")),
    ],
)
def test_effects_are_short_numbers(value: float | None, text: str) -> None:
    assert effect(value) == text


def test_intervals_are_two_numbers_or_nothing() -> None:
    assert interval([-1.0, 2.5]) == "[−1, 2.5]"
    assert interval([None, None]) == ""


def test_a_tally_counts_the_conditions() -> None:
    cases = [{"standing": standing} for standing in ("supported", "opposite", "supported", "undecided", "not learned")]
    assert tally(cases) == "2 ✓ 1 ✗ 1 ? 1 –"
    assert tally(cases[:1]) == "1 ✓"
    assert tally([]) == ""


def test_strips_share_one_scale() -> None:
    cases = [
        {"needed": "> 0", "effect": 1.0, "interval": [0.0, 2.0], "standing": "undecided"},
        {"needed": "< -2", "null": -2.0, "effect": None, "interval": [None, None], "standing": "undecided"},
        {"needed": "> 1e-05", "null": 1e-05, "effect": 2.0, "interval": [None, None], "standing": "undecided"},
    ]
    drawn = [str(one) for one in strip(cases)]
    assert [re.findall(r'class="limit"', one) for one in drawn] == [['class="limit"']] * 3
    assert 'x1="8.0" x2="8.0"' in drawn[1]  # -2, the smallest number of all
    assert 'cx="192.0"' in drawn[2]  # 2, the largest
    assert 'cx="146.0"' in drawn[0]  # 1, three quarters of the way
    assert "circle" not in drawn[1]
    same = {"needed": "> 0", "effect": 0.0, "interval": [0.0, 0.0], "standing": "opposite"}
    assert "nan" not in str(strip([same])[0])


def test_verdicts_of_an_earlier_version_are_left_out(finished: Runner, caplog: pytest.LogCaptureFixture) -> None:
    content = json.loads((finished.folder / "verdict.json").read_text())
    for verdict in content["verdicts"]:
        del verdict["p"]
    (finished.folder / "verdict.json").write_text(json.dumps(content))
    assert "tiny" not in build(finished.out).read_text()
    assert "earlier version" in caplog.text
