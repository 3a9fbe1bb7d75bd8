"""What every task does: a run, exact averages over ragged batches, scores, checkpoints, determinism."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from tasks.tiny import RAGGED, SPECS, Batches, batch_of, batches_of, model_of, packed, trainer_of

from rnnnorm.norms import recalibrate, statistics

all_tasks = pytest.mark.parametrize("task", SPECS)


@all_tasks
def test_a_run_logs_the_same_tags_for_every_task(task: str, tmp_path: Path) -> None:
    model = model_of(task, norm="bn-timestep")
    seen: set[str] = set()
    logger = CSVLogger(tmp_path)
    log_metrics = logger.log_metrics

    def spy(metrics: dict[str, float], step: int | None = None) -> None:
        seen.update(metrics)
        log_metrics(metrics, step)

    logger.log_metrics = spy  # type: ignore[method-assign]
    trainer = trainer_of(logger=logger, max_epochs=2)
    trainer.fit(model, batches_of(task), batches_of(task, seed=7))
    tested = trainer.test(model, batches_of(task, seed=9), verbose=False)[0]
    metric = model.metric
    assert {"train/loss", f"train/{metric}", "val/loss", f"val/{metric}", "val/loss_batch", "epoch"} <= seen
    assert {"test/loss", f"test/{metric}"} <= set(tested)
    assert all(torch.isfinite(v) for v in trainer.callback_metrics.values())


@all_tasks
def test_loss_of_a_tiny_batch_falls_to_almost_nothing(task: str) -> None:
    model = model_of(task, hidden_size=24, learning_rate=0.03)
    batch = batch_of(SPECS[task], [5, 4, 2])
    trainer_of().fit(model, Batches([batch] * 150))
    first = model_of(task, hidden_size=24).eval().scores(batch).loss.mean()
    assert model.eval().scores(batch).loss.mean() < 0.1 * first


@all_tasks
def test_epoch_averages_weight_every_prediction_alike(task: str) -> None:
    model = model_of(task, norm="bn-vertical")
    batches = batches_of(task)
    with statistics(model, "running"):
        logged = trainer_of().validate(model, batches, verbose=False)[0]
    scores = [model.eval().scores(batch) for batch in batches]
    loss, score = (torch.cat([getattr(s, name) for s in scores]).mean() for name in ("loss", "score"))
    assert logged["val/loss"] == pytest.approx(loss.item(), rel=1e-5)
    expected = loss.exp() if model.metric == "perplexity" else score
    assert logged[f"val/{model.metric}"] == pytest.approx(expected.item(), rel=1e-5)
    assert abs(logged["val/loss"] - torch.stack([s.loss.mean() for s in scores]).mean().item()) > 1e-4
    with statistics(model, "batch"):
        own = torch.cat([model.scores(batch).loss for batch in batches]).mean()
    assert logged["val/loss_batch"] == pytest.approx(own.item(), rel=1e-5)
    assert abs(logged["val/loss_batch"] - logged["val/loss"]) > 1e-4


@all_tasks
def test_without_batch_statistics_both_validation_losses_agree(task: str) -> None:
    logged = trainer_of().validate(model_of(task, norm="ln"), batches_of(task), verbose=False)[0]
    assert logged["val/loss_batch"] == logged["val/loss"]


@all_tasks
def test_scores_name_length_and_step_of_each_prediction(task: str) -> None:
    model, lengths = model_of(task).eval(), [4, 2, 1]
    scores = model.scores(batch_of(SPECS[task], lengths))
    if model.per_row:
        assert scores.length.tolist() == [4, 2, 1, 4, 2, 4, 4]
        assert scores.step.tolist() == [0, 0, 0, 1, 1, 2, 3]
    else:
        assert scores.length.tolist() == lengths
        assert scores.step.tolist() == [3, 1, 0]
    assert scores.loss.shape == scores.score.shape == scores.length.shape
    assert not scores.loss.requires_grad


@pytest.mark.parametrize("task", ["classification", "tagging"])
def test_scores_of_classes_are_right_or_wrong(task: str) -> None:
    model, batch = model_of(task).eval(), batch_of(SPECS[task], [4, 2, 1])
    predicted = model(batch.input)[0].argmax(1)
    right = model.scores(batch._replace(target=predicted))
    wrong = model.scores(batch._replace(target=(predicted + 1) % SPECS[task].num_outputs))
    assert right.score.eq(1).all()
    assert wrong.score.eq(0).all()


def test_scores_keep_the_mode() -> None:
    model, batch = model_of("tagging", dropout=0.5), batches_of("tagging")[0]
    assert model.training
    assert not torch.equal(model.scores(batch).loss, model.scores(batch).loss)
    assert model.training
    model.eval()
    assert torch.equal(model.scores(batch).loss, model.scores(batch).loss)


def test_a_batch_can_recalibrate_through_scores() -> None:
    model, batches = model_of("tagging", norm="bn-timestep"), batches_of("tagging")
    recalibrate(model, batches, model.scores)
    model.eval()
    with statistics(model, "population"):
        population = model.scores(batches[0]).loss
    assert not torch.equal(population, model.scores(batches[0]).loss)


@all_tasks
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
def test_predictions_do_not_depend_on_the_rest_of_the_batch(task: str, bidirectional: bool) -> None:
    if task == "language-modelling" and bidirectional:
        pytest.skip("a language model has one direction")
    model = model_of(task, bidirectional=bidirectional, num_layers=2).eval()
    lengths = [5, 3, 1]
    batch = batch_of(SPECS[task], lengths)
    together = model(batch.input)[0]
    sequence = torch.tensor([0, 1, 2, 0, 1, 0, 1, 0, 0])
    for b, length in enumerate(lengths):
        alone = model(packed(batch.input.data[sequence == b], [length]))[0]
        expected = together[sequence == b] if model.per_row else together[b : b + 1]
        torch.testing.assert_close(alone, expected)


@all_tasks
def test_checkpoint_restores_model_and_spec(task: str, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"unit": "char"} if task == "language-modelling" else {}
    model = model_of(task, norm="bn-timestep", num_layers=2, **keys)
    checkpoint = ModelCheckpoint(tmp_path, filename="end")
    trainer = trainer_of(callbacks=[checkpoint], enable_checkpointing=True)
    trainer.fit(model, batches_of(task))
    again = type(model).load_from_checkpoint(tmp_path / "end.ckpt", weights_only=True)
    assert again.spec == model.spec
    assert again.metric == model.metric
    assert dict(again.hparams) == dict(model.hparams)
    batch = batches_of(task, seed=5)[0]
    assert torch.equal(again.eval()(batch.input)[0], model.eval()(batch.input)[0])


@pytest.mark.parametrize("norm", ["none", "bn-timestep"])
def test_the_same_seed_gives_the_same_run(norm: str) -> None:
    def run(seed: int) -> dict[str, torch.Tensor]:
        L.seed_everything(seed, verbose=False)
        model = model_of("tagging", norm=norm, dropout=0.3, initial_state_noise=0.1)
        trainer_of(max_epochs=3).fit(model, batches_of("tagging"))
        return model.state_dict()

    first, second, other = run(1), run(1), run(2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_the_head_of_a_sequence_reads_the_end_of_both_directions_of_the_top_layer() -> None:
    model, seen = model_of("classification", num_layers=2, bidirectional=True).eval(), {}
    model.recurrent.register_forward_hook(lambda module, args, output: seen.update(rows=output[0].data))
    model.head.register_forward_hook(lambda module, args, output: seen.update(state=args[0]))
    model(batch_of(SPECS["classification"], [3, 1]).input)
    rows = seen["rows"]  # (step, sequence): 00 01 10 20
    torch.testing.assert_close(seen["state"][0], torch.cat([rows[3, :8], rows[0, 8:]]))
    torch.testing.assert_close(seen["state"][1], rows[1])


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_acts_before_between_and_after_the_layers(layers: int) -> None:
    model, seen = model_of("tagging", dropout=0.5, num_layers=layers), {}
    model.recurrent.register_forward_hook(lambda module, args, output: seen.update(input=args[0].data))
    model.head.register_forward_hook(lambda module, args, output: seen.update(output=args[0]))
    batch = batches_of("tagging")[0]
    model.train()(batch.input)
    assert 0.3 < seen["input"].eq(0).float().mean() < 0.7
    assert 0.3 < seen["output"].eq(0).float().mean() < 0.7
    assert model.recurrent.dropout == (0.5 if layers > 1 else 0.0)
    model.eval()(batch.input)
    assert not seen["input"].eq(0).any()
    assert not seen["output"].eq(0).any()


def test_ragged_batches_of_this_file_have_unequal_weights() -> None:
    assert len({sum(lengths) for lengths in RAGGED}) == len({len(lengths) for lengths in RAGGED}) == 3
