"""How large a study is: its file, the quick part of it, and what the user says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rnnnorm.compare.experiments import experiments
from rnnnorm.studies.framework.settings import Settings, from_description, load, merged, study_file

if TYPE_CHECKING:
    from tests.studies.framework.conftest import Runner

ORDER = "rnnnorm.data.TemporalOrder"


@pytest.fixture
def own(tmp_path: Path, tiny: Runner) -> Any:
    """Load the tiny study with a file of the user."""

    def load_with(text: str, quick: bool = False) -> Settings:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return load("tiny", quick, str(path))

    return load_with


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str]:
    """Two folders that could hold data."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    return str(tmp_path / "here"), str(tmp_path / "there")


def test_full_and_quick(tiny: Runner) -> None:
    full, quick = load("tiny"), load("tiny", quick=True)
    assert full.seeds == (0, 1, 2)
    assert full.norms == ("none", "ln")
    assert full.option("sizes") == [2, 0.5]
    assert full.config["trainer"]["max_epochs"] == 2
    assert not full.quick
    assert not full.own
    assert quick.quick
    assert quick.seeds == (0,)
    assert quick.norms == full.norms
    assert quick.options == {"sizes": [2], "trained": ["none"]}
    assert quick.config["trainer"] == {"max_epochs": 1, "log_every_n_steps": 2}
    assert quick.config["data"] == full.config["data"]


def test_what_the_user_says_lies_over_both(own: Any) -> None:
    text = "seeds: [4]\nnorms: [wn]\noptions: {sizes: [7]}\ntrainer: {max_epochs: 9}\nquick: {options: {trained: []}}"
    full, quick = own(text), own(text, quick=True)
    for settings in (full, quick):
        assert settings.seeds == (4,)
        assert settings.norms == ("wn",)
        assert settings.option("sizes") == [7]
        assert settings.config["trainer"] == {"max_epochs": 9, "log_every_n_steps": 2}
        assert settings.config["model"]["init_args"]["hidden_size"] == 4
        assert not settings.own
    assert full.option("trained") == ["none"]
    assert quick.option("trained") == []


def test_data_of_another_class_take_no_keys_from_the_studys(own: Any) -> None:
    settings = own("data: {class_path: mine.Data, init_args: {a: 1}}")
    assert settings.own
    assert settings.config["data"] == {"class_path": "mine.Data", "init_args": {"a": 1}}
    assert settings.config["model"]["init_args"]["hidden_size"] == 4
    assert own("data: {class_path: mine.Data}").config["data"] == {"class_path": "mine.Data"}


def test_nor_do_data_of_the_same_class(own: Any) -> None:
    """An experiment that relies on the defaults of its class is that experiment in a study, too."""
    settings = own(f"data: {{class_path: {ORDER}, init_args: {{max_length: 99}}}}")
    assert settings.own
    assert settings.config["data"] == {"class_path": ORDER, "init_args": {"max_length": 99}}


def test_a_model_of_the_user_replaces_that_of_the_study(own: Any) -> None:
    assert own("model: {init_args: {hidden_size: 9}}").config["model"]["init_args"]["hidden_size"] == 9
    other = own("model: {class_path: mine.Model, init_args: {depth: 9}}").config["model"]
    assert other["class_path"] == "mine.Model"
    assert other["init_args"]["depth"] == 9


@pytest.mark.parametrize("name", list(experiments()))
def test_every_experiment_of_compare_is_welcome(name: str, tiny: Runner) -> None:
    settings = load("tiny", own=name)
    said = yaml.safe_load(experiments()[name].read_text())
    assert settings.own
    assert settings.config["data"] == said["data"]
    for key, value in said.get("trainer", {}).items():
        assert settings.config["trainer"][key] == value


