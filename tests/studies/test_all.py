"""What every study owes its readers: a file, a question, claims with sources, trials that can be run."""

from __future__ import annotations

import importlib
import inspect
import json
import math
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from studies.tables import keep, reread

import rnnnorm.studies
from rnnnorm.compare.experiments import title
from rnnnorm.norms.presets import parse_norm
from rnnnorm.studies import ORDER, STUDIES
from rnnnorm.studies.framework.compose import inline_panels
from rnnnorm.studies.framework.measurements import collect
from rnnnorm.studies.framework.settings import Settings, from_description, load, study_file
from rnnnorm.studies.framework.study import Study
from rnnnorm.studies.framework.trial import Trial
from rnnnorm.studies.framework.work import parse

NAMES = list(STUDIES)
GUIDE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
ASIDE = {"norm", "seed", "quantity", "value", "t", "mode", "axis", "low", "high", "count"}
"""Columns that a condition of the same name would overwrite."""

each = pytest.mark.parametrize("name", NAMES)
sizes = pytest.mark.parametrize("quick", [True, False], ids=["quick", "full"])


def made(name: str, quick: bool, **keys: Any) -> Study:
    return STUDIES[name](load(name, quick, **keys))


def places(trials: list[Trial]) -> list[tuple[str, str, int]]:
    return [(trial.arm, trial.norm, trial.seed) for trial in trials]


def test_the_order_names_studies_and_others_come_last() -> None:
    assert tuple(STUDIES)[: len(ORDER)] == ORDER
    assert len(set(ORDER)) == len(ORDER)


def test_every_file_belongs_to_a_study() -> None:
    assert {path.stem for path in study_file("x").parent.glob("*.yaml")} == set(STUDIES)


@each
def test_names_files_and_docstrings_agree(name: str) -> None:
    cls = STUDIES[name]
    module = importlib.import_module(cls.__module__)
    assert cls.name == name
    assert module.__name__ == f"rnnnorm.studies.{name.replace('-', '_')}"
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
    assert len(module.__doc__ or "") > 20
    assert inspect.getdoc(cls)
    assert re.match(r"# .{15,}\?$", study_file(name).read_text(encoding="utf-8").splitlines()[0])
    assert title(study_file(name)).endswith("?")


@each
def test_it_asks_a_question_and_says_how_it_is_answered(name: str) -> None:
    cls = STUDIES[name]
    assert cls.question.endswith("?")
    assert len(cls.method) > 150
    assert not re.search(r"\s{2}|\n", cls.method)


@each
def test_every_claim_is_a_sentence_with_a_source(name: str) -> None:
    claims = STUDIES[name].claims
    assert claims
    assert len({claim.key for claim in claims}) == len(claims)
    for claim in claims:
        assert re.fullmatch(r"[a-z0-9]+([-_][a-z0-9]+)*", claim.key), claim.key
        assert len(claim.text) > 20
        assert claim.text.endswith(".")
        assert len(claim.source.strip()) > 5
        assert not claim.source.endswith("."), "the page puts the full stop"


@each
def test_places_are_named_in_papers_whose_text_was_read_only(name: str) -> None:
    """Of other papers abstracts, notes or code were at hand: their claims are told "after" them, without numbers."""
    read = ("Cooijmans et al.", "Ba et al.", "Ba, Kiros & Hinton", "Yang et al.")
    for claim in STUDIES[name].claims:
        for part in claim.source.split("; "):
            if re.search(r"\b(figures?|tables?|sections?) \d", part):
                assert any(paper in part for paper in read), part


@each
@sizes
def test_its_file_says_nothing_unknown_and_the_quick_part_changes_what_is_there(name: str, quick: bool) -> None:
    content = yaml.safe_load(study_file(name).read_text(encoding="utf-8"))
    assert set(content) <= {"seeds", "norms", "options", "data", "model", "trainer", "rates", "quick"}
    small = content["quick"]
    assert set(small) <= {"rates", *content} - {"quick"}  # rates are tuned for each size by itself
    assert set(small.get("options", {})) <= set(content.get("options", {}))
    settings = load(name, quick)
    for option in settings.options:
        assert settings.option(option) is not None


@each
@sizes
@pytest.mark.parametrize("real", [False, True], ids=["generated", "real"])
def test_no_two_trials_are_the_same(name: str, quick: bool, real: bool, tmp_path: Path) -> None:
    trials = made(name, quick, data_dir=str(tmp_path) if real else None).trials()
    assert trials
    assert len(set(places(trials))) == len(trials)
    assert len({trial.arm.lower() + trial.norm for trial in trials}) == len({t.arm + t.norm for t in trials})
    assert all(trial.weight > 0 for trial in trials)
    assert list(tmp_path.iterdir()) == []


@each
def test_quick_is_smaller_and_has_three_seeds(name: str) -> None:
    quick, full = made(name, True), made(name, False)
    assert 3 <= len(quick.settings.seeds) <= len(full.settings.seeds)
    assert len(quick.trials()) <= len(full.trials())
    by_point: dict[tuple[str, str], set[int]] = defaultdict(set)
    for trial in quick.trials():
        by_point[trial.arm, trial.norm].add(trial.seed)
    assert all(len(seeds) >= 3 for seeds in by_point.values()), min(by_point, key=lambda at: len(by_point[at]))


@each
@sizes
def test_every_norm_and_its_options_exist(name: str, quick: bool, tmp_path: Path) -> None:
    study = made(name, quick, data_dir=str(tmp_path))
    for norm in {*study.settings.norms, *(trial.norm for trial in study.trials())}:
        parse_norm(norm)


