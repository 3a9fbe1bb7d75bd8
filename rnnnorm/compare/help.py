"""Short help: the keys that are used most, with the values that they have."""

from __future__ import annotations

import textwrap
from argparse import SUPPRESS
from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

KEYS: Mapping[str, Mapping[str, str]] = {
    "data": {
        "": "data module, see `rnnnorm list tasks`; one of your own: module.Class",
        "batch_size": "sequences per batch",
        "data_dir": "where the data sets lie",
    },
    "model": {
        "": "model; by default that of the data's task; one of your own: module.Class",
        "norm": "a preset, or normalizers by place",
        "cell": "lstm, gru, rnn-tanh, rnn-relu, rnn-identity, ligru or indrnn",
        "network": "a torch module of your own instead of the cell's: module.Class",
        "hidden_size": "units of each layer and direction",
        "num_layers": "recurrent layers",
        "bidirectional": "also read each sequence from its end",
        "dropout": "probability of dropping a unit",
        "embedding_size": "numbers per token",
        "embeddings": "file of pretrained embeddings",
        "class_weights": "balanced, or a weight per class",
        "optimizer": "adam, adamw, sgd or rmsprop",
        "learning_rate": "of the first epoch",
        "weight_decay": "L2 penalty",
    },
    "trainer": {
        "max_epochs": "passes over the training data",
        "gradient_clip_val": "largest norm of the gradient",
        "accelerator": "cpu, gpu, …; auto: what there is",
        "devices": "how many, or which",
    },
}
"""Keys that are shown, of each section; "" is the section's class."""

TEXTS = {
    "config": "YAML file; for compare also an experiment, see `rnnnorm list experiments`",
    "ckpt_path": "checkpoint to go on from, or to evaluate",
}
"""Better ones than the parser's."""

LEFT_OUT = ("help", "print_config", "seed_everything", "optimizer", "lr_scheduler", "weights_only", *KEYS)
"""Options that only `--help-all` shows."""

WIDTH = 100


def short_help(parser: LightningArgumentParser, config: Namespace) -> str:
    """The help of a command in a page: its own options, and `KEYS`.

    Args:
        parser: of the command.
        config: what the command line and the experiment say.
    """
    prog = parser.prog.replace(" [options]", "")
    lines = [f"usage: {(parser.usage or prog) % {'prog': prog}}", ""]
    lines += [parser.description or "", "", "options, and their values now in brackets:"]
    for action in parser._actions:
        if "." in action.dest or action.dest in LEFT_OUT or action.help == SUPPRESS or not action.option_strings:
            continue
        names = ", ".join(name for name in action.option_strings if not name.endswith("+"))
        value = config.get(action.dest)
        lines += _line(names, TEXTS.get(action.dest, action.help or ""), value if value is not False else None)
    for section, keys in KEYS.items():
        lines.append("")
        part = config.get(section)
        options = part if section == "trainer" else (part.get("init_args") if part else None) or {}
        for key, text in keys.items():
            if key == "":
                name = str(part.class_path).rpartition(".")[2] if part else None
                lines += _line(f"--{section}", text, None if name == "AutoTask" else name)
            elif key in options and not (key == "norm" and "norms" in config):
                lines += _line(f"--{section}.{key}", text, options.get(key))
    more = f"`{prog} --help-all` shows every key; --data.help CLASS and --model.help CLASS those of a class."
    return "\n".join([*lines, "", (parser.epilog or "").rstrip(), more, ""])


def _line(name: str, text: str, value: Any) -> list[str]:
    shown = "" if value is None else f" [{value if not isinstance(value, list) else ', '.join(map(str, value))}]"
    first, *rest = textwrap.wrap(text + shown, WIDTH - 30) or [""]
    head = [f"  {name:<27} {first}"] if len(name) <= 27 else [f"  {name}", " " * 30 + first]
    return [*head, *(" " * 30 + line for line in rest)]