def test_norms_and_seeds_of_the_command_line_come_last(own: Any, tiny: Runner, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seeds: 9\nnorms: [wn]\n")
    settings = load("tiny", own=str(tmp_path / "mine.yaml"), norms="rms, bn-timestep:gain=1.0", seeds="3,7")
    assert settings.norms == ("rms", "bn-timestep:gain=1.0")
    assert settings.seeds == (3, 7)
    assert load("tiny", norms="core").norms[0] == "none"


@pytest.mark.parametrize("seeds", ["2", 2], ids=["text", "number"])
def test_a_number_of_seeds_is_a_number_of_seeds(seeds: str | int, tiny: Runner) -> None:
    """As in `rnnnorm compare`, and as the help has it: 2 means 0 and 1."""
    assert load("tiny", seeds=seeds).seeds == (0, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nope: 1", r"mine\.yaml.*nope.*seeds, norms, options"),
        ("1: 2", r"mine\.yaml.*1.*seeds"),
        ("options: {nope: 1}", r"nope.*'tiny'.*sizes, trained"),
        ("options: {1: 2}", r"1.*'tiny'.*sizes, trained"),
        ("quick: {nope: 1}", "nope"),
        ("quick: {options: {nope: 1}}", r"nope.*sizes, trained"),
        ("options: [sizes]", "options"),
        ("options: 3", "options"),
        ("quick: 3", "quick"),
        ("trainer: [1]", "trainer"),
        ("model: 3", "model"),
        ("data: TemporalOrder", "data.*TemporalOrder"),
        ("data: {init_args: {max_length: 3}}", "class_path"),
        ("data: {class_path: 3}", "class_path"),
        ("norms: [none, nope]", r"'nope'.*there are: none"),
        ("norms: 3", "norms"),
        ("seeds: three", "three"),
        ("seeds: 0", "0"),
        ("seeds: [-1]", "-1"),
        ("seeds: 1.5", r"1\.5"),
        ("", r"mine\.yaml"),
        ("- a", r"mine\.yaml.*list"),
        ("a: [", r"mine\.yaml"),
    ],
)
def test_mistakes_are_refused_with_what_exists(own: Any, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        own(text, quick=True)


@pytest.mark.parametrize("key", ["seeds", "norms", "options", "data", "model", "trainer", "quick"])
def test_an_empty_key_says_nothing_or_is_refused(own: Any, key: str) -> None:
    try:
        settings = own(f"{key}:\n")
    except ValueError as error:
        assert key in str(error)  # noqa: PT017
    else:
        assert settings == load("tiny")


def test_a_file_that_does_not_exist_is_refused(tiny: Runner) -> None:
    with pytest.raises(ValueError, match=r"nope\.yaml.*default"):
        load("tiny", own="nope.yaml")


def test_an_option_that_does_not_exist_is_refused_by_name(tiny: Runner) -> None:
    with pytest.raises(ValueError, match=r"options\.nope.*sizes, trained"):
        load("tiny").option("nope")


def test_real_data_come_from_the_argument_or_the_environment(
    tiny: Runner, monkeypatch: pytest.MonkeyPatch, places: tuple[str, str]
) -> None:
    here, there = places
    assert load("tiny").data_dir is None
    monkeypatch.setenv("RNNNORM_DATA", there)
    assert load("tiny").data_dir == there
    assert load("tiny", data_dir=here).data_dir == here
    monkeypatch.setenv("RNNNORM_DATA", "")
    assert load("tiny").data_dir is None


def test_a_folder_of_data_that_does_not_exist_is_refused(tiny: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"no/such/folder.*--data-dir"):
        load("tiny", data_dir="no/such/folder")
    monkeypatch.setenv("RNNNORM_DATA", "no/such/folder")
    with pytest.raises(ValueError, match=r"no/such/folder.*RNNNORM_DATA"):
        load("tiny")


def test_the_users_own_data_are_read_from_data_dir(tiny: Runner, places: tuple[str, str]) -> None:
    """As in `rnnnorm compare`, where --data-dir is the same as --data.data_dir."""
    here, _ = places
    assert load("tiny", own="pos-tagging", data_dir=here).config["data"]["init_args"]["data_dir"] == here
    assert "data_dir" not in load("tiny", own="default", data_dir=here).config["data"]["init_args"]


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("text", [None, f"data: {{class_path: {ORDER}}}\nseeds: [5, 9]\noptions: {{sizes: [1.5]}}"])
def test_a_description_is_all_that_verdicts_need(own: Any, tmp_path: Path, quick: bool, text: str | None) -> None:
    before = own(text, quick) if text else load("tiny", quick)
    after = from_description(yaml.safe_load(yaml.safe_dump(before.describe())))
    for key in ("seeds", "norms", "options", "config", "quick", "own"):
        assert getattr(after, key) == getattr(before, key), key
    assert after.describe() == before.describe()


def test_a_description_knows_whether_real_data_were_there_but_not_where(tiny: Runner, places: tuple[str, str]) -> None:
    here, there, without = (load("tiny", data_dir=where).describe() for where in (*places, None))
    assert here == there
    assert here != without
    assert places[0] not in yaml.safe_dump(here)
    assert from_description(here).data_dir is not None
    assert from_description(without).data_dir is None


def test_a_configuration_with_other_keys_leaves_the_settings_alone(tiny: Runner) -> None:
    settings = load("tiny")
    before = yaml.safe_dump(settings.describe())
    config = settings.configured(data={"max_length": 15}, model={"hidden_size": 8}, trainer={"max_epochs": 5})
    assert config["data"]["class_path"] == ORDER
    assert config["data"]["init_args"]["max_length"] == 15
    assert config["data"]["init_args"]["num_train"] == 40
    assert config["model"]["init_args"]["hidden_size"] == 8
    assert config["trainer"] == {"max_epochs": 5, "log_every_n_steps": 2}
    config["data"]["init_args"]["num_train"] = 0
    assert yaml.safe_dump(settings.describe()) == before
    other = settings.configured(data={"class_path": "mine.Data", "init_args": {"a": 1}, "b": 2})["data"]
    assert other == {"class_path": "mine.Data", "init_args": {"a": 1, "b": 2}}
    with pytest.raises(ValueError, match="'optimizer'"):
        settings.configured(optimizer={"lr": 1})


def test_merging_goes_key_by_key_and_lists_are_replaced() -> None:
    below = {"a": {"b": 1, "c": [1, 2]}, "d": 2}
    above = {"a": {"c": [3]}, "e": {"f": 4}}
    assert merged(below, above) == {"a": {"b": 1, "c": [3]}, "d": 2, "e": {"f": 4}}
    assert below == {"a": {"b": 1, "c": [1, 2]}, "d": 2}
    assert merged({"class_path": "A", "init_args": {"x": 1}}, {"class_path": "A", "init_args": {"y": 2}}) == {
        "class_path": "A",
        "init_args": {"x": 1, "y": 2},
    }
    assert merged({"class_path": "A", "init_args": {"x": 1}}, {"class_path": "B"}) == {"class_path": "B"}


def test_the_packaged_file_is_found() -> None:
    assert study_file("gradient-flow").is_file()
