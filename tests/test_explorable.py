"""The explorable page: its measurements belong to its script, and a browser draws them as the controls say."""

from __future__ import annotations

import html
import json
import math
import re
import runpy
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "explorable.py"))
DATA = SCRIPT["read"](SCRIPT["OUT"])
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
KEY = "1|fixed|16|orthogonal|0.1"


def test_the_measurements_are_those_that_the_script_declares() -> None:
    assert {name: DATA[name] for name in ("controls", "sizes")} == {
        "controls": SCRIPT["CONTROLS"],
        "sizes": SCRIPT["SIZES"],
    }, "run scripts/explorable.py"
    assert list(DATA["conditions"]) == [SCRIPT["key"](here) for here in SCRIPT["conditions"]()]
    assert SCRIPT["OUT"].stat().st_size < 300_000


def test_every_curve_has_a_number_at_every_timestep() -> None:
    steps, seeds = SCRIPT["SIZES"]["max_length"], len(SCRIPT["SIZES"]["seeds"])
    for name, found in DATA["conditions"].items():
        for curve in SCRIPT["CURVES"]:
            assert len(found[curve]) == steps, (name, curve)
            there = [value for value in found[curve] if value is not None]
            assert all(math.isfinite(value) and value >= 0 for value in there), (name, curve)
            # Only a gradient can be missing: where no batch of those that were drawn is as long.
            assert len(there) == steps or (curve == "gradient" and name.split("|")[1] != "fixed"), (name, curve)
        assert all(len(found["mean"][source]) == seeds for source in SCRIPT["SOURCES"])
    assert all(len(rows) == steps and max(rows) == float(name.split("|")[1]) for name, rows in DATA["active"].items())


def test_the_script_measures_what_is_committed() -> None:
    """The gradient of one condition, anew: it needs no training, and its digits do not depend on the machine."""
    here = {"start": 1, "lengths": "fixed", "batch": 16, "whh": "orthogonal", "gain": 0.1}
    found = []
    for seed in SCRIPT["SIZES"]["seeds"]:
        data = SCRIPT["build_data"](here, seed)
        batches = SCRIPT["drawn"](data, 16, SCRIPT["SIZES"]["gradient_batches"])
        found.append(SCRIPT["gradient"](SCRIPT["build_model"](here, data, seed), batches))
    expected = torch.tensor(DATA["conditions"][KEY]["gradient"], dtype=torch.float64)
    torch.testing.assert_close(torch.stack(found).log().mean(0).exp(), expected, rtol=0.06, atol=0)


def test_the_table_is_that_of_the_measurements() -> None:
    text = (ROOT / "docs" / "explorable.md").read_text(encoding="utf-8")
    for start, words in (("0", "random"), ("1", "1 in common"), ("3", "3 in common")):
        lost = sorted(
            running - population
            for name, found in DATA["conditions"].items()
            for running, population in zip(found["mean"]["running"], found["mean"]["population"], strict=True)
            if name.startswith(start + "|")
        )
        expected = [f"{value:.2f}".replace("-", "−") for value in (lost[0], statistics.median(lost), lost[-1])]
        assert f"| {words} | {' | '.join(expected)} |" in text
    medians = [
        statistics.median(
            running - population
            for name, found in DATA["conditions"].items()
            for running, population in zip(found["mean"]["running"], found["mean"]["population"], strict=True)
            if name.startswith("1|") and f"|{matrix}|" in name
        )
        for matrix in ("identity", "orthogonal", "random")
    ]
    assert "lose {:.2f}, {:.2f} and {:.2f} (medians)".format(*medians) in text


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    document = {"controls": {"gain": [0.1, 1.0]}, "conditions": {"a": {"x": [17000000.0, None, 4.5e-07, 4]}}}
    SCRIPT["write"](tmp_path / "m.js", document)
    assert SCRIPT["read"](tmp_path / "m.js") == document
    assert (tmp_path / "m.js").read_text().startswith(SCRIPT["PREFIX"])


