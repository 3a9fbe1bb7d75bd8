"""Published measurements: verdicts, figures and page from them alone, a repetition, and the page of this project."""

from __future__ import annotations

import json
import lzma
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rnnnorm.cli import main
from rnnnorm.engine.records import finite
from rnnnorm.studies.framework.conclude import read_verdict
from rnnnorm.studies.framework.measurements import FILE, PACKED, read, save
from rnnnorm.studies.framework.page import concluded
from rnnnorm.studies.framework.sitting import sitting, sittings

if TYPE_CHECKING:
    from tests.studies.framework.conftest import Runner

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What scripts/findings.py defines."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return runpy.run_path(str(ROOT / "scripts" / "findings.py"))


@pytest.fixture
def publish(script: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    def publish(*arguments: object) -> Path:
        docs = tmp_path / "docs"
        docs.mkdir(exist_ok=True)
        script["main"]([*map(str, arguments), "--docs", str(docs)])
        return docs

    return publish


def module(name: str) -> Any:
    """A part of the script; only where the fixture `script` is."""
    return sys.modules[f"findings.{name}"]


def reseeded(out: Path, first: int) -> Path:
    """A copy of a run with other seeds, and without the folders of its trials."""
    copy = out.with_name(f"from-{first}")
    table = read(out / "tiny")
    (copy / "tiny").mkdir(parents=True)
    save(table.assign(seed=table["seed"] + first), copy / "tiny")
    settings = yaml.safe_load((out / "tiny" / "study.yaml").read_text())
    settings["seeds"] = [seed + first for seed in settings["seeds"]]
    (copy / "tiny" / "study.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return copy


def said(out: Path) -> dict[str, Any]:
    content = read_verdict(out / "tiny")
    assert content is not None
    return {key: content[key] for key in ("verdicts", "findings", "measured", "trials", "scale", "machine")}


def test_what_is_published_says_what_the_run_said(finished: Runner, publish: Callable[..., Path]) -> None:
    data = publish(finished.out) / "findings" / "data"
    assert not list(data.rglob(FILE))
    content = finite(concluded("tiny", data)[2])
    assert content["verdicts"]
    assert {key: content[key] for key in said(finished.out)} == said(finished.out)


def test_newer_trials_than_the_table_are_published(finished: Runner, publish: Callable[..., Path]) -> None:
    """A run that was killed has measured more than its table says."""
    whole = read(finished.folder)
    save(whole.iloc[:7], finished.folder)
    data = publish(finished.out) / "findings" / "data"
    assert len(read(data / "tiny")) == len(whole)


def test_the_report_makes_verdicts_and_figures_from_it(
    finished: Runner, publish: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = publish(finished.out)
    data, out = docs / "findings" / "data", tmp_path / "again"
    files = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    assert main(["report", str(data)]) == 2
    assert "--out DIR" in capsys.readouterr().err
    assert main(["report", str(data), "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == files
    assert said(out) == said(finished.out)
    assert (out / "report.html").is_file()
    pictures = [(out / "tiny" / "figure.png").read_bytes(), (docs / "findings" / "tiny.png").read_bytes()]
    assert pictures[0] == pictures[1]
    assert main(["report", str(out)]) == 0  # it is a folder as a run leaves it
    assert said(out) == said(finished.out)


def test_no_folder_of_the_machine_is_published(finished: Runner, publish: Callable[..., Path], tmp_path: Path) -> None:
    command = f"rnnnorm study tiny --out {finished.out} --data-dir={tmp_path}/data"
    with sitting(finished.out, command):
        pass
    docs = publish(finished.out)
    texts = [path.read_bytes() for path in docs.rglob("*") if path.is_file() and path.suffix not in (".png", ".xz")]
    texts += [lzma.decompress(path.read_bytes()) for path in docs.rglob(PACKED)]
    assert len(texts) > 3
    assert not [text for text in texts if str(tmp_path).encode() in text]
    assert "rnnnorm study tiny --out out --data-dir=data" in (docs / "findings.md").read_text()


def test_a_run_goes_on_from_what_is_published(finished: Runner, publish: Callable[..., Path], tmp_path: Path) -> None:
    with sitting(finished.out, "rnnnorm study tiny"):
        pass
    data = publish(finished.out) / "findings" / "data"
    packed = (data / "tiny" / PACKED).read_bytes()
    restored = tmp_path / "restored"
    publish("--restore", data, restored)
    assert [one["command"] for one in sittings(restored)] == ["rnnnorm study tiny"]
    assert finished(out=restored) == 0
    assert "15 of 15 trials done before: skipped" in finished.printed
    publish(restored)
    assert (data / "tiny" / PACKED).read_bytes() == packed
    with pytest.raises(SystemExit, match="expected a folder that is not"):
        publish("--restore", data, restored)
    with pytest.raises(SystemExit, match="holds no published study"):
        publish("--restore", tmp_path, tmp_path / "other")
    settings = data / "tiny" / "study.yaml"
    settings.write_text(settings.read_text().replace("- 1\n", "- 7\n"))
    with pytest.raises(SystemExit, match="expected measurements of its settings"):
        publish("--restore", data, tmp_path / "other")


def test_values_are_rounded_where_bytes_are_dear(finished: Runner, publish: Callable[..., Path]) -> None:
    data = publish(finished.out) / "findings" / "data"
    size, exact = (data / "tiny" / PACKED).stat().st_size, read(data / "tiny")
    publish(finished.out, "--digits", 3)
    assert (data / "tiny" / PACKED).stat().st_size < size
    rounded = read(data / "tiny")
    numbers = exact["quantity"] == "number"
    assert (rounded["value"][numbers] != exact["value"][numbers]).any()
    assert rounded["value"][numbers].tolist() == pytest.approx(exact["value"][numbers].tolist(), rel=5.1e-3)
    assert "3 significant digits" in (data / "README.md").read_text()
    with pytest.raises(SystemExit, match="--digits 7"):
        module("publish").check_size(data, 100)


def test_the_page_follows_the_measurements(finished: Runner, publish: Callable[..., Path]) -> None:
    docs = publish(finished.out)
    text = (docs / "findings.md").read_text()
    assert publish() == docs
    assert (docs / "findings.md").read_text() == text
    other = reseeded(finished.out, 0)
    table = read(other / "tiny")
    save(table.assign(norm=table["norm"].map({"none": "ln", "ln": "none"})), other / "tiny")
    publish(other)
    assert (docs / "findings.md").read_text() != text


def test_exploratory_and_confirmatory_results_are_apart(finished: Runner, publish: Callable[..., Path]) -> None:
    docs = publish(finished.out)
    text = (docs / "findings.md").read_text()
    assert "**exploratory**" in text
    assert "## Confirmatory results" not in text
    assert "a commit that was not noted" in text
    (docs / "findings" / "slots.md").write_text("# Slots that hardly vary\n\nText.\n")
    publish(reseeded(finished.out, 1000), "--commit", "0123abc")
    text = " ".join((docs / "findings.md").read_text().split())
    assert "**3 of 3 claims are decided**: 1 supported, 1 opposite, 0 negligible, 1 heterogeneous" in text
    assert "1000 to 1002, had not been used before" in text
    assert "commit `0123abc`" in text
    assert "[Slots that hardly vary](findings/slots.md)" in text
    confirmed, explored = text.split("## Exploratory results")
    assert "### ✓ supported: 1 |" in confirmed.split("## Confirmatory results")[1]
    assert "### ✓ supported" not in explored


CASE = {"condition": "a", "in_scope": True, "standing": "undecided", "seeds_to_decide": 55, "n": 40}


PAGE = """{{ p.size("tiny", key, condition) }}, n = {{ p.seeds("tiny", key, condition) }}
{{ p.verdict("tiny", key, word) }}: {{ p.said("tiny", key) }} {{ p.level("tiny", "number", norm="none") }}
"""


def test_a_page_on_a_single_finding_has_its_numbers_from_the_measurements(
    finished: Runner, publish: Callable[..., Path], script: dict[str, Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data = publish(finished.out) / "findings" / "data"
    folder = tmp_path / "pages"
    folder.mkdir()
    monkeypatch.setattr(module("single"), "PAGES", folder)
    found, _ = script["published"](data.parents[1])
    verdict = found["tiny"]["verdicts"][0]
    condition, word = verdict["conditions"][0], verdict["verdict"]

    def rendered(**names: str) -> str:
        given = {"key": verdict["key"], "condition": condition["condition"], "word": word, **names}
        assigned = "".join(f"{{% set {name} = {value!r} %}}" for name, value in given.items())
        (folder / "tiny.md").write_text(assigned + PAGE)
        return dict(module("single").pages(data, found))["tiny.md"]

    text = rendered()
    assert f"n = {condition['n']}" in text
    assert word in text
    assert f"{word}; of {len(verdict['conditions'])} conditions" in text
    with pytest.raises(SystemExit, match="must be written anew"):
        rendered(word="undecided")
    with pytest.raises(SystemExit, match="there are: "):
        rendered(key="other")
    with pytest.raises(SystemExit, match="names condition 'elsewhere'"):
        rendered(condition="elsewhere")
    (folder / "tiny.md").write_text('{{ p.level("other", "number") }}')
    assert not dict(module("single").pages(data, found))


@pytest.mark.parametrize(
    ("cases", "seeds", "reason"),
    [
        ([{}], "55 (1 condition)", "all 40 seeds of the protocol were bought"),
        ([{"n": 10}], "55 (1 condition)", "would take more than 40, and the time was over"),
        ([{"n": 10, "seeds_to_decide": 20}], "20 (1 condition)", "the time was over"),
        ([{"n": 5, "seeds_to_decide": None}], "–", "the number cannot be said, and the time was over"),
        (
            [{"seeds_to_decide": 3100}, {}, {"n": 20, "seeds_to_decide": 30}, {"in_scope": False, "n": 5}],
            "30 to 3,100 (3 conditions)",
            "all 40 seeds of the protocol were bought (2); the time was over (1)",
        ),
        ([{"seeds_to_decide": 100_000}], "> 100,000 (1 condition)", "all 40 seeds of the protocol were bought"),
        ([{"standing": "not learned"}], "–", "every condition is not learned: other conditions are needed, not seeds"),
        (
            [{"standing": "supported"}, {"standing": "negligible"}],
            "–",
            "all conditions are decided, but differ, and their mean is undecided: more conditions are needed",
        ),
    ],
)
def test_undecided_claims_have_a_number_of_seeds_and_a_reason(
    script: dict[str, Any], cases: list[dict[str, Any]], seeds: str, reason: str
) -> None:
    found = module("undecided").seeds_and_reason({"conditions": [{**CASE, **case} for case in cases]})
    assert found == (seeds, reason)


def test_a_claim_that_the_correction_took_says_so(script: dict[str, Any]) -> None:
    verdict = {"conditions": [{**CASE, "standing": "supported"}], "alone": "supported"}
    assert "supported by itself" in module("undecided").seeds_and_reason(verdict)[1]


def content(**standings: str) -> dict[str, Any]:
    conditions = [{"condition": name, "standing": standing, "n": 5} for name, standing in standings.items()]
    return {"verdicts": [{"key": "claim", "conditions": conditions}]}


def test_a_repetition_keeps_changes_reverses_or_leaves_open(script: dict[str, Any]) -> None:
    first = content(a="supported", b="supported", c="opposite", d="negligible", e="supported", f="undecided")
    second = content(a="supported", b="opposite", c="negligible", d="undecided", f="supported")
    part = module("repeated")
    found = part.compare({"one": first, "other": first}, {"one": second})
    assert [one.outcome for one in found] == ["kept", "reversed", "changed", "undecided again", "not repeated"]
    assert part.table(found).splitlines()[-1] == "| **all** | 5 | 1 | 1 | 1 | 1 | 1 |"
    assert "3 were decided again: 1 have the same standing, 1 another one, 33% of them" in part.summary(found)
    assert part.as_csv(found).splitlines()[2] == "one,claim,b,supported,5,opposite,5,reversed"


def test_the_repetition_stands_on_the_page(finished: Runner, publish: Callable[..., Path], tmp_path: Path) -> None:
    run, repetition = reseeded(finished.out, 1000), reseeded(finished.out, 5000)
    publish(run)
    docs = publish("--repeated", repetition)
    text = (docs / "findings.md").read_text()
    assert "## Repeated with other seeds" in text
    assert "Its seeds are 5000 to 5002" in text
    counted = re.search(r"Of (\d+) decided conditions of 1 studies (\d+) were decided again: (\d+) have", text)
    assert counted is not None
    assert len(set(counted.groups())) == 1
    assert "kept" in (docs / "findings" / "data" / "repeated" / "standings.csv").read_text()
    assert main(["report", str(docs / "findings" / "data" / "repeated"), "--out", str(tmp_path / "again")]) == 0
    publish(run)
    assert (docs / "findings.md").read_text() == text


def test_a_confirmatory_run_notes_its_sittings(tiny: Runner, without_pictures: None) -> None:
    tiny.write((tiny.files / "tiny.yaml").read_text().replace("trained: [none]", "trained: []"))
    assert tiny("--confirm") == 0
    assert tiny("--confirm", "--hours", "1") == 0
    first, second = sittings(tiny.out)
    assert {"command", "version", "commit", "machine", "began", "seconds"} == {*first}
    assert first["seconds"] >= 0
    assert "--hours" not in first["command"]
    assert "--hours 1" in second["command"]


def test_a_sitting_that_is_killed_has_noted_its_time(tmp_path: Path) -> None:
    with sitting(tmp_path, "rnnnorm study tiny") as note:
        (entry,) = sittings(tmp_path)
        entry["seconds"] += 0.1
        while sittings(tmp_path)[0]["seconds"] < entry["seconds"]:
            note()
        (entry,) = sittings(tmp_path)
        shutil.copyfile(tmp_path / "sittings.json", tmp_path / "killed.json")
    assert json.loads((tmp_path / "killed.json").read_text()) == [entry]


def test_the_page_of_this_project_agrees_with_what_is_published(script: dict[str, Any]) -> None:
    """Verdicts and page are made again; a page that names published measurements has them."""
    docs = ROOT / "docs"
    data, text = docs / "findings" / "data", (docs / "findings.md").read_text(encoding="utf-8")
    assert ("findings/data" in text) == data.is_dir()
    if not data.is_dir():  # the page of before: it has confirmed nothing
        assert "Confirmatory results" not in text
        return
    found, repetition = script["published"](docs)
    assert module("page").render(docs, found, repetition) == text, "run python scripts/findings.py"
    single = dict(module("single").pages(data, found))
    there = {path.name: path.read_text(encoding="utf-8") for path in (docs / "findings").glob("*.md")}
    assert single == there, "run python scripts/findings.py"
    pictures = {name for page in there.values() for name in re.findall(r"\]\((\S+\.png)\)", page)}
    assert all((docs / "findings" / name).is_file() for name in pictures)
    assert all((docs / "findings" / f"{name}.png").is_file() for name in found)
    assert module("publish").check_size(data) <= 10_000_000
    if repetition:
        again = module("repeated").as_csv(module("repeated").compare(found, repetition))
        assert (data / "repeated" / "standings.csv").read_text(encoding="utf-8") == again
