"""Command lines: a parser whose errors are one line, with a suggestion for what was misspelt."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NoReturn

from .suggestions import did_you_mean


class ArgumentParser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 and `PROG: error: MESSAGE`."""
        options = [option for action in self._actions for option in action.option_strings]
        self.exit(2, f"{self.prog}: error: {message}{suggestion(message, options)}\n")


def values_of(args: Sequence[str], *options: str) -> list[str]:
    """The values that a command line gives to an option: first those of `--jobs 2`, then those of `--jobs=2`.

    Args:
        args: the command line.
        options: names of the option, `-c` and `--config`.
    """
    apart = [value for option, value in pairwise([*args, ""]) if option in options]
    joined = [arg.partition("=")[2] for arg in args if "=" in arg and arg.partition("=")[0] in options]
    return apart + joined


def suggestion(message: str, options: list[str]) -> str:
    """What may have been meant, as of `did_you_mean`, by an error message of argparse.

    Args:
        message: what argparse says.
        options: the options that exist, as they are typed.
    """
    choice = re.search(r"invalid choice: '?([^' ]+)'? \(choose from (.*)\)", message)
    if choice is not None:
        return did_you_mean(choice[1], re.findall(r"[\w.-]+", choice[2]))
    unknown = re.search(r"unrecognized arguments: (--[\w.-]+)", message)
    return did_you_mean(unknown[1], [option for option in options if option.startswith("--")]) if unknown else ""
