"""From command line and YAML to data, model and trainer: LightningCLI, whose models take their shape from the data."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
import torch
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, _InstantiatorFn

import rnnnorm.data  # noqa: F401  (what is imported can be named without its module: --data TemporalOrder)
from rnnnorm.compare.experiments import find_experiment
from rnnnorm.compare.help import short_help
from rnnnorm.compare.messages import in_one_line
from rnnnorm.data.base import Spec
from rnnnorm.norms.presets import load_plugins
from rnnnorm.tasks import SequenceTask, for_spec
from rnnnorm.tasks.divergence import StopOnDivergence
from rnnnorm.tasks.network import import_network

# A `Spec` comes from the data module and is never typed: without this, jsonargparse asks for each of its fields.
jsonargparse.set_parsing_settings(subclasses_enabled=[Spec])
# Checkpoints hold the model's hyperparameters, a `Spec` among them; torch.load refuses classes it does not know.
torch.serialization.add_safe_globals([Spec])


class AutoTask(SequenceTask):
    """The task that the data ask for, one of `rnnnorm.tasks.TASKS`: the model that is meant when none is named.

    It holds the keys that all tasks share, to be configured before the data are known, and is never built: in its
    place comes what `rnnnorm.tasks.for_spec` chooses.
    """


AutoTask.__abstractmethods__ = frozenset()  # jsonargparse configures no abstract classes


TRAINER_DEFAULTS: dict[str, Any] = {
    "use_distributed_sampler": False,  # the data modules deal the data out themselves
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "num_sanity_val_steps": 0,  # before training, running statistics mean nothing
    "logger": {
        "class_path": "rnnnorm.engine.logger.CurveLogger",
        "init_args": {"save_dir": "runs", "name": "fit", "default_hp_metric": False},
    },
}


class TaskParser(LightningArgumentParser):
    """LightningCLI's parser, whose error messages are one line and say which keys exist."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Exit with code 2 and the message."""
        if not self.exit_on_error:  # a part of another message
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        text = in_one_line(message, parser)
        self.exit(2, f"{parser.prog.replace(' [options]', '')}: error: {text}\n")


