"""A tagger with a conditional random field over the tags, in plain torch, and the F1 score of spans as its metric.

    rnnnorm compare --data PartOfSpeech --data.treebank folder/prefix --data.tags xpos --data-dir data \
        --model crf_tagger.CRFTagger --norms none,ln,bn-timestep

from the folder in which this file lies.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from rnnnorm.data import Batch, Spec
from rnnnorm.tasks import Tagging


class CRFTagger(Tagging):
    """Tagging by a linear-chain conditional random field (Lafferty, McCallum and Pereira, ICML 2001) on an LSTM.

        log p(y | x) = s(y) - log Σ_y' exp s(y')      s(y) = a[y_1] + Σ_t e_t[y_t] + Σ_t A[y_{t-1}, y_t] + b[y_T]

    e_t are the logits of row t; A, a and b are learned, initially 0. The loss of a sequence is -log p, by the forward
    algorithm; each of its T rows has a T-th of it, so that the mean over rows is that per word. Metrics see the most
    probable sequence of tags, found by the Viterbi algorithm. Metric: `span_f1`, see `SpanF1`; beside it `accuracy`.
    """

    metric = "span_f1"
    metric_mode = "max"

    def __init__(self, spec: Spec | dict[str, Any], norm: str = "none", **keys: Any) -> None:
        super().__init__(spec, norm, **keys)
        C = self.spec.num_outputs
        self.transitions = nn.Parameter(torch.zeros(C, C))
        self.first = nn.Parameter(torch.zeros(C))
        self.last = nn.Parameter(torch.zeros(C))

    def setup(self, stage: str) -> None:
        """Names of the tags, which tell where spans begin."""
        super().setup(stage)
        names = getattr(self.trainer.datamodule, "class_names", None)  # type: ignore[attr-defined]
        for metric in self.modules():
            if isinstance(metric, SpanF1):
                metric.names = list(names or ())

    def batch_losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """-log p(y | x) / T of each row's sequence, (N,), in nats."""
        sizes = batch.input.batch_sizes.tolist()
        emissions, tags = logits.split(sizes), batch.target.split(sizes)
        alpha = self.first + emissions[0]  # (B_t, C): log Σ exp s over all tags before, by the tag of this step
        score = alpha.gather(1, tags[0][:, None])[:, 0]  # (B_t,): s of the given tags so far
        ended: list[Tensor] = []
        for t in range(1, len(sizes) + 1):
            active = sizes[t] if t < len(sizes) else 0
            if active < len(alpha):  # sequences whose last step was the one before
                log_z = (alpha[active:] + self.last).logsumexp(1)
                ended.insert(0, log_z - score[active:] - self.last[tags[t - 1][active:]])
            if not active:
                break
            before, now = tags[t - 1][:active], tags[t]
            score = score[:active] + self.transitions[before, now] + emissions[t].gather(1, now[:, None])[:, 0]
            alpha = (alpha[:active, :, None] + self.transitions).logsumexp(1) + emissions[t]
        per_row = torch.cat(ended) / lengths_of(batch).to(logits.device)
        return torch.cat([per_row[:active] for active in sizes])

    @torch.no_grad()
    def decode(self, logits: Tensor, batch: Batch) -> Tensor:
        """One-hot rows (N, C) of the most probable tags."""
        sizes = batch.input.batch_sizes.tolist()
        emissions = logits.split(sizes)
        best, back = [self.first + emissions[0]], []
        for t in range(1, len(sizes)):
            scores, arguments = (best[-1][: sizes[t], :, None] + self.transitions).max(1)
            best.append(scores + emissions[t])
            back.append(arguments)
        path: list[Tensor] = [torch.empty(0)] * len(sizes)
        for t in reversed(range(len(sizes))):
            ends = (best[t] + self.last).argmax(1)  # of those that end here; the others come from the step after
            if t + 1 < len(sizes):
                later = path[t + 1]
                ends[: sizes[t + 1]] = back[t].gather(1, later[:, None])[:, 0]
            path[t] = ends
        return nn.functional.one_hot(torch.cat(path), logits.shape[1]).to(logits.dtype)

    def metrics(self) -> dict[str, Metric]:
        """F1 score of spans, and accuracy over rows."""
        accuracy = MulticlassAccuracy(self.spec.num_outputs, average="micro")
        return {"span_f1": SpanF1(), "accuracy": accuracy}

    def observations(self, metric: str, batch: Batch, logits: Tensor, losses: Tensor) -> tuple[Tensor, ...]:
        """Spans need to know which rows are of one sequence."""
        if metric == "span_f1":
            return logits.argmax(1), batch.target, batch.input.batch_sizes
        return super().observations(metric, batch, logits, losses)


class SpanF1(Metric):
    """F1 score of labelled spans, 2 · right / (found + there): a span is right if both its ends and its label are.

    Tags are named as in CoNLL-2003: `B-X` begins a span of X, `I-X` goes on with it, or begins one after anything else
    (Ramshaw and Marcus 1995); other names, such as `O`, are outside. Without any such name in the data, each maximal
    run of one tag is a span.
    """

    right: Tensor
    found: Tensor
    there: Tensor

    def __init__(self, names: list[str] | None = None) -> None:
        super().__init__()
        self.names = names or []
        for state in ("right", "found", "there"):
            self.add_state(state, torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, found: Tensor, there: Tensor, batch_sizes: Tensor) -> None:
        """Count the spans of a batch: tags of packed rows, (N,) both, and (T,) active rows per step."""
        for a, b in zip(unpacked(found, batch_sizes), unpacked(there, batch_sizes), strict=True):
            ours, theirs = self.spans(a), self.spans(b)
            self.right += len(ours & theirs)
            self.found += len(ours)
            self.there += len(theirs)

    def compute(self) -> Tensor:
        """The score; 0 where there are no spans at all."""
        return 2 * self.right / (self.found + self.there).clamp(min=1)

    def spans(self, tags: list[int]) -> set[tuple[int, int, str]]:
        """First step, step after the last one, and label, of each span of a sequence."""
        begin_inside = any(name[:2] in ("B-", "I-") for name in self.names)
        spans, start, label = set(), 0, ""
        for t, tag in enumerate([*tags, -1]):
            name = self.names[tag] if begin_inside and tag >= 0 else str(tag) if tag >= 0 else ""
            inside = name[2:] if name[:2] in ("B-", "I-") else "" if begin_inside else name
            if inside != label or name[:2] == "B-":
                if label:
                    spans.add((start, t, label))
                start, label = t, inside
        return spans


def lengths_of(batch: Batch) -> Tensor:
    """Steps of each sequence, (B,) int64 on the CPU."""
    sizes = batch.input.batch_sizes
    return (sizes[None, :] > torch.arange(int(sizes[0]))[:, None]).sum(1)


def unpacked(rows: Tensor, batch_sizes: Tensor) -> list[list[int]]:
    """The values of each sequence, of packed rows (N,)."""
    steps = [part.tolist() for part in rows.split(batch_sizes.tolist())]
    return [[step[b] for step in steps if b < len(step)] for b in range(int(batch_sizes[0]))]
