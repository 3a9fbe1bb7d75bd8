"""Take pictures of the heat maps that probes have left in TensorBoard, and of how it shows them.

    python scripts/look_at_probes.py runs/default --screenshots shots

Starts TensorBoard on a folder of runs with probes, asks it which heat maps it serves, saves the newest of each at its
actual size, and takes a picture of the Images tab per probe in headless Chromium (Debian: apt-get install chromium).
Exits with a message and a status other than 0 if there are none.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from browser import screenshot
from look_at_tensorboard import ask


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of one or several runs")
    parser.add_argument("--screenshots", type=Path, default=Path("screenshots"), help="where the pictures go")
    given = parser.parse_args()
    if not any(given.out.rglob("events.out.tfevents.*")):
        raise SystemExit(f"{given.out} holds no TensorBoard events")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(given.out), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        found = wait_for_heat_maps(base)
        given.screenshots.mkdir(parents=True, exist_ok=True)
        for run, tags in ask(f"{base}/data/plugin/images/tags").items():
            for tag in sorted(set(tags) & set().union(*found.values())):
                save_newest(base, run, tag, given.screenshots)
        for probe in sorted(found):
            shown = f"{base}/?darkMode=false#images&tagFilter=probe/{probe}/"
            screenshot(shown, given.screenshots / f"{probe}.png", 1500, 1000, wait=20)
    finally:
        server.terminate()
        server.wait(timeout=20)


if __name__ == "__main__":
    main()