class Formatter(jsonargparse.DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, as jsonargparse does, and leaves the lines of examples as they are."""


class TaskCLI(LightningCLI):
    """LightningCLI for sequence tasks.

    The data module's `spec` reaches the model without being typed, and where no model class is given the one that
    fits `spec.task` is taken. `-c` takes the name of an experiment as well as a file.

    Args:
        args: what stands on the command line after the program's name.
        run: whether there are subcommands that run the trainer at once.
        **kwargs: see `lightning.pytorch.cli.LightningCLI`.
    """

    def __init__(self, args: ArgsType = None, run: bool = True, **kwargs: Any) -> None:
        kwargs.setdefault("trainer_defaults", TRAINER_DEFAULTS | {"callbacks": [StopOnDivergence()]})
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=TaskParser,
            args=with_experiments(args) if isinstance(args, list) else args,
            run=run,
            **kwargs,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """The parser, which prints examples as they are written and takes no abbreviated keys."""
        return super().init_parser(formatter_class=Formatter, allow_abbrev=False, **kwargs)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse; arguments given from Python beside those of the interpreter's command line are no mistake here."""
        args = self._helped(parser, args) if isinstance(args, list) else args
        try:
            if isinstance(args, dict | jsonargparse.Namespace):
                self.config = parser.parse_object(args)
            else:
                self.config = parser.parse_args(args)
        except RecursionError as error:
            raise ValueError("a configuration contains itself, or is nested too deeply") from error
        except (AttributeError, KeyError, TypeError) as error:  # where the parser takes a shape for granted
            raise ValueError(f"a configuration has a value of another shape than its key expects: {error}") from error
        self._import_named()

    def _helped(self, parser: LightningArgumentParser, args: list[str]) -> list[str]:
        """Answer `--help` in a page, with what the other arguments say; `--help-all` is the parser's own help."""
        if "--help-all" in args or not {"-h", "--help"} & set(args):
            return ["--help" if arg == "--help-all" else arg for arg in args]
        command = args[0] if args[0] in self.subcommands() else ""
        asked = [arg for arg in args if arg not in ("-h", "--help", command)]
        parser = self._subcommand_parsers[command] if command else parser
        known = any(arg.partition("=")[0] in ("-c", "--config", "--data") for arg in asked)
        config = parser.parse_args(asked if known else [*asked, "--data", "TemporalOrder"])  # some are required
        if not known:
            config.data = None
        sys.stdout.write(short_help(parser, config))
        sys.exit(0)

    def _import_named(self) -> None:
        """Import what the user names inside of words: `norm: mymodule:peak`, `network: mymodule.MyNetwork`.

        Raises:
            ValueError: it cannot be imported.
        """
        config = self.config.get(self.config.get("subcommand") or "") or self.config
        norm = config.get("model.init_args.norm")
        if isinstance(norm, str):
            load_plugins(norm)
        network = config.get("model.init_args.network")
        if isinstance(network, str):
            import_network(network)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Those of LightningCLI but `predict`: a task scores, it does not hand out predictions."""
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name != "predict"}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add trainer, model and data, the model's `spec` being that of the data."""
        super().add_core_arguments_to_parser(parser)
        parser.set_defaults({"model": {"class_path": f"{AutoTask.__module__}.{AutoTask.__qualname__}"}})
        parser.link_arguments("data.spec", "model.init_args.spec", apply_on="instantiate")

    def before_model(self) -> None:
        """A hook: the data exist, the model is about to be made."""

    def after_fit(self) -> None:
        """Print where the checkpoint lies, and the command that tests it."""
        files, folder = getattr(self.trainer, "checkpoint_callback", None), self.trainer.log_dir
        checkpoint = getattr(files, "best_model_path", "")
        if not self.trainer.is_global_zero or not checkpoint:
            return
        print(f"checkpoint:  {checkpoint}")
        config = Path(folder or "") / "config.yaml"
        if folder and config.is_file():
            print(
                f"to test it:  {shlex.join(['rnnnorm', 'test', '-c', str(config), '--ckpt_path', checkpoint])}",
                flush=True,
            )

    def _parse_ckpt_path(self) -> None:
        """Take the model's keys from the checkpoint, which may name no class that nobody has named before.

        Raises:
            ValueError: it does; looking for that class would run the code of any module that Python finds.
        """
        path = self.config.get(f"{self.config.get('subcommand')}.ckpt_path")
        if path and Path(path).is_file():
            saved = torch.load(path, weights_only=True, map_location="cpu")
            known = saved.get("hyper_parameters", {}).get("_class_path") if isinstance(saved, dict) else None
            module, _, name = str(known).rpartition(".")
            cls = getattr(sys.modules.get(module), name, None)
            if known is not None and not (isinstance(cls, type) and issubclass(cls, LightningModule)):
                raise ValueError(f"{path} is of {known}, a class that is not known here: name it by --model")
        super()._parse_ckpt_path()

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Checkpoints hold numbers and words: nothing else is read from them, not even from an address."""
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        return kwargs | ({"weights_only": True} if kwargs.get("weights_only", False) is None else {})

    def _add_instantiators(self) -> None:
        super()._add_instantiators()
        self.parser.add_instantiator(self._instantiate_task, SequenceTask, subclasses=True, prepend=True)

    def _instantiate_task(
        self, class_type: type[SequenceTask], applied_instantiation_links: dict[str, Any], **kwargs: Any
    ) -> SequenceTask:
        spec = kwargs.get("spec")
        if not isinstance(spec, Spec):
            data = self._get(self.config, "data").class_path
            raise ValueError(
                f"{data} has no property `spec` of type rnnnorm.data.Spec, which {class_type.__name__} needs"
            )
        if class_type is AutoTask:
            class_type = for_spec(spec)
            self._get(self.config, "model").class_path = f"{class_type.__module__}.{class_type.__qualname__}"
        self.before_model()
        # LightningCLI's own instantiator notes in the checkpoint what the model was made from.
        note = _InstantiatorFn(cli=self, key="model")
        return note(class_type, applied_instantiation_links=applied_instantiation_links, **kwargs)


def with_experiments(args: list[str]) -> list[str]:
    """Replace the name of an experiment after -c or --config by its file.

    Raises:
        ValueError: no such experiment or file.
    """
    found, awaited = [], False
    for arg in args:
        option, equals, value = arg.partition("=")
        if awaited:
            found.append(str(find_experiment(arg)))
        elif equals and option in ("-c", "--config"):
            found += [option, str(find_experiment(value))]
        else:
            found.append(arg)
        awaited = not awaited and arg in ("-c", "--config")
    return found
