"""The configuration that all runs of a comparison share, and how one run is built from it."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from jsonargparse.typing import PositiveFloat, PositiveInt
from lightning import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import TensorBoardLogger

from rnnnorm.common.arguments import values_of
from rnnnorm.compare.configuration import TRAINER_DEFAULTS, TaskCLI
from rnnnorm.compare.experiments import find_experiment
from rnnnorm.compare.foreign import evaluate_by_population
from rnnnorm.compare.keys import assign, read
from rnnnorm.compare.plan import parse_baseline, parse_norms, parse_seeds
from rnnnorm.compare.search import gather
from rnnnorm.compare.tunable import TUNE, add_tuning, idle_tuning, read_search
from rnnnorm.engine.options import OPTIONS, Options, add_options
from rnnnorm.engine.run import Run

OWN = ("norms", "baseline", "seeds", "out", "data_dir", "max_minutes", "threads", "overwrite", *OPTIONS, *TUNE)
"""Keys of the comparison itself; everything else is a key of each run."""

MACHINE = (
    "data.init_args.data_dir",
    "data.init_args.data.init_args.data_dir",
    "data.init_args.download",
    "data.init_args.num_workers",
    "trainer.accelerator",
    "trainer.default_root_dir",
    "trainer.logger",
)
"""Keys that say where and how to compute, not what: two comparisons that differ in these only are the same one."""

EXAMPLES = """\
examples:
  rnnnorm compare                                      eight presets on generated sequences, a few minutes
  rnnnorm compare --norms none,ln,bn-timestep:gain=1.0 --seeds 3 --model.hidden_size 128
  rnnnorm compare -c pos-tagging --data-dir data --max-minutes 60
  rnnnorm compare --tune --jobs 2                      each norm at a learning rate of its own
  rnnnorm compare -c mine.yaml --trainer.max_epochs 3 --out runs/mine