@each
@sizes
def test_conditions_survive_the_round_trip_through_csv(name: str, quick: bool, tmp_path: Path) -> None:
    kinds: dict[str, set[type]] = defaultdict(set)
    for trial in made(name, quick, data_dir=str(tmp_path)).trials():
        for key, value in trial.conditions.items():
            assert key not in ASIDE, f"{key} is a column of its own"
            assert not isinstance(value, bool), f"{key}: a truth value beside missing ones is neither"
            assert isinstance(value, str | int | float)
            assert not (isinstance(value, float) and math.isnan(value))
            if isinstance(value, str):
                assert value == value.strip() != ""
                assert not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|inf|-inf|True|False", value, re.IGNORECASE)
            kinds[key].add(str if isinstance(value, str) else float)
    assert all(len(types) == 1 for types in kinds.values()), {k: v for k, v in kinds.items() if len(v) > 1}


def distinct(trials: list[Trial], at_most: int) -> list[Trial]:
    """One trained trial for each class of data, for each set of keys, and so on until there are enough."""
    found: dict[str, Trial] = {}
    for trial in trials:
        if trial.config is not None:
            keys = [
                sorted(trial.config[part].get("init_args", {})) for part in ("data", "model") if part in trial.config
            ]
            sort = [trial.config["data"]["class_path"], keys, sorted(trial.config.get("trainer", {}))]
            found.setdefault(json.dumps(sort), trial)
    return list(found.values())[:at_most]


def parsed(trial: Trial, folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(dict(trial.config or {}), sort_keys=False))
    parse(str(path), trial.norm, str(folder / "out"))


@each
@sizes
@pytest.mark.filterwarnings("ignore")
def test_its_configurations_can_be_trained(name: str, quick: bool, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for trial in distinct(made(name, quick, data_dir=str(tmp_path / "data")).trials(), 8):
        parsed(trial, tmp_path)


@each
@sizes
def test_a_report_knows_the_same_trials(name: str, quick: bool, tmp_path: Path) -> None:
    for data_dir in (None, str(tmp_path)):
        study = made(name, quick, data_dir=data_dir)
        described = yaml.safe_load(yaml.safe_dump(study.settings.describe(), sort_keys=False))
        again = STUDIES[name](from_description(described))
        assert places(again.trials()) == places(study.trials())


@each
@pytest.mark.parametrize("norms", ["ln", "none", "bn-timestep", "ln:gain=0.5"])
def test_other_norms_are_taken_as_they_come(name: str, norms: str) -> None:
    trials = made(name, True, norms=norms).trials()
    assert trials
    assert len(set(places(trials))) == len(trials)


@each
def test_other_seeds_are_taken_as_they_come(name: str) -> None:
    few, others = made(name, True, seeds="1"), made(name, True, seeds="3,17")
    assert len(few.trials()) < len(made(name, True).trials()) + 1
    assert {3, 17} <= {trial.seed for trial in others.trials()}


@pytest.fixture
def parity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own task: the data module of CONTRIBUTING.md, and a YAML file that names it."""
    match = re.search(r"<!-- task: parity\.py -->\n```python\n(.*?)```", GUIDE, re.DOTALL)
    assert match
    (tmp_path / "own_parity.py").write_text(match[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.yaml").write_text("data: {class_path: own_parity.Parity, init_args: {batch_size: 16}}\n")
    yield tmp_path / "mine.yaml"
    sys.modules.pop("own_parity", None)


@each
@pytest.mark.filterwarnings("ignore")
def test_a_users_own_data_are_used_or_refused(name: str, parity: Path, tmp_path: Path) -> None:
    """Whatever is trained then is trained on them, by keys that they have."""
    try:
        study = made(name, True, own=str(parity))
        trials = study.trials()
    except ValueError as error:
        assert "own" in str(error) or "data" in str(error)  # noqa: PT017
        return
    assert len(set(places(trials))) == len(trials)
    trained = [trial for trial in trials if trial.config is not None]
    assert all("own_parity.Parity" in json.dumps((trial.config or {})["data"]) for trial in trained)
    for trial in distinct(trials, 4):
        parsed(trial, tmp_path)
    again = STUDIES[name](from_description(yaml.safe_load(yaml.safe_dump(study.settings.describe(), sort_keys=False))))
    assert places(again.trials()) == places(trials)


@each
@pytest.mark.filterwarnings("ignore")
def test_what_a_ctrl_c_in_the_first_trials_leaves_can_be_concluded(name: str, tmp_path: Path) -> None:
    """The table has few rows, of which none is what any claim asks for."""
    study = made(name, True)
    trials = study.trials()
    for number, trial in enumerate((trials[0], trials[len(trials) // 2], trials[-1])):
        folder = tmp_path / str(number)
        keep([{"quantity": "nothing asked for", "value": 1.0}], trial, folder)
        m = collect(trials, folder, study.columns)
        for table in (m, reread(m, folder)):
            assert study.verdicts(table) == []
            assert all(isinstance(sentence, str) for sentence in study.findings(table))
            inline_panels(study.panels(table), name)


@each
@sizes
def test_columns_are_named_once(name: str, quick: bool) -> None:
    study = made(name, quick)
    conditions = {key for trial in study.trials() for key in trial.conditions}
    assert len(set(study.columns)) == len(study.columns)
    assert not set(study.columns) & (conditions | {"norm", "seed", "quantity", "value"})


def test_settings_are_plain(tmp_path: Path) -> None:
    for name in NAMES:
        settings = load(name)
        assert isinstance(settings, Settings)
        assert all(isinstance(norm, str) for norm in settings.norms)
        json.dumps(settings.describe())


def test_the_package_says_what_it_holds() -> None:
    assert rnnnorm.studies.__doc__
    assert "study" in rnnnorm.studies.__doc__
