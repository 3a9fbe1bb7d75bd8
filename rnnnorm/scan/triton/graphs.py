"""Record the launches of a loop once and replay them, for shapes that come again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor | None]
Launch = Callable[[Tensors], None]
Replay = Callable[[], None]


def record_cuda_graph(launch: Replay) -> Replay:
    """A CUDA graph of what `launch` does on the current device; it runs once before, so that kernels are loaded.

    Where there is no GPU, kernels are interpreted and nothing can be recorded: then it is `launch` itself.
    """
    if not torch.cuda.is_available():
        return launch
    launch()
    torch.cuda.current_stream().synchronize()
    graph = torch.cuda.CUDAGraph()
    # Other threads, such as one that pins memory for a data loader, may go on working meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        launch()
    return graph.replay


class Recorder:
    """Runs loops on tensors of its own, so that their addresses stay the same, once a shape has come a second time.

    What a loop reads is copied in, what it writes is copied out: nothing that a caller holds is ever overwritten by a
    later replay. Least recently used recordings are dropped.

    Args:
        record: turns launches into something that repeats them.
        capacity: recordings kept.
        patience: shapes remembered as seen once.
    """

    def __init__(
        self, record: Callable[[Replay], Replay] = record_cuda_graph, capacity: int = 8, patience: int = 64
    ) -> None:
        self.record, self.capacity, self.patience = record, capacity, patience
        self._seen: OrderedDict[Hashable, None] = OrderedDict()
        self._recorded: OrderedDict[Hashable, tuple[dict[str, Tensor | None], Replay]] = OrderedDict()

    def run(self, key: Hashable, launch: Launch, reads: Tensors, writes: Tensors) -> None:
        """Do what `launch({**reads, **writes})` does.

        Args:
            key: what the launches depend on, beside types and shapes of the tensors.
            launch: the loop; it must allocate nothing that it keeps and set everything in `writes`.
            reads: tensors it reads only, by name.
            writes: tensors it sets, whatever they held before.
        """
        tensors = {**reads, **writes}
        key = (key, *((n, None if t is None else (t.shape, t.dtype, t.device)) for n, t in tensors.items()))
        if key in self._recorded:
            self._recorded.move_to_end(key)
        elif key in self._seen:
            del self._seen[key]
            own = {name: None if t is None else torch.empty_like(t) for name, t in tensors.items()}
            _copy(own, reads)
            self._recorded[key] = own, self.record(lambda: launch(own))
            while len(self._recorded) > self.capacity:
                self._recorded.popitem(last=False)
        else:
            self._seen[key] = None
            while len(self._seen) > self.patience:
                self._seen.popitem(last=False)
            return launch(tensors)
        own, replay = self._recorded[key]
        _copy(own, reads)
        replay()
        return _copy(writes, own)


def _copy(to: Tensors, source: Tensors) -> None:
    for name in to.keys() & source.keys():
        target, values = to[name], source[name]
        if target is not None and values is not None:
            target.copy_(values)
