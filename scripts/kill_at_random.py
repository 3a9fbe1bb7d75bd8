"""SIGKILL at random moments: whatever is killed, the results are those of a command that nobody disturbed.

    python scripts/kill_at_random.py --kills 100      # an hour or more; 8 take about ten minutes

`rnnnorm compare`, with and without `--tune`, and `rnnnorm study`, with one and with four jobs, are killed (the command
itself, or first one of the processes below it), started again, and so on. What they leave is compared with an
undisturbed run: results, measurements, weights and every curve, without times. A step that stands twice in a curve is a
mistake, too.
Exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

COMPARE = """\
norms: none,bn-timestep
seeds: 2
threads: 1
data:
  class_path: rnnnorm.data.TemporalOrder
  init_args: {num_train: 600, num_val: 40, num_test: 80, min_length: 10, max_length: 40, batch_size: 10}
model:
  init_args: {hidden_size: 8, embedding_size: 4, dropout: 0.2}
trainer: {max_epochs: 5, log_every_n_steps: 5, accelerator: cpu}
"""
STUDY = """\
seeds: 2
norms: [none, bn-timestep]
options: {dropouts: [0.3], train: [250]}
"""
TUNE = [
    "--tune",
    "model.learning_rate=lin:1e-3..1e-1",
    "--tune-trials",
    "3",
    "--tune-rounds",
    "2",
    "--tune-halving",
    "2",
]
COMMANDS = {
    "compare": ["compare", "-c", "compare.yaml"],
    "tune": ["compare", "-c", "compare.yaml", *TUNE],
    "study": ["study", "regularization", "--quick", "-c", "study.yaml"],
}
OFTEN = """\
import rnnnorm.engine.control as control
first = control.Control.__init__
def often(self, *args, **kwargs):
    first(self, *args, **kwargs)
    self.every = 0.3  # seconds between two checkpoints, in place of a minute
control.Control.__init__ = often
"""
"""What Python runs first in every process, so that short runs have checkpoints to go on from."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=8, help="how many, shared by the six cases")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    place, draw = Path(mkdtemp(prefix="kill")), random.Random(given.seed)
    (place / "compare.yaml").write_text(COMPARE)
    (place / "study.yaml").write_text(STUDY)
    (place / "sitecustomize.py").write_text(OFTEN)
    wrong, seconds = 0, dict[str, float]()
    cases = [(name, jobs) for name in COMMANDS for jobs in (1, 4)]
    for number, (name, jobs) in enumerate(cases):
        kills = given.kills * (number + 1) // len(cases) - given.kills * number // len(cases)
        reference = place / f"{name}-whole"
        if not reference.exists():
            began = time.monotonic()
            end(start(place, name, 1, reference))
            seconds[name] = time.monotonic() - began
        rounds = 0
        while kills > 0:
            out = place / f"{name}-{jobs}-{rounds}"
            done = disturb(place, name, jobs, out, kills, seconds[name], draw)
            found = list(differences(reference, out))
            wrong += len(found)
            print(f"{name} --jobs {jobs}: {done} kills: {'; '.join(found[:5]) or 'the same results'}", flush=True)
            kills, rounds = kills - done, rounds + 1
            if not found:
                shutil.rmtree(out)
    print(f"{wrong} differences, see {place}" if wrong else "no difference")
    return int(wrong > 0)


def start(place: Path, name: str, jobs: int, out: Path) -> subprocess.Popen[bytes]:
    """Begin a command, or go on with it."""
    python = os.pathsep.join([str(place), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "rnnnorm", *COMMANDS[name], "--out", str(out), "--jobs", str(jobs)]
    log = out.with_suffix(".log").open("ab")
    return subprocess.Popen(command, cwd=place, env={**os.environ, "PYTHONPATH": python}, stdout=log, stderr=log)


def end(process: subprocess.Popen[bytes]) -> None:
    """Let a command end by itself."""
    if process.wait() != 0:
        raise SystemExit(f"{process.args} ended with {process.returncode}")


def disturb(place: Path, name: str, jobs: int, out: Path, kills: int, seconds: float, draw: random.Random) -> int:
    """Kill and start again, `kills` times or until it has ended in spite of it; returns how often it was killed."""
    done = 0
    while True:
        process = start(place, name, jobs, out)
        if done == kills:
            end(process)
            return done
        try:
            process.wait(draw.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            pass
        else:
            if process.returncode != 0:
                raise SystemExit(f"{process.args} ended with {process.returncode}, see {out.with_suffix('.log')}")
            if done:
                return done
            shutil.rmtree(out)
            continue
        family = descendants(process.pid)
        victim = draw.choice(family) if family and draw.random() < 0.5 else process.pid
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
        finally:
            if victim != process.pid:  # the command goes on without it
                time.sleep(draw.uniform(0, seconds / 4))
            process.kill()
            process.wait()
        done += 1 if victim == process.pid else 2
        if done > kills:
            done = kills


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found += [int(folder.name), *descendants(int(folder.name))]
    return found


def differences(one: Path, other: Path) -> Iterator[str]:
    """Where two output folders differ, times left aside."""
    folders, others = ({path.parent.relative_to(out) for path in out.rglob("result.json")} for out in (one, other))
    if folders != others:
        yield "other runs"
    for folder in sorted(folders):
        for what in (results, weights, curves):
            if what(one / folder) != what(other / folder):
                yield f"{folder}: other {what.__name__}"
        for tag, points in curves(other / folder).items():
            if len({step for step, _ in points}) < len(points):
                yield f"{folder}: {tag} has a step twice"


def results(folder: Path) -> list[Any]:
    result = json.loads((folder / "result.json").read_text())
    measured = folder / "measurements.json"
    rows = json.loads(measured.read_text()) if measured.is_file() else []
    return [result | {"seconds": 0, "timing": 0}, [row for row in rows if row["quantity"] != "seconds"]]


def weights(folder: Path) -> list[Any]:
    found = []
    for path in sorted(folder.glob("checkpoints/*.ckpt")):
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        found.append({key: value.numpy().tobytes() for key, value in state.items()})
    return found


def curves(folder: Path) -> dict[str, list[tuple[int, str]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if "seconds" not in tag and tag != "epoch"]
    return {tag: [(point.step, repr(point.value)) for point in events.Scalars(tag)] for tag in tags}


if __name__ == "__main__":
    sys.exit(main())
