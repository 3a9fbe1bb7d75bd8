"""Base class of tasks: input layer, normalized LSTM, linear head, logging, state, scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torchmetrics import Metric, MetricCollection

from rnnnorm.common.ranges import PROBABILITY, Checked, Range, at_least, between, one_of
from rnnnorm.data.base import Batch, Spec, Task
from rnnnorm.nn.recurrent import Recurrent
from rnnnorm.norms import auxiliary_loss, has_batch_statistics, statistics, step_statistics
from rnnnorm.norms.auxiliary import auxiliaries
from rnnnorm.norms.synchronized import synchronize
from rnnnorm.packing import row_sequences, row_steps, sequence_lengths
from rnnnorm.tasks.carry import CarriedStates, State
from rnnnorm.tasks.cells import build_recurrent
from rnnnorm.tasks.class_weights import BALANCED, as_weights, balanced
from rnnnorm.tasks.embedding import InputLayer
from rnnnorm.tasks.network import OwnNetwork
from rnnnorm.tasks.optimizers import OPTIMIZERS, build_optimizer, check_optimizer, check_schedule, with_schedule
from rnnnorm.tasks.population import PopulationStatistics
from rnnnorm.tasks.pretrained import load_embeddings
from rnnnorm.tasks.quantized import quantize_weights
from rnnnorm.tasks.scores import Scores
from rnnnorm.tasks.seeding import own_random_stream
from rnnnorm.tasks.specs import as_spec, spec_to_dict


class SequenceTask(Checked, L.LightningModule, ABC):
    """Packed rows → input layer → `rnnnorm.LSTM`, `GRU` or `RNN` → linear head, on every row or on each
    sequence's last state.

    Rows stay packed from the data to the loss; there is no mask. Dropout acts on what enters the LSTM, between its
    layers, and on what enters the head (Zaremba et al. 2014), never on the recurrence. After
    `lightning.seed_everything(k)` all norms start from the same embeddings, recurrent weights and head.

    Logged: `train/loss` and `train/<metric>` at each logged step; `val/loss`, `val/<metric>`, `test/loss` and
    `test/<metric>` per epoch, each prediction weighted alike however ragged the batches. Where batch normalization
    keeps statistics, these are by those of the population, estimated before each validation (`PopulationStatistics`),
    and `val_running/loss` and `val_running/<metric>` are the same by running averages. `val/loss_batch` is the loss of
    the same validation batches normalized by their own statistics, as in training: the train/inference gap of batch
    normalization is `val/loss - val/loss_batch`, that of running averages `val_running/loss - val/loss_batch`; 0 for
    norms that keep no statistics.

    A subclass names its `task`, its `metric` and whether there is a target per row, and gives `losses` and `metrics`.

    Args:
        spec: the shape of the data, as a `Spec` or its dictionary.
        norm: a preset, with overrides: "none", "ln", "bn-timestep:gain=1.0", …
        cell: "lstm", "gru", "rnn-tanh", "rnn-relu", "rnn-identity", "ligru" or "indrnn".
        cell_options: further arguments of `rnnnorm.LSTM`, `GRU` or `RNN`, such as {"residual": "skipinit"}.
        hidden_size: H, units of each layer and direction.
        num_layers: recurrent layers.
        bidirectional: also run each layer from the end of the sequences to their start. Refused for language
            models, since the backward direction has read the target, and for a stream that continues.
        dropout: probability of dropping a unit.
        embedding_size: numbers per token; 0: one-hot rows. Features are taken as they are.
        columns: "sum" or "concatenate": what becomes of the embeddings of several token columns.
        init: initial weights, "orthogonal", "torch" or, for cells with a forget gate, "chrono".
        initial_state: "zeros" or "learned".
        initial_state_noise: s, standard deviation of the noise on h_0 while training.
        max_steps: timesteps that have statistics of their own; None: the longest training sequence.
        backend: how the network is run; see `rnnnorm.LSTM`.
        optimizer: "adam", "adamw", "sgd" or "rmsprop".
        learning_rate: of the first epoch.
        weight_decay: L2 penalty of the optimizer.
        momentum: of "sgd" and "rmsprop".
        lr_decay: factor of the learning rate from one epoch to the next.
        lr_decay_after: so many epochs have the first rate; None: one; "plateau": the rate decays after each epoch whose
            `val/loss` is no new minimum.
        network: `module.Class` of a torch module of one's own in the place of the cell's; see
            `rnnnorm.tasks.network.OwnNetwork`. It decides what becomes of the cell's keys.
        network_options: further arguments of that class.
        class_weights: factor of the loss by class, a list, or "balanced" by the training targets: see
            `rnnnorm.tasks.class_weights`. Metrics are not weighted.
        embeddings: file of pretrained embeddings for the first column of tokens, read before training: see
            `rnnnorm.tasks.pretrained.load_embeddings`.
        freeze_embeddings: whether the first column's embeddings stay as they are.
        smoothing: α of "rmsprop", the share that its mean of squared gradients keeps at each step; None: 0.99. The
            "momentum" of some papers is this one (Cooijmans et al. 2017: 0.5 in the code).
        quantize: "binary" or "ternary" recurrent weights, see `rnnnorm.tasks.quantized`; None: as they are.

    Raises:
        ValueError: data of another task, or any key outside its range.
    """

    task: ClassVar[Task]
    ranges: ClassVar[Mapping[str, Range | None]] = {
        "norm": None,  # `parse_norm` does, which takes a `Norm`, too
        "dropout": PROBABILITY,
        "optimizer": one_of(*OPTIMIZERS),
        **dict.fromkeys(("learning_rate", "weight_decay", "momentum"), at_least(0)),
        "lr_decay": between(0, 1, "(]"),
        "smoothing": between(0, 1, "[)"),
    }
    per_row: ClassVar[bool]
    metric: str
    metric_mode: Literal["max", "min"]
    class_weight: Tensor | None

    def __init__(
        self,
        spec: Spec | dict[str, Any],
        norm: str = "none",
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        embedding_size: int = 32,
        columns: str = "sum",
        init: str = "orthogonal",
        initial_state: str = "zeros",
        initial_state_noise: float = 0.0,
        max_steps: int | None = None,
        backend: str = "auto",
        optimizer: str = "adam",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        lr_decay: float = 1.0,
        cell: str = "lstm",
        cell_options: dict[str, Any] | None = None,
        network: str | None = None,
        network_options: dict[str, Any] | None = None,
        class_weights: Literal["balanced"] | list[float] | None = None,
        embeddings: str | None = None,
        freeze_embeddings: bool = False,
        lr_decay_after: int | str | None = None,
        smoothing: float | None = None,
        quantize: str | None = None,
    ) -> None:
        super().__init__()
        self.spec = as_spec(spec)
        self._check(self.spec, bidirectional)
        check_optimizer(optimizer, momentum, smoothing)
        check_schedule(lr_decay, lr_decay_after)
        self.save_hyperparameters(ignore=["spec"])
        self.save_hyperparameters({"spec": spec_to_dict(self.spec)})
        with own_random_stream("embedding"):
            self.embedding = InputLayer(self.spec, embedding_size, columns)
        common: dict[str, Any] = {
            "dropout": dropout if num_layers > 1 else 0.0,
            "bidirectional": bidirectional,
            "norm": norm,
            "max_steps": self.spec.max_length if max_steps is None else max_steps,
            "init": init,
            "initial_state": initial_state,
            "initial_state_noise": initial_state_noise,
            "backend": backend,
        }
        sizes = self.embedding.output_size, hidden_size, num_layers
        self.recurrent: Recurrent[Any]
        if quantize is not None and network is not None:
            raise ValueError(f"quantize={quantize} is for the cells of this package, got network={network!r}")
        if network is None:
            with own_random_stream("norms"):
                self.recurrent = build_recurrent(cell, cell_options, *sizes, **common)
            with own_random_stream("lstm"):
                # Again, and weights first: in the constructor, a normalizer that draws would move the weights.
                self.recurrent.reset_parameters()
            if quantize is not None:
                quantize_weights(self.recurrent, quantize)
        else:
            with own_random_stream("lstm"):
                named = dict(zip(("input_size", "hidden_size", "num_layers"), sizes, strict=True))
                own: Any = OwnNetwork(network, {**named, **common}, network_options)  # to tasks, as good as one
                self.recurrent = own
        with own_random_stream("head"):
            self.head = nn.Linear(self.recurrent.output_size, self.spec.num_outputs)
        self.dropout = nn.Dropout(dropout)
        if class_weights is not None and self.task not in ("classification", "tagging", "language-modelling"):
            raise ValueError(f"class_weights are for classes, which {self.task} does not have, got {class_weights}")
        self.register_buffer(
            "class_weight", None if class_weights is None else as_weights(class_weights, self.spec.num_outputs)
        )
        if (embeddings is not None or freeze_embeddings) and not self.embedding.embeddings:
            raise ValueError("embeddings and freeze_embeddings are for tokens with embedding_size of at least 1")
        if freeze_embeddings:
            self.embedding.embeddings[0].requires_grad_(False)
        self.train_metric = self.metrics()[self.metric]
        self.val_metrics = MetricCollection(dict(self.metrics()), compute_groups=False)
        self.val_running_metrics = MetricCollection({self.metric: self.metrics()[self.metric]}, compute_groups=False)
        self.test_metrics = MetricCollection(dict(self.metrics()), compute_groups=False)
        self._carried = CarriedStates()

    def _check(self, spec: Spec, bidirectional: bool) -> None:
        if spec.task != self.task:
            raise ValueError(f"{type(self).__name__} is for {self.task} data, got a spec of task {spec.task!r}")
        if spec.num_outputs < 1 or spec.max_length < 1:
            raise ValueError(f"num_outputs and max_length of a spec must be at least 1, got {spec}")

    @abstractmethod
    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of each prediction: (M, num_outputs) and the batch's target → (M,); training minimizes the mean."""

    def batch_losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of each prediction, (M,); to be overridden where it depends on more than its logits and target.

        A loss of whole sequences, such as that of a conditional random field, is dealt out to their rows.
        """
        return self.losses(logits, batch.target)

    def decode(self, logits: Tensor, batch: Batch) -> Tensor:
        """What metrics and scores see of the logits, (M, num_outputs): themselves, unless a decoder says otherwise."""
        return logits

    @abstractmethod
    def metrics(self) -> dict[str, Metric]:
        """New metric objects by name, `self.metric` among them; they are updated with what `observed` returns."""

    def observed(self, logits: Tensor, target: Tensor, losses: Tensor) -> tuple[Tensor, ...]:
        """Arguments of the metrics' updates; by default logits and target."""
        return logits, target

    def observations(self, metric: str, batch: Batch, logits: Tensor, losses: Tensor) -> tuple[Tensor, ...]:
        """Arguments of the update of one metric, by its name; by default what `observed` returns, for all of them."""
        return self.observed(logits, batch.target, losses)

    def contributions(self, logits: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        """Contribution of each prediction to the metric, (M,); by default its loss."""
        return losses

    def forward(self, input: PackedSequence | tuple[Tensor, Tensor], hx: State | None = None) -> tuple[Tensor, State]:
        """Logits (N, num_outputs) or (B, num_outputs), and (h_n, c_n), of packed (N, K) ids or (N, F) features.

        For graphs, a pair (data, batch_sizes) stands for the PackedSequence, which torch cannot trace.
        """
        if not isinstance(input, PackedSequence):
            input = PackedSequence(*input)
        output, state = self.recurrent(self._embedded(input), hx)
        h_n = state if isinstance(state, Tensor) else state[0]
        hidden = output.data if self.per_row else self._last(h_n)
        return self.head(self.dropout(hidden)), state

    def _embedded(self, input: PackedSequence) -> PackedSequence:
        rows = self.dropout(self.embedding(input.data))
        return PackedSequence(rows, input.batch_sizes, input.sorted_indices, input.unsorted_indices)

    @torch.no_grad()
    def encode(self, batch: Batch) -> None:
        """Run the recurrent network alone over a batch, for the sake of its normalizers."""
        _, state = self.recurrent(self._embedded(batch.input), self._carried.before("encode", batch))
        self._carried.after("encode", state)

    def _last(self, h_n: Tensor) -> Tensor:
        """The top layer's last states, directions side by side: (layers · directions, B, H) → (B, directions · H)."""
        return h_n[-self.recurrent.num_directions :].transpose(0, 1).flatten(1)

    def _predict(self, batch: Batch, stage: str) -> tuple[Tensor, Tensor]:
        """Logits and losses of a batch, from the state its stage carries."""
        if batch.continues and self.recurrent.bidirectional:
            raise ValueError("a stream that continues cannot be read backward: use bidirectional=False")
        logits, state = self(batch.input, self._carried.before(stage, batch))
        self._carried.after(stage, state)
        if len(logits) != len(batch.target):
            raise ValueError(f"{len(logits)} predictions for a target of shape {tuple(batch.target.shape)}")
        losses = self.batch_losses(logits, batch)
        if losses.shape != (len(logits),):
            raise ValueError(f"losses must be ({len(logits)},), one per prediction, got {tuple(losses.shape)}")
        return self.decode(logits.detach(), batch), losses

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Mean loss of a batch, and the auxiliary losses of the normalizers, if any."""
        logits, losses = self._predict(batch, "train")
        loss, count = losses.mean(), len(losses)
        self.log("train/loss", loss.detach(), batch_size=count, prog_bar=True)
        self.train_metric(*self.observations(self.metric, batch, logits, losses.detach()))
        self.log(f"train/{self.metric}", self.train_metric, on_step=True, on_epoch=False, batch_size=count)
        if auxiliaries(self):
            penalty = auxiliary_loss(self)
            self.log("train/auxiliary_loss", penalty.detach(), batch_size=count)
            loss = loss + penalty
        return loss

    def validation_step(self, batch: Batch, batch_idx: int = 0) -> None:
        """Log loss and metrics; beside them those by running averages, and the loss by the batch's own statistics."""
        loss, count = self._evaluate(batch, "val", self.val_metrics)
        if has_batch_statistics(self):
            with statistics(self, "batch"):
                loss = self._predict(batch, "val_batch")[1].mean()
        self.log("val/loss_batch", loss, on_step=False, on_epoch=True, batch_size=count, sync_dist=True)
        if any(s.source == "population" for s in step_statistics(self)):
            with statistics(self, "running"):
                self._evaluate(batch, "val_running", self.val_running_metrics)

    def test_step(self, batch: Batch, batch_idx: int = 0) -> dict[str, Scores]:
        """Log loss and metrics; returns "scores", those of every prediction, for callbacks."""
        logits, losses = self._predict(batch, "test")
        self._log_evaluation(batch, "test", self.test_metrics, logits, losses)
        return {"scores": self._scores(batch, logits, losses)}

    def _evaluate(self, batch: Batch, stage: str, metrics: MetricCollection) -> tuple[Tensor, int]:
        logits, losses = self._predict(batch, stage)
        return self._log_evaluation(batch, stage, metrics, logits, losses)

    def _log_evaluation(
        self, batch: Batch, stage: str, metrics: MetricCollection, logits: Tensor, losses: Tensor
    ) -> tuple[Tensor, int]:
        loss, count = losses.mean(), len(losses)
        self.log(f"{stage}/loss", loss, on_step=False, on_epoch=True, batch_size=count, sync_dist=True)
        for name, metric in metrics.items():
            metric.update(*self.observations(name, batch, logits, losses))
            shown = name == self.metric and stage != "val_running"
            self.log(f"{stage}/{name}", metric, on_step=False, on_epoch=True, batch_size=count, prog_bar=shown)
        return loss, count

    @torch.no_grad()
    def scores(self, batch: Batch) -> Scores:
        """Every prediction of a batch by itself, in the mode the model is in; a stream's state is carried here, too."""
        return self._scores(batch, *self._predict(batch, "scores"))

    def _scores(self, batch: Batch, logits: Tensor, losses: Tensor) -> Scores:
        sizes = batch.input.batch_sizes
        length = sequence_lengths(sizes)
        step = row_steps(sizes) if self.per_row else length - 1
        if self.per_row:
            length = length[row_sequences(sizes)]
        score = self.contributions(logits, batch.target, losses)
        return Scores(losses, score, length.to(losses.device), step.to(losses.device))

    def configure_callbacks(self) -> list[L.Callback]:
        """Population statistics for validation and test, unless the trainer has such a callback of its own."""
        callbacks: list[L.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        return [] if any(isinstance(c, PopulationStatistics) for c in callbacks) else [PopulationStatistics()]

    def setup(self, stage: str) -> None:
        """Batch normalization on several processes is over the rows of all of them, unless it was told `sync=false`.

        Before training, class weights are counted and pretrained embeddings are read; checkpoints hold both.
        """
        if self.trainer.world_size > 1:
            synchronize(self)
        if stage != "fit":
            return
        data: Any = getattr(self.trainer, "datamodule", None)
        if self.hparams["class_weights"] == BALANCED:
            assert self.class_weight is not None
            self.class_weight.copy_(balanced(data, self.spec.num_outputs))
        if path := self.hparams["embeddings"]:
            with torch.no_grad():
                weight = self.embedding.embeddings[0].get_parameter("weight")
                found, column = load_embeddings(path, data, weight)
            rank_zero_info(f"embeddings: {path} has {found} of {len(weight)} tokens of {column or 'the vocabulary'}")

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Data-dependent initialization by the first training batch, for norms that ask for it; once in a run."""
        if not self.recurrent.needs_data:
            return
        # In a copy: torch replaces the tensors of a reparametrized weight, and DDP would lose its hooks on them.
        recurrent, training = deepcopy(self.recurrent), self.training
        with torch.no_grad():
            self.eval()  # without dropout
            recurrent.initialize_from_data(self._embedded(batch.input))
            self.train(training)
        # All processes take the numbers of the first one, whose batch is not that of the others.
        self.recurrent.load_state_dict(self.trainer.strategy.broadcast(recurrent.state_dict()))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of the training stream, so that an epoch can be resumed within."""
        checkpoint["carried_state"] = self._carried.save("train")

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Take up what `on_save_checkpoint` kept."""
        self._carried.restore("train", checkpoint["carried_state"], self.global_rank)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer named by the keys, with a schedule of its learning rate if `lr_decay` is below 1."""
        keys = self.hparams
        values = (keys[key] for key in ("optimizer", "learning_rate", "weight_decay", "momentum", "smoothing"))
        optimizer = build_optimizer(self.parameters(), *values)
        return with_schedule(optimizer, keys["lr_decay"], keys["lr_decay_after"])
