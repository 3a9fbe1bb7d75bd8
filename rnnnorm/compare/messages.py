"""Messages of the parser in one line, with a suggestion for what was misspelt."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module

from lightning import Callback, LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger

from rnnnorm.common.arguments import suggestion
from rnnnorm.common.suggestions import did_you_mean
from rnnnorm.compare.experiments import experiments
from rnnnorm.compare.parameters import parameters_of
from rnnnorm.tasks import SequenceTask

CLASSES: dict[str, tuple[str, type, str]] = {
    "data": ("data module", LightningDataModule, "; `rnnnorm list tasks` shows those of rnnnorm"),
    "model": ("model", LightningModule, "; those of rnnnorm are in rnnnorm.tasks"),
    "trainer.callbacks": ("callback", Callback, ""),
    "trainer.logger": ("logger", Logger, ""),
}
"""Keys that take a class: what it is called, its base, and where one finds out more."""

RESTRICTED = {
    "PositiveInt": "a whole number of at least 1",
    "NonNegativeInt": "a whole number of at least 0",
    "PositiveFloat": "a number above 0",
}
"""Types of jsonargparse with a range, in words."""

CLASS_NAMES = {base.__name__ for _, base, _ in CLASSES.values()}


def in_one_line(message: str, parser: LightningArgumentParser) -> str:
    """An error of jsonargparse, or of LightningCLI, in one line.

    Args:
        message: what jsonargparse says: a line, or a page about the types of a union.
        parser: which says it; it knows the keys that exist.
    """
    message = _in_words(message)
    text = _unknown_key(message) or _unknown_option(message, parser) or _unknown_class(message) or _wrong_value(message)
    if text is None:
        options = [option for action in parser._actions for option in action.option_strings]
        text = " ".join(line.strip() for line in message.splitlines() if line.strip())
        text += suggestion(text, options) + _experiment(text)
    return text


def _in_words(message: str) -> str:
    """A message with what jsonargparse's restricted types expect in words: `PositiveInt` is a whole number above 0."""
    problem = re.search(r'Parser key "([\w.]+)":\s+Not of type (\w+): (.*)', message)
    if problem is None or problem[2] not in RESTRICTED:
        return message
    given = re.sub(r"^invalid literal.*: '(.*)'$|^(\S+) does not conform.*$", r"\1\2", problem[3])
    option = f"--{problem[1].replace('_', '-')}"
    return f"{option}: expected {RESTRICTED[problem[2]]}, got {given!r}"


def _unknown_key(message: str) -> str | None:
    """A key of `data` or `model` that the class does not have."""
    problem = re.search(r"class_path '([\w.]+)':\s+Option '([\w.]+)' is not accepted", message)
    if problem is None:
        return None
    module, _, name = problem[1].rpartition(".")
    if name in CLASS_NAMES:
        return f"the key {problem[2]!r} needs a class that has it: name one by class_path"
    keys = [key for key in parameters_of(getattr(import_module(module), name)) if key != "spec"]
    what = "the model" if name == "AutoTask" else name
    hint = did_you_mean(problem[2], keys)
    return f"{what} has no key {problem[2]!r}{hint}; it has: {', '.join(keys) or 'none'}"


def _unknown_option(message: str, parser: LightningArgumentParser) -> str | None:
    """A key of a file that the command does not have."""
    problem = re.search(r"(?:Group '([\w.]+)' does not accept option|Option) '([\w.]+)'(?: is not accepted)?", message)
    if problem is None:
        return None
    group = f"{problem[1]}." if problem[1] else ""
    known = {str(action.dest).removeprefix(group) for action in parser._actions if str(action.dest).startswith(group)}
    names = sorted(name for name in {name.partition(".")[0] for name in known} if not name.startswith("_"))
    hint = did_you_mean(problem[2], names) or (f"; it is a key of {_owner(problem[2])}" if _owner(problem[2]) else "")
    return f"{problem[1] or 'a configuration'} has no key {problem[2]!r}{hint}"


def _owner(key: str) -> str:
    """The section in which a key belongs that stands outside of all."""
    return "--model" if key in SequenceTask.__init__.__annotations__ else ""


def _unknown_class(message: str) -> str | None:
    """A class that cannot be found, or is of another kind."""
    key = _key(message)
    what, base, more = CLASSES.get(key, ("class", object, ""))
    named = re.search(r"Expected a dot import path string: (\S+)", message)
    if named is not None:
        hint = did_you_mean(named[1], {cls.__name__ for cls in _subclasses(base)} if key in CLASSES else ())
        return f"{key}: there is no {what} {named[1]!r}{hint}{more}; one of your own is named module.Class"
    named = re.search(r"class_path '([\w.]+)':\s+((?:No module named|module) '.*)", message)
    if named is not None:
        module, _, name = named[1].rpartition(".")
        public = [known for known in vars(sys.modules[module]) if known[0] != "_"] if module in sys.modules else []
        return f"{key}: there is no {what} {named[1]!r}: {named[2].strip()}{did_you_mean(name, public)}"
    if "does not correspond to a subclass of" in message:
        return f"{key}: {_given(message)!r} is no {what}, that is, no subclass of {base.__qualname__}"
    return None


def _subclasses(base: type) -> Iterator[type]:
    found: list[type] = type.__subclasses__(base)
    for cls in found:
        yield cls
        yield from _subclasses(cls)


def _wrong_value(message: str) -> str | None:
    """A value of another type, or outside a range."""
    inner = re.split(r"(?:Given|Got) value", message.rpartition("Parser key")[2])[0]
    types = re.findall(r"Expected a (?:<class '([^']+)'>|typing\.Literal\[(.*?)\])", inner)
    ranges = re.findall(r"does not conform to restriction v(\S+)", inner)
    if not types and not ranges:
        return None
    choices = [choice for _, literal in types for choice in re.findall(r"'([^']*)'|(\d+)", literal)]
    words = [word or number for word, number in choices]
    kinds = [{"NoneType": "null"}.get(name, name) for name in (full.rpartition(".")[2] for full, _ in types if full)]
    expected = [*dict.fromkeys(words), *(f"a number {limit}" for limit in ranges)]
    expected += [kind for kind in dict.fromkeys(kinds) if kind not in CLASS_NAMES and not (kind == "int" and words)]
    key, value = _key(message), _given(message)
    if key in CLASSES and not set(expected) - {"null", "list"}:
        expected = [f"the name of a {CLASSES[key][0]}", "class_path and init_args"]
    return f"{key}: expected {' or '.join(expected)}, got {value!r}{did_you_mean(value, words)}"


def _key(message: str) -> str:
    """The key that a page is about, as it is typed: `model.dropout`."""
    keys: Iterable[str] = re.findall(r"Parser key \"([\w.+]+)\"", message)
    return ".".join(dict.fromkeys(key.rstrip("+") for key in keys)) or "a value"


def _given(message: str) -> str:
    found = re.findall(r"(?:Given|Got) value: (.*)", message)
    nested = re.search(r"NestedArg\(key='[^']*', val='(.*)'\)", message)
    named = [value for value in found if not value.startswith("NestedArg")]
    value = named[0].strip() if named else nested[1] if nested else ""
    return value if len(value) < 80 else f"{value[:77]}…"


def _experiment(message: str) -> str:
    """A word without an option: perhaps an experiment."""
    word = re.fullmatch(r"unrecognized arguments: ([^-]\S*)(?: .*)?", message)
    if word is None:
        return ""
    return f"{did_you_mean(word[1], experiments())}; an experiment is named by -c"
