"""Class weights, given and counted."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F

from rnnnorm.data import SequenceDataModule, Spec
from rnnnorm.tasks import TASKS
from rnnnorm.tasks.class_weights import balanced
from tests.tasks.tiny import SPECS, batches_of, model_of, trainer_of

pytestmark = pytest.mark.filterwarnings("ignore")


class Unequal(SequenceDataModule):
    """Six sequences of class 0, two of class 1, none of class 2."""

    task = "classification"
    spec = Spec("classification", vocabularies=(3,), num_outputs=3, max_length=4)

    def load(self) -> dict[str, list[Any]]:
        examples = [(torch.ones(2 + k % 3, 1, dtype=torch.int64), torch.tensor(int(k > 5))) for k in range(8)]
        return {"train": examples, "val": examples, "test": examples}


def test_the_loss_is_weighted_and_its_mean_is_over_all_predictions() -> None:
    C = SPECS["tagging"].num_outputs
    weights = [0.5 + c for c in range(C)]
    plain, weighted = model_of("tagging"), model_of("tagging", class_weights=weights)
    logits, target = torch.randn(20, C), torch.randint(C, (20,))
    expected = plain.losses(logits, target) * torch.tensor(weights)[target]
    torch.testing.assert_close(weighted.losses(logits, target), expected)
    torch.testing.assert_close(plain.losses(logits, target), F.cross_entropy(logits, target, reduction="none"))
    assert "class_weight" in weighted.state_dict()
    assert "class_weight" not in plain.state_dict()


def test_balanced_weights_are_counted_in_the_training_split(tmp_path: Any) -> None:
    model = TASKS["classification"](Unequal.spec, hidden_size=4, class_weights="balanced")
    trainer = trainer_of(max_epochs=1)
    trainer.fit(model, datamodule=Unequal(batch_size=4))
    expected = torch.tensor([8 / (3 * 6), 8 / (3 * 2), 1.0])
    torch.testing.assert_close(model.class_weight, expected)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    again = TASKS["classification"].load_from_checkpoint(tmp_path / "x.ckpt")
    torch.testing.assert_close(again.class_weight, expected)


def test_of_other_data_modules_the_batches_are_counted() -> None:
    class Other(L.LightningDataModule):
        def train_dataloader(self) -> Any:
            return batches_of("tagging")

    C = SPECS["tagging"].num_outputs
    counts = torch.cat([batch.target for batch in batches_of("tagging")]).bincount(minlength=C)
    assert (counts > 0).all()
    torch.testing.assert_close(balanced(Other(), C), counts.sum() / (C * counts))


@pytest.mark.parametrize(
    ("task", "weights", "message"),
    [
        ("tagging", [1.0], "numbers, one per class, got 1"),
        ("tagging", [-1.0] * SPECS["tagging"].num_outputs, "at least 0"),
        ("tagging", [float("nan")] * SPECS["tagging"].num_outputs, "at least 0"),
        ("tagging", [0.0] * SPECS["tagging"].num_outputs, "not all 0"),
        ("tagging", "balance", "'balanced' or a weight per class, got 'balance'"),
        ("regression", "balanced", "for classes, which regression does not have"),
    ],
)
def test_what_is_no_weights_is_refused(task: str, weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_of(task, class_weights=weights)


def test_balanced_weights_need_data() -> None:
    with pytest.raises(ValueError, match="needs a data module to count the classes in"):
        trainer_of().fit(model_of("tagging", class_weights="balanced"), batches_of("tagging"))