The same command again skips finished runs and goes on with an interrupted one.
"""


class Comparison(TaskCLI):
    """What `rnnnorm compare` was asked for.

    It can be pickled, for worker processes: these get what was read here, not files that may have changed since.

    Args:
        args: what stands after `rnnnorm compare`, or the keys and values of another comparison.
        experiment: the name of those.

    Raises:
        ValueError: an unknown norm, experiment or seed, or keys that contradict the comparison.
        SystemExit: a key or value that the parser refuses; the message is on stderr.
    """

    def __init__(self, args: list[str] | Namespace, experiment: str = "") -> None:
        self.experiment = experiment
        typed: list[str] | None = None
        if isinstance(args, list):
            self.experiment, args = _experiment(typed := gather(args))
        self._ready = False
        self._logger: TensorBoardLogger | None = None
        self._callbacks: list[Callback] = []
        super().__init__(
            args,
            run=False,
            seed_everything_default=False,
            save_config_callback=None,
            trainer_defaults=TRAINER_DEFAULTS | {"logger": None},  # each run has its own
            parser_kwargs={
                "prog": "rnnnorm compare",
                "usage": "%(prog)s [-c EXPERIMENT] [--norms NORMS] [--seeds SEEDS] [--out DIR] [options]",
                "description": "Train the same network under several normalizers and compare them.",
                "epilog": EXAMPLES,
            },
        )
        self._given = self.config.clone()
        self.notes: list[str] = []
        """What the user should know before the runs begin."""
        if typed is not None and args != typed and _names_data(typed):  # the rest is that of the default experiment
            self.experiment = folder_of(self.config.data.class_path)
            self.notes += _inherited(self.config, typed)
        own = {key: self.config.pop(key) for key in OWN}
        self.norms = parse_norms(own["norms"])
        self.baseline = parse_baseline(own["baseline"])
        self.seeds = parse_seeds(own["seeds"])
        self.out = Path(own["out"] or Path("runs") / self.experiment)
        self.max_minutes: float | None = own["max_minutes"]
        self.threads: int | None = own["threads"] and int(own["threads"])  # a plain one, for YAML
        self.overwrite: bool = own["overwrite"]
        self.options = Options(**{key: own[key] for key in OPTIONS}).resolved(jobs=1)
        self._check(own["data_dir"])
        self.search = read_search(self, {key: own[key] for key in TUNE}, (*OWN, *MACHINE))
        if typed is not None and self.search is None:
            self.notes += idle_tuning(typed)
        self.config.seed_everything = False
        self.config.model.init_args.norm = "none"
        self._ready = True
        self._common = self.config.clone()

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (pickle.dumps(self._given), self.experiment)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the keys of the comparison itself."""
        add = parser.add_argument
        add(
            "--norms",
            type=str | list[str],
            default="core",
            help="presets with overrides (a,b:gain=1.0,c), core, or all",
        )
        add("--baseline", type=str, default="none", help="the norm that the report compares the others with")
        add("--seeds", type=int | list[int] | str, default=1, help="how many seeds (0, 1, …), or a list of them (3,7)")
        add("--out", type=str | None, default=None, help="folder of the results; runs/<experiment>, or runs/<data>")
        add("--data-dir", type=str | None, default=None, help="where the data sets lie; the same as --data.data_dir")
        add(
            "--max-minutes",
            type=PositiveFloat | None,
            default=None,
            help="time for all runs, evaluation included",
        )
        add(
            "--threads",
            type=PositiveInt | None,
            default=None,
            help="CPU threads; those of the folder's runs, or torch's own choice",
        )
        add("--overwrite", action="store_true", help="delete what another configuration left in the folder")
        add_options(add)
        add_tuning(add)

    def _set_seed(self) -> None:
        """Not at start-up: each run sets its own seed."""

    def instantiate_classes(self) -> None:
        """Build the objects of one run; at start-up there is none yet."""
        if self._ready:
            super().instantiate_classes()

    def _check(self, data_dir: str | None) -> None:
        config = self.config
        if config.get("data") is None:
            raise ValueError("no data: name a data module with --data, see `rnnnorm list tasks`")
        for name in ("model", "trainer"):
            if config.get(name) is None:
                raise ValueError(f"{name}: expected a section with keys, got nothing")
        model, data = config.model, config.data
        if "norm" not in model.init_args:
            raise ValueError(f"{model.class_path} has no argument `norm`, so there is nothing to compare")
        if model.init_args.norm != "none":
            raise ValueError(f"--model.norm {model.init_args.norm}: a comparison takes its norms from --norms")
        if config.seed_everything is not False:
            raise ValueError(f"--seed_everything {config.seed_everything}: a comparison takes its seeds from --seeds")
        strategy = config.trainer.strategy
        if isinstance(strategy, str) and any(word in strategy for word in ("spawn", "fork", "notebook")):
            raise ValueError(
                f"--trainer.strategy {strategy}: its processes do not hand back what a comparison writes down; use ddp"
            )
        if self.options.executor != "local" and (
            config.trainer.devices not in ("auto", 1, "1") or config.trainer.num_nodes != 1
        ):
            raise ValueError(
                f"--trainer.devices {config.trainer.devices} --trainer.num_nodes {config.trainer.num_nodes}: "
                f"with --executor {self.options.executor} each run has one device"
            )
        if data_dir is not None:
            reads = data
            while "data_dir" not in reads.init_args and hasattr(inner := reads.init_args.get("data"), "init_args"):
                reads = inner  # a module that joins the sequences of another one
            if "data_dir" not in reads.init_args:
                raise ValueError(f"--data-dir {data_dir}: {data.class_path} reads no files")
            reads.init_args.data_dir = data_dir

    def describe(self) -> dict[str, Any]:
        """What all runs have in common, as plain YAML types: this is what makes two comparisons the same one."""
        described: dict[str, Any] = yaml.safe_load(self.parser.dump(self._common.clone(), skip_none=False))
        described |= self.search.describe() if self.search is not None else {}
        described["model"]["init_args"].pop("norm")
        described.pop("seed_everything")
        for key in MACHINE:
            *groups, leaf = key.split(".")
            where = described
            for group in groups:
                where = where.get(group) or {}
            where.pop(leaf, None)
        return described

    def configured(self, key: str) -> Any:
        """The value that a key, `model.learning_rate`, has in all runs that have none of their own.

        Raises:
            ValueError: there is no such key.
        """
        return read(self._common, key)

    @property
    def model_options(self) -> Mapping[str, Any]:
        """Constructor arguments of the model, by name."""
        return self.config.model.init_args  # type: ignore[no-any-return]

    def build_data(self) -> LightningDataModule:
        """The data module by itself."""
        config = self._common.clone()
        config.pop("model")
        return self.parser.instantiate_classes(config).data  # type: ignore[no-any-return]

    def build(self, run: Run, logger: TensorBoardLogger, callbacks: list[Callback]) -> tuple[Trainer, LightningModule]:
        """Trainer and model of one run; the data module is `self.datamodule`.

        All norms of one seed get the same initial weights and the same batches: the random streams are set before
        the data module and again before the model is made. Another seed means other weights and another order of the
        same data.
        """
        self.config = self._common.clone()
        self.config.seed_everything = run.seed
        self.config.model.init_args.norm = run.norm
        if self.config.data.init_args.get("shuffle_seed", 0) is None:
            self.config.data.init_args.shuffle_seed = run.seed
        for key, value in run.values:
            assign(self.config, key, value)
        vars(self).pop("config_dump", None)  # what LightningCLI notes in checkpoints, kept from the run before
        self._logger, self._callbacks = logger, callbacks
        seed_everything(run.seed, workers=True, verbose=False)
        self.instantiate_classes()
        evaluate_by_population(self.trainer, self.model)
        return self.trainer, self.model

    def before_model(self) -> None:
        """Whatever the data drew from the random streams: the weights depend on the seed alone."""
        seed_everything(self.config.seed_everything, workers=True, verbose=False)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with the run's logger and callbacks, and silent: `compare` shows the progress itself."""
        given = self.config_init["trainer"]["logger"]
        others = given if isinstance(given, list) else [given]
        config = {
            **self.config_init["trainer"],
            "logger": [self._logger, *(logger for logger in others if not isinstance(logger, bool | None))],
            "default_root_dir": self._logger.log_dir if self._logger else None,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": True,
        }
        if self.options.executor != "local" and config["devices"] == "auto":
            config["devices"] = 1
        trainer = self._instantiate_trainer(config, list(self._callbacks))
        # Lightning's own answer to SIGTERM would end a run between two steps that it can be resumed from.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        return trainer

    def tester(self, callback: Callback) -> Trainer:
        """A trainer that only tests, on the same devices and with the same precision."""
        config = {**self.config_init["trainer"], "logger": False, "callbacks": None, "enable_checkpointing": False}
        config |= {"enable_progress_bar": False, "enable_model_summary": False, "fast_dev_run": False}
        return Trainer(**{**config, "callbacks": [callback]})

    def run_config(self) -> str:
        """The resolved configuration of the run that was built last; `rnnnorm fit -c` takes it."""
        config = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        config["trainer"].pop("logger")  # `fit` has one of its own
        return yaml.safe_dump(config, sort_keys=False)


