"""Check of what TensorBoard shows: the runs of a comparison, or the heat maps of probes.

    python scripts/look_at_tensorboard.py runs/default --screenshots shots
    python scripts/look_at_tensorboard.py runs/default --screenshots shots --probes

Starts TensorBoard as `rnnnorm compare` tells its users to and asks it what it serves. All runs must be under the same
tags and the HParams table be filled; pictures show the curves and that table, in headless Chromium (Debian: apt-get
install chromium). With --probes, the newest heat map of each tag is saved at its actual size, and pictures show the
Images tab. Exits with a message and a status other than 0 if something is missing.
"""

from __future__ import annotations

import argparse
import json
import math
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from browser import screenshot

NEEDED = ("train/loss", "val/loss", "val/loss_batch", "epoch")


def ask(url: str, body: Any = None) -> Any:
    """What TensorBoard answers, as JSON."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, {"Content-Type": "application/json"}), timeout=30) as answer:
        return json.load(answer)


def wait_for_runs(base: str, runs: set[str]) -> dict[str, dict[str, Any]]:
    """The scalar tags per run, once TensorBoard has read all of them."""
    tags: dict[str, dict[str, Any]] = {}
    for _ in range(120):
        with suppress(URLError, ConnectionError, TimeoutError):
            tags = ask(f"{base}/data/plugin/scalars/tags")
            if runs <= tags.keys():
                return tags
        time.sleep(0.5)
    raise SystemExit(f"TensorBoard serves {sorted(tags) or 'nothing'}; missing: {sorted(runs - tags.keys())}")


def check_scalars(tags: dict[str, dict[str, Any]], runs: set[str]) -> None:
    """Same tags in every run, so that the curves overlay."""
    metric = {tag for run in runs for tag in tags[run] if tag.startswith("val/")} - set(NEEDED)
    for run in sorted(runs):
        missing = [tag for tag in (*NEEDED, *sorted(metric)) if tag not in tags[run]]
        if missing:
            raise SystemExit(f"run {run} has no {', '.join(missing)}")
    print(f"scalars: {len(runs)} runs, all with {', '.join((*NEEDED, *sorted(metric)))}")


def check_hparams(base: str, runs: set[str]) -> None:
    """One row per run, each with its norm, its seed and finite final metrics."""
    experiment = ask(f"{base}/data/plugin/hparams/experiment", {"experimentName": ""})
    infos = experiment["metricInfos"]
    request = {"experimentName": "", "sliceSize": 10000, "colParams": [{"metric": info["name"]} for info in infos]}
    statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    groups = ask(f"{base}/data/plugin/hparams/session_groups", {**request, "allowedStatuses": statuses})
    rows = {session["name"]: group for group in groups["sessionGroups"] for session in group["sessions"]}
    if not runs <= rows.keys():
        raise SystemExit(f"the HParams table lacks {sorted(runs - rows.keys())}; it has {sorted(rows)}")
    for name in sorted(runs):
        group = rows[name]
        if not {"norm", "seed"} <= group["hparams"].keys():
            raise SystemExit(f"run {name} has the hyperparameters {sorted(group['hparams'])}, without norm and seed")
        values = [value["value"] for value in group["metricValues"] if isinstance(value["value"], int | float)]
        if not any(math.isfinite(value) for value in values):
            raise SystemExit(f"run {name} has no final metric in the HParams table")
    print(f"hparams: {len(rows)} rows, columns {', '.join(info['name']['tag'] for info in infos)}")


def wait_for_heat_maps(base: str) -> dict[str, set[str]]:
    """The image tags of each probe, once TensorBoard has read some and finds no more."""
    before: dict[str, set[str]] = {}
    for _ in range(60):
        with suppress(URLError, ConnectionError, TimeoutError):
            found: dict[str, set[str]] = {}
            for tags in ask(f"{base}/data/plugin/images/tags").values():
                for tag in tags:
                    if tag.startswith("probe/"):
                        found.setdefault(tag.split("/")[1], set()).add(tag)
            if found and found == before:
                return found
            before = found
        time.sleep(1)
    raise SystemExit("TensorBoard serves no heat maps: was there a run with probes that ended?")


def save_newest(base: str, run: str, tag: str, folder: Path) -> None:
    """The last picture that a run has of a tag, as TensorBoard serves it."""
    versions = ask(f"{base}/data/plugin/images/images?{urlencode({'run': run, 'tag': tag, 'sample': 0})}")
    name = f"{run}.{tag.removeprefix('probe/')}.png".replace("/", "-")
    with urlopen(f"{base}/data/plugin/images/individualImage?{versions[-1]['query']}", timeout=30) as answer:
        (folder / name).write_bytes(answer.read())
    print(f"{folder / name}: step {versions[-1]['step']}, {len(versions)} kept")


def look_at_comparison(base: str, out: Path, screenshots: Path) -> None:
    """Check scalars and HParams of all finished runs, and take pictures of both."""
    runs = {f"{path.parent.parent.name}/{path.parent.name}" for path in out.glob("*/seed=*/result.json")}
    if not runs:
        raise SystemExit(f"{out} holds no finished run <norm>/seed=<k>/")
    check_scalars(wait_for_runs(base, runs), runs)
    check_hparams(base, runs)
    # The Scalars tab: in a page without a person, the Time Series tab does not draw the lines.
    shown = f"{base}/?darkMode=false#scalars&tagFilter=(train|val|val_running)/loss"
    screenshot(shown, screenshots / "scalars.png", 1500, 900, wait=20)
    screenshot(f"{base}/?darkMode=false#hparams", screenshots / "hparams.png", 1800, 1000, wait=25)


def look_at_probes(base: str, screenshots: Path) -> None:
    """Save the newest heat map of each tag, and take a picture of the Images tab per probe."""
    found = wait_for_heat_maps(base)
    for run, tags in ask(f"{base}/data/plugin/images/tags").items():
        for tag in sorted(set(tags) & set().union(*found.values())):
            save_newest(base, run, tag, screenshots)
    for probe in sorted(found):
        shown = f"{base}/?darkMode=false#images&tagFilter=probe/{probe}/"
        screenshot(shown, screenshots / f"{probe}.png", 1500, 1000, wait=20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of a comparison; with --probes, of one or several runs")
    parser.add_argument("--probes", action="store_true", help="look at the heat maps of probes instead")
    parser.add_argument("--screenshots", type=Path, default=Path("screenshots"), help="where the pictures go")
    given = parser.parse_args()
    if not any(given.out.rglob("events.out.tfevents.*")):
        raise SystemExit(f"{given.out} holds no TensorBoard events")
    given.screenshots.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    # The module, not the command: it need not be on the path of whoever runs this.
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(given.out), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if given.probes:
            look_at_probes(base, given.screenshots)
        else:
            look_at_comparison(base, given.out, given.screenshots)
    finally:
        server.terminate()
        server.wait(timeout=20)


if __name__ == "__main__":
    main()
