"""The main job on a small problem: what is run, with what, and what it leaves behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import lightning as L
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from rnnnorm.common.source import source
from rnnnorm.compare import runner
from rnnnorm.engine import trial as trial_module
from rnnnorm.report.curves import read_curves

if TYPE_CHECKING:
    from pathlib import Path

    from at_step import AtStep

    from tests.compare.conftest import Small

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_comparison_leaves_results_report_and_run_folders(small: Small) -> None:
    assert small("--norms", "none,bn-timestep:gain=1.0", "--seeds", "2") == 0
    for name in ("results.csv", "summary.md", "report.html", "compare.yaml", "data.json"):
        assert (small.out / name).stat().st_size > 0, name
    for norm in ("none", "bn-timestep,gain=1.0"):
        for seed in range(2):
            folder = small.out / norm / f"seed={seed}"
            assert {"config.yaml", "result.json", "checkpoints"} <= {path.name for path in folder.iterdir()}
    found = small.result("bn-timestep,gain=1.0", 1)
    assert found["norm"] == "bn-timestep:gain=1.0"
    assert (found["seed"], found["status"], found["steps"], found["epochs"]) == (1, "finished", 12, 2)
    assert found["statistics"] > 0
    assert set(found["test"]) == {"running", "population", "batch"}
    assert found["test"]["running"] != found["test"]["batch"]
    assert f"rnnnorm tensorboard {small.out}" in small.printed
    facts = json.loads((small.out / "data.json").read_text())
    assert facts["train_lengths"]["max"] <= 30
    assert facts["sources"] == [source()]


def test_a_comparison_that_goes_on_from_another_source_names_both(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sources() -> list[str]:
        return json.loads((small.out / "data.json").read_text())["sources"]

    for name, norms, expected in (
        ("a" * 40, "ln", ["a" * 40]),
        ("a" * 40, "ln", ["a" * 40]),
        ("version 9", "ln,none", ["a" * 40, "version 9"]),
    ):
        monkeypatch.setattr(runner, "source", lambda name=name: name)
        assert small("--norms", norms) == 0
        assert sources() == expected
    assert "commit aaaaaaaaaaaa, then version 9" in (small.out / "report.html").read_text()


def test_norms_without_batch_statistics_score_the_same_in_all_modes(small: Small) -> None:
    assert small("--norms", "ln") == 0
    test = small.result("ln")["test"]
    assert test["running"] == test["population"] == test["batch"]
    assert small.result("ln")["statistics"] == 0


def test_buckets_partition_the_test_split_and_are_the_same_for_all_runs(small: Small) -> None:
    assert small("--norms", "none,bn-vertical", "--seeds", "3,7") == 0
    found = [small.result(norm, seed)["buckets"] for norm in ("none", "bn-vertical") for seed in (3, 7)]
    for axis in ("length", "step"):
        edges = [[(b["low"], b["high"], b["count"]) for b in buckets[axis]] for buckets in found]
        assert all(other == edges[0] for other in edges)
        assert sum(count for _, _, count in edges[0]) == 40
        assert 1 < len(edges[0]) <= 6
    accuracy = small.result("none", 3)["test"]["running"]["accuracy"]
    mean = sum(b["running"] * b["count"] for b in found[0]["length"]) / 40
    assert mean == pytest.approx(accuracy, abs=1e-6)


def test_all_norms_start_from_the_same_weights_and_see_the_same_batches(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, tuple[dict[str, Any], list[torch.Tensor]]] = {}
    start, step = L.LightningModule.on_train_start, trial_module.StepProgress.on_train_batch_end

    def note_start(self: Any) -> None:
        seen[self.hparams["norm"]] = ({k: v.clone() for k, v in self.state_dict().items()}, [])
        start(self)

    def note_batch(self: Any, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, *args: Any) -> None:
        seen[module.hparams["norm"]][1].append(batch.input.data)
        step(self, trainer, module, outputs, batch, *args)

    monkeypatch.setattr(L.LightningModule, "on_train_start", note_start)
    monkeypatch.setattr(trial_module.StepProgress, "on_train_batch_end", note_batch)
    assert small("--norms", "none,ln,bn-timestep") == 0
    initial, batches = seen["none"]
    for norm in ("ln", "bn-timestep"):
        shared = initial.keys() & seen[norm][0].keys()
        assert {"recurrent.weight_ih_l0", "recurrent.weight_hh_l0", "head.weight"} <= shared
        for name in shared:
            assert torch.equal(initial[name], seen[norm][0][name]), f"{name} of {norm}"
        assert all(torch.equal(a, b) for a, b in zip(batches, seen[norm][1], strict=True))


def test_another_seed_is_another_order_of_the_same_data(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, list[torch.Tensor]] = {}
    step = trial_module.StepProgress.on_train_batch_end

    def note(self: Any, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, *args: Any) -> None:
        seen.setdefault(trainer.datamodule.shuffle_seed, []).append(batch.input.data)  # type: ignore[attr-defined]
        step(self, trainer, module, outputs, batch, *args)

    monkeypatch.setattr(trial_module.StepProgress, "on_train_batch_end", note)
    assert small("--seeds", "2") == 0
    orders = [torch.cat(batches[:6]).flatten() for batches in (seen[0], seen[1])]
    assert not torch.equal(*orders)
    assert torch.equal(*(order.sort().values for order in orders))


def test_tensorboard_tags_are_the_same_in_every_run(small: Small) -> None:
    assert small("--norms", "none,bn-timestep") == 0
    tags = []
    for norm in ("none", "bn-timestep"):
        events = EventAccumulator(str(small.out / norm / "seed=0")).Reload()
        tags.append(set(events.Tags()["scalars"]))
        result = small.result(norm)
        for tag in ("test/accuracy", "test/accuracy_population"):
            (only,) = events.Scalars(tag)
            assert only.step == result["steps"], "nothing at step 0, where nothing was tested"
            assert only.value == pytest.approx(result["test"]["population"]["accuracy"])
        lengths = [point.step for point in events.Scalars("test_by_length/accuracy_batch")]
        assert lengths == [bucket["high"] for bucket in small.result(norm)["buckets"]["length"]]
    assert "epoch" not in tags[0]
    assert tags[1] - tags[0] == {"val_running/loss", "val_running/accuracy"}, "where there are running averages"
    assert not tags[0] - tags[1]
    assert {"train/loss", "val/loss", "val/loss_batch", "val/accuracy"} <= tags[0]


def told(folder: Path) -> tuple[dict[str, Any], int | None, list[str], list[str]]:
    """What the HParams tab is told of a run: values, status, names of what differs, tags of metrics."""
    content = {
        tag: HParamsPluginData.FromString(metadata.plugin_data.content)
        for tag, metadata in EventAccumulator(str(folder)).Reload().summary_metadata.items()
        if tag.startswith("_hparams_/")
    }
    values = content["_hparams_/session_start_info"].session_start_info.hparams
    end = content.get("_hparams_/session_end_info")
    experiment = content["_hparams_/experiment"].experiment
    return (
        {key: value.string_value or value.number_value for key, value in values.items()},
        None if end is None else end.session_end_info.status,
        [info.name for info in experiment.hparam_infos if info.differs],
        [info.name.tag for info in experiment.metric_infos],
    )


def test_hyperparameters_and_the_end_of_a_run_are_told_to_tensorboard(small: Small, at_step: AtStep) -> None:
    assert small("--trainer.max_epochs", "1000", "--max-minutes", "0.02", out=small.out.with_name("cut")) == 0
    assert told(small.out.with_name("cut") / "none" / "seed=0")[1] is None
    at_step(8, lambda trainer: trainer.lightning_module.head.bias.data.fill_(torch.nan))
    assert small("--norms", "ln") == 0
    folder = small.out / "ln" / "seed=0"
    values, status, differing, metrics = told(folder)
    assert values.pop("learning_rate") == pytest.approx(1e-3)
    assert values == {"norm": "ln", "seed": 0, "batch_size": 10, "hidden_size": 4, "num_layers": 1}
    assert (status, differing, metrics[0]) == (api_pb2.STATUS_FAILURE, ["norm", "seed"], "test/accuracy")


def test_means_and_overview_are_written_and_the_end_says_how_to_see_them(small: Small) -> None:
    assert small("--norms", "none,ln", "--seeds", "2") == 0
    means = {norm: sorted((small.out / norm / "mean").iterdir()) for norm in ("none", "ln")}
    assert [len(files) for files in means.values()] == [1, 1]
    assert len(list((small.out / "comparison").iterdir())) == 1
    assert small("--norms", "none,ln,wn", "--seeds", "2") == 0
    assert {norm: sorted((small.out / norm / "mean").iterdir()) for norm in means} == means, "nothing is new there"
    assert small("--norms", "none", "--seeds", "3") == 0
    (again,) = (small.out / "none" / "mean").iterdir()
    assert again not in means["none"]
    assert len(list((small.out / "comparison").iterdir())) == 1


def test_finished_runs_are_skipped_and_norms_and_seeds_can_be_added(small: Small) -> None:
    assert small() == 0
    before = (small.out / "none" / "seed=0" / "result.json").stat().st_mtime_ns
    assert small("--norms", "none,ln", "--seeds", "2") == 0
    assert "1 of 4 runs have been finished before" in small.printed
    assert (small.out / "none" / "seed=0" / "result.json").stat().st_mtime_ns == before
    assert (small.out / "results.csv").read_text().count("\n") == 5


def test_another_configuration_is_refused_unless_overwritten(small: Small) -> None:
    assert small() == 0
    with pytest.raises(ValueError, match=r"model\.hidden_size: 4 there, 5 now") as error:
        small("--model.hidden_size", "5")
    assert "--out" in str(error.value)
    assert "--overwrite" in str(error.value)
    parameters = small.result()["parameters"]
    assert small("--model.hidden_size", "5", "--overwrite") == 0
    assert small.result()["parameters"] > parameters


def test_where_the_data_lie_and_how_they_are_loaded_is_not_another_configuration(small: Small) -> None:
    assert small() == 0
    assert small("--data.num_workers", "1") == 0
    assert "1 of 1 runs" in small.printed


def test_the_configuration_of_a_run_can_be_fitted_by_itself(small: Small) -> None:
    assert small("--norms", "ln", "--seeds", "5,") == 0
    config = yaml.safe_load((small.out / "ln" / "seed=5" / "config.yaml").read_text())
    assert config["seed_everything"] == 5
    assert config["model"]["class_path"] == "rnnnorm.tasks.classification.Classification"
    assert config["model"]["init_args"]["norm"] == "ln"
    assert "norms" not in config


def test_the_head_runs_once_for_each_test_batch_and_mode_and_not_for_population_statistics(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    evaluate = trial_module.evaluate

    def counted(trainer: L.Trainer, model: Any, *args: Any) -> Any:
        with (
            model.head.register_forward_hook(lambda *_: calls.append("head")),
            model.recurrent.register_forward_hook(lambda *_: calls.append("recurrent")),
        ):
            return evaluate(trainer, model, *args)

    monkeypatch.setattr(trial_module, "evaluate", counted)
    assert small("--norms", "bn-timestep") == 0
    assert calls.count("head") == 3 * 4, "40 test sequences in batches of 10, in three modes"
    assert calls.count("recurrent") == 3 * 4 + 1


EARLY = ("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/loss", "--trainer.callbacks.patience=1")


def test_what_ended_a_training_is_recorded(small: Small) -> None:
    assert small("--jobs", "1") == 0
    result = small.result()
    assert (result["ended_by"], result["steps"]) == ("max_epochs", 12)
    timing = result["timing"]
    assert (timing["device"], timing["jobs"]) == ("cpu", 1)
    assert timing["cpu_seconds"] > 0
    steps = small.out.with_name("steps")
    assert small("--trainer.max_steps", "4", out=steps) == 0
    assert small.result(out=steps)["ended_by"] == "max_steps"
    early = small.out.with_name("early")
    assert small(*EARLY, "--trainer.callbacks.min_delta=100", "--trainer.max_epochs", "6", out=early) == 0
    result = small.result(out=early)
    assert (result["ended_by"], result["steps"]) == ("EarlyStopping", 12)


def test_the_baseline_is_no_part_of_the_configuration(small: Small) -> None:
    assert small("--norms", "none,ln") == 0
    assert json.loads((small.out / "data.json").read_text())["baseline"] == "none"
    assert "baseline" not in (small.out / "compare.yaml").read_text()
    assert small("--norms", "none,ln", "--baseline", "ln") == 0
    assert "2 of 2 runs have been finished before: skipped" in small.printed
    assert "differences from ln" in small.printed
    assert json.loads((small.out / "data.json").read_text())["baseline"] == "ln"
    for wrong, message in (("nnoe", "nnoe"), ("none,ln", "--baseline none,ln: expected one norm, got 2")):
        with pytest.raises(ValueError, match=message):
            small("--baseline", wrong)


def test_the_training_loss_of_the_last_epoch_is_kept(small: Small) -> None:
    assert small("--trainer.log_every_n_steps", "1") == 0
    losses = read_curves(small.out / "none" / "seed=0")["train/loss"].value
    assert len(losses) == 12
    assert small.result()["train_loss"] == pytest.approx(losses[6:].mean(), rel=1e-5)
    assert "train_loss" in (small.out / "results.csv").read_text().splitlines()[0]