def dom(page: Path, fragment: str, profile: Path) -> str:
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--enable-logging=stderr", "--window-size=390,900", "--dump-dom", f"{page.as_uri()}#{fragment}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HTML of the page beside its scripts, without the site around it."""
    folder = tmp_path_factory.mktemp("explorable")
    text = (ROOT / "docs" / "explorable.md").read_text(encoding="utf-8")
    body = re.search(r'<link .*<script src="explorable/explorable.js"></script>', text, re.DOTALL)[0]
    buttons = "\n".join(re.findall(r'<p class="try">.*?</p>', text))
    (folder / "explorable.html").write_text(f"<!doctype html><meta charset=utf-8>{buttons}{body}", encoding="utf-8")
    shutil.copytree(ROOT / "docs" / "explorable", folder / "explorable")
    return folder / "explorable.html"


@pytest.mark.skipif(BROWSER is None, reason="needs chromium, chromium-browser or google-chrome")
@pytest.mark.parametrize(
    "here",
    [
        {},
        {"start": "0", "lengths": "heavy-tailed", "batch": "4", "whh": "identity", "gain": "1"},
        {"start": "3", "whh": "random", "gain": "0.03", "batch": "7", "nonsense": "x"},
    ],
    ids=["default", "all controls", "unknown values"],
)
def test_the_page_draws_what_was_measured(page: Path, tmp_path: Path, here: dict[str, str]) -> None:
    found = dom(page, "&".join(f"{name}={value}" for name, value in here.items()), tmp_path)
    expected = dict(zip(SCRIPT["CONTROLS"], KEY.split("|"), strict=True))
    offered = {
        name: [f"{v:g}" if isinstance(v, float) else str(v) for v in vs] for name, vs in DATA["controls"].items()
    }
    expected |= {name: value for name, value in here.items() if value in offered.get(name, [])}
    condition: dict[str, Any] = DATA["conditions"]["|".join(expected.values())]
    groups = re.findall(r'<g data-curve="(\w+)" data-values="([^"]*)">(.*?)</g>', found, re.DOTALL)
    assert {name for name, _, _ in groups} == {"active", *SCRIPT["CURVES"]}
    for name, values, drawing in groups:
        rows = DATA["active"][f"{expected['lengths']}|{expected['batch']}"] if name == "active" else condition[name]
        assert json.loads(html.unescape(values)) == rows, name
        drawn = (
            len(rows)
            if name == "active"
            else sum(value is not None and (value > 0 or name.startswith("loss")) for value in rows)
        )
        assert len(re.findall(r'class="(?:mark|bar)', drawing)) == drawn, name
    said = html.unescape(re.search(r'aria-live="polite">(.*?)</div>', found)[1])
    assert f"γ = {expected['gain']}, W_hh {expected['whh']}, batches of {expected['batch']}," in said


@pytest.mark.skipif(BROWSER is None, reason="needs chromium, chromium-browser or google-chrome")
def test_the_curves_move_with_the_controls(page: Path, tmp_path: Path) -> None:
    """A height on the page is the measured value: the two axes are the same under all conditions."""
    heights = {}
    for start in ("0", "1"):
        found = dom(page, f"start={start}", tmp_path)
        for name in ("gradient", "loss_running"):
            path = re.search(rf'<g data-curve="{name}"[^>]*><path d="M\S+ (\S+?)L', found)[1]
            heights[name, start] = float(path)
    for name in ("gradient", "loss_running"):
        values = [DATA["conditions"][f"{start}{KEY[1:]}"][name][0] for start in ("0", "1")]
        assert (heights[name, "0"] > heights[name, "1"]) == (values[0] < values[1])
        assert heights[name, "0"] != heights[name, "1"]


def test_buttons_and_controls_name_what_was_measured() -> None:
    text = html.unescape((ROOT / "docs" / "explorable.md").read_text(encoding="utf-8"))
    buttons = re.findall(r'data-try="([^"]*)"', text)
    assert len(buttons) == 3
    for button in buttons:
        chosen = dict(part.split("=") for part in button.split("&"))
        assert "|".join(chosen[name] for name in SCRIPT["CONTROLS"]) in DATA["conditions"], button
    for name in ("start", "whh", "batch", "lengths"):
        offered = re.findall(rf'type="radio" name="{name}" value="([^"]*)"', text)
        assert offered == [str(value) for value in SCRIPT["CONTROLS"][name]]
    assert f'max="{len(SCRIPT["CONTROLS"]["gain"]) - 1}"' in text