@lru_cache(maxsize=4)
def _again(given: bytes, experiment: str) -> Comparison:
    """The comparison of a pickle; one for all runs of a worker process."""
    return Comparison(pickle.loads(given), experiment)


def _experiment(args: list[str]) -> tuple[str, list[str]]:
    """The name of the experiment, and the arguments with the default experiment where none is given."""
    named = values_of(args, "-c", "--config")
    if not named:
        return "default", ["-c", "default", *args]
    return find_experiment(named[-1]).stem, args


def _names_data(args: list[str]) -> bool:
    return any(arg.partition("=")[0] in ("--data", "--data.class_path") for arg in args)


def folder_of(class_path: str) -> str:
    """The folder for a data module's runs: `japanese-vowels` for `rnnnorm.data.JapaneseVowels`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", class_path.rpartition(".")[2]).lower()


def _inherited(config: Namespace, typed: list[str]) -> list[str]:
    """What a command without -c takes from the default experiment, as one would type it."""
    default = yaml.safe_load(find_experiment("default").read_text(encoding="utf-8"))
    taken = []
    for section in ("", "data", "model", "trainer"):
        part = default if not section else default.get(section, {})
        for key, value in (part.get("init_args", part)).items():
            name = f"{section}.{key}" if section else key
            where = f"{section}.init_args.{key}" if "init_args" in part else name
            said = any(arg.partition("=")[0] == f"--{name}" for arg in typed)
            if not isinstance(value, dict) and not said and config.get(where) == value:
                taken.append(f"--{name} {value}")
    if not taken:
        return []
    return [f"not given, so as in the default experiment: {' '.join(taken)}"]


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Where two configurations differ, one line per key: `model.hidden_size: 64 there, 32 now`."""
    lines: list[str] = []
    for key in sorted({*old, *new}, key=str):  # of a broken file, not all are texts
        name = f"{prefix}{key}"
        there, now = old.get(key), new.get(key)
        if isinstance(there, Mapping) and isinstance(now, Mapping):
            lines += differences(there, now, f"{name}.")
        elif there != now:
            lines.append(f"{name.replace('init_args.', '')}: {there} there, {now} now")
    return lines
