"""`rnnnorm tensorboard`: TensorBoard on folders of comparisons, with an address that opens their view."""

from __future__ import annotations

import argparse
import io
import re
import signal
import socket
import threading
import warnings
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rnnnorm.board.assets import archive
from rnnnorm.board.overview import RUN, refresh
from rnnnorm.board.view import comparisons, diverged, metric_of, norm_of, query, started
from rnnnorm.common.arguments import ArgumentParser
from rnnnorm.engine.folder import locked
from rnnnorm.norms.presets import presets
from rnnnorm.report.colours import colour
from rnnnorm.report.runs import read_data

EXAMPLES = """\
examples:
  rnnnorm tensorboard runs/default                      prints the address of the view
  rnnnorm tensorboard runs/default --open               opens it in the browser, too
  rnnnorm tensorboard runs/names runs/jsb --port 6010   two comparisons side by side
  rnnnorm tensorboard runs                              all comparisons in a folder
"""


OTHER = "#9aa0a6"
"""Colour of a run that is of no single norm."""
EVERYWHERE = ("0.0.0.0", "::")
"""Hosts that mean all interfaces, and are no address for a browser elsewhere."""


def tensorboard(args: Sequence[str]) -> int:
    """What `rnnnorm tensorboard ARGS` does, until Ctrl-C.

    Args:
        args: the command line after `tensorboard`.

    Returns:
        the exit code, 0.

    Raises:
        ValueError: as `start`.
    """
    parser = ArgumentParser(
        prog="rnnnorm tensorboard",
        description="Start TensorBoard on a comparison: coloured by norm, the verdict and main curves on top.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="+", type=Path, help="the output folder of `rnnnorm compare`, or several")
    parser.add_argument("--port", type=int, help="6006, or the next one that is free, if not given; 0: any")
    parser.add_argument("--host", default="localhost", help="where it listens; 0.0.0.0: on all interfaces")
    parser.add_argument("--open", action="store_true", help="open the browser, too")
    given = parser.parse_args(args)
    address = start(given.folder, given.port, given.host)
    print(f"tensorboard: {address}  (Ctrl-C ends it)", flush=True)
    if given.open:
        webbrowser.open(address)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would find the interpreter half gone
    return 0


def start(folders: Sequence[Path], port: int | None = None, host: str = "localhost") -> str:
    """Start TensorBoard in a thread of its own that ends with this process.

    Overviews and means that are missing or out of date are written first, unless a command runs in the folder.

    Args:
        folders: of comparisons, or of several comparisons each.
        port: where it listens; None: 6006 or the next one that is free; 0: any that is free.
        host: where it listens.

    Returns:
        the address of the view; of this machine, by its name, if it listens on all interfaces.

    Raises:
        ValueError: a folder does not exist or holds no curves; the port is none or taken; or the host is unknown.
    """
    _check(port, host)
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder; expected the output folder of `rnnnorm compare`")
        if not any(folder.rglob("events.out.tfevents.*")):
            raise ValueError(f"{folder} holds no curves: no run in it has begun")
    outs = [out for folder in folders for out in comparisons(folder)]
    for out in outs:
        if any(out.glob("*/seed=*")):
            with suppress(ValueError, OSError), locked(out):  # where nothing can be written, there are the curves
                refresh(out)
    alone = len(folders) == 1  # TensorBoard watches it, and shows comparisons that are added to it
    names = _names(outs, alone) if outs != list(folders) or not alone else []
    metrics = list(dict.fromkeys(filter(None, map(metric_of, outs))))
    done = all(any((out / RUN).glob("events.out.tfevents.*")) for out in outs)
    view = query(metrics, done, names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what TensorBoard imports
        from tensorboard import assets, program

    runs = [norm_of(run) for run in started(outs, names)]
    planned = [str(norm) for out in outs for norm in read_data(out).get("norms", ())]
    installed = assets.get_default_assets_zip_provider()
    if installed is not None:
        with installed() as file:
            # Those that have begun, in this order; those that will; what may come after them.
            order = dict.fromkeys(norm for norm in (*runs, *planned, *presets()) if norm is not None)
            palette = [colour(norm) for norm in order]
            colours = [OTHER if norm is None else colour(norm) for norm in runs]
            # A loss that explodes would leave one line at the bottom to all others.
            content, recoloured = archive(file.read(), palette, colours, view, not any(map(diverged, outs)))
        if not recoloured:
            print("note: this version of TensorBoard takes no other colours; its own repeat after seven norms")
    board = program.TensorBoard(assets_zip_provider=(lambda: io.BytesIO(content)) if installed else None)
    several = ",".join(f"{name}:{out}" for name, out in zip(names, outs, strict=False))
    where = {"logdir": str(folders[0])} if alone else {"logdir_spec": several}
    board.configure(**where, port=port, host=host, reload_interval=5.0, load_fast="false")
    try:
        url = board.launch()
    except program.TensorBoardPortInUseError:
        raise ValueError(f"--port {port} is taken; choose another one, or leave it away") from None
    except program.TensorBoardServerException as error:
        raise ValueError(str(error.msg)) from None
    if host in EVERYWHERE:
        url = re.sub(r"//[^/]+:", f"//{socket.gethostname()}:", url)
    return f"{url.rstrip('/')}/{'view.html' if installed else view}"


def _check(port: int | None, host: str) -> None:
    """Refuse ports and hosts that TensorBoard ends with a traceback, or without a word."""
    if port is not None and not 0 <= port <= 65535:
        raise ValueError(f"--port must be 0 to 65535, got {port}")
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        raise ValueError(f"--host {host}: {error.strerror}; expected a name or address of this machine") from None


def _names(outs: Sequence[Path], alone: bool) -> list[str]:
    """What TensorBoard calls several comparisons: by their folders' names, which have to differ.

    Args:
        outs: their folders.
        alone: whether they lie in one folder, which TensorBoard searches by itself.

    Raises:
        ValueError: two have the same name, or one has a character that TensorBoard's list of folders cannot have.
    """
    names = [out.name if alone else out.resolve().name for out in outs]
    if len(set(names)) < len(names):
        raise ValueError(
            f"folders of different names are needed to show them together, got {', '.join(map(str, outs))}"
        )
    for out in outs:
        if not alone and set(str(out)) & set(",:"):
            raise ValueError(f"{out}: of several folders, none may have a comma or a colon in its path")
    return names
