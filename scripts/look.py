"""Screenshots of everything that a comparison shows, and checks of what a reader could not read.

    pip install playwright                        # drives Chromium (Debian: apt-get install chromium)
    python scripts/look.py                        # a fresh comparison with probes, in a temporary folder
    python scripts/look.py runs/x --study runs/studies --screenshots shots

Starts `rnnnorm tensorboard` on the folder and opens what it prints in headless Chromium: the view itself, custom
scalars, images, hyperparameters and text; then the report, wide, on a phone and dark, and the page of a study. Ends
with status 1 and a list if a card is missing, a label is cut or overlaps another, a page scrolls sideways, or letters
of a shown heat map, or of a figure on a phone, are smaller than 9 pixels.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright

from rnnnorm.board import verdict
from rnnnorm.probes.picture import TYPE

FRESH = """\
norms: core
seeds: 2
trainer:
  max_epochs: 4
  callbacks:
    - class_path: rnnnorm.probes.GradientFlow
    - class_path: rnnnorm.probes.StepStatistics
    - class_path: rnnnorm.probes.Saturation
    - class_path: rnnnorm.probes.EvaluationGap
"""
"""Configuration of the fresh comparison: sixteen runs."""

GROUPS = ("comparison", "mean over seeds", "range over seeds", "test", "train", "val")
"""Groups of cards that every comparison has."""
TEXTS = (" did best", "How to read this", "report.html")
"""What the text card says."""

HEAT_MAPS = {"gradient": "probe/gradient", "stored": "probe/step_statistics"}
"""Name of a picture → tags of the heat maps on it, if there are any."""
CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
FLAGS = ["--no-sandbox", "--enable-unsafe-swiftshader"]  # WebGL on the CPU: without it TensorBoard draws no lines
VIEWS: dict[str, tuple[int, dict[str, Any]]] = {
    "wide": (1600, {}),
    "phone": (390, {"is_mobile": True, "device_scale_factor": 2}),
    "dark": (1200, {"color_scheme": "dark"}),
}
LEAST = 9.0
"""Height of letters in pixels below which they count as unreadable."""

# Text in figures: outside its figure, or on other text by more than a pixel each way. Hidden panels have no boxes.
FIGURES = """() => {
  const said = [];
  for (const svg of document.querySelectorAll('svg')) {
    const frame = svg.getBoundingClientRect();
    if (frame.width < 60) continue;
    const name = (svg.getAttribute('aria-label') || svg.querySelector('title')?.textContent || 'figure').slice(0, 60);
    const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim())
      .filter(t => t.checkVisibility({opacityProperty: true, visibilityProperty: true}))
      .map(t => [t.textContent.trim(), t.getBoundingClientRect()]).filter(([, b]) => b.width > 0);
    for (const [text, b] of texts)
      if (b.left < frame.left - 1 || b.right > frame.right + 1 || b.top < frame.top - 1 || b.bottom > frame.bottom + 1)
        said.push(`${name}: "${text}" is cut`);
    texts.forEach(([one, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      // A line box is taller than its letters: neighbours may share a fifth of it.
      if (wide > 1 && high > 0.25 * Math.min(a.height, b.height)) said.push(`${name}: "${one}" is on "${other}"`);
    }));
  }
  return said;
}"""

# Type of figures at the size at which they are shown, the smallest of each.
LETTERS = """least => [...document.querySelectorAll('svg')].filter(s => s.clientWidth >= 60).map(svg => {
  const scale = svg.getScreenCTM().a;
  const sizes = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim() && t.checkVisibility())
    .map(t => scale * parseFloat(getComputedStyle(t).fontSize));
  return [(svg.getAttribute('aria-label') || 'figure').slice(0, 60), Math.min(...sizes)];
}).filter(([, size]) => size < least - 0.05).map(([name, size]) => `${name}: type of ${size.toFixed(1)} px`)"""

# Text in the page: wider than what shows it. Scrolling boxes are meant.
BOXES = """() => {
  const said = [], root = document.documentElement;
  if (root.scrollWidth > root.clientWidth + 1)
    said.push(`the page is ${root.scrollWidth} px wide, ${root.clientWidth} are shown`);
  for (const box of document.querySelectorAll('body *')) {
    const style = getComputedStyle(box);
    if (box.closest('svg') || !box.textContent.trim() || !box.checkVisibility()) continue;
    if (['hidden', 'clip'].includes(style.overflowX) && box.scrollWidth > box.clientWidth + 1)
      said.push(`"${box.textContent.trim().slice(0, 60)}" is cut`);
  }
  return said;
}"""


@contextmanager
def board(out: Path) -> Iterator[str]:
    """The address that `rnnnorm tensorboard` prints, as long as it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "rnnnorm", "tensorboard", str(out), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line)
            if found := re.search(r"http://\S+", line):
                break
        else:
            raise SystemExit(f"rnnnorm tensorboard ended without an address:\n{''.join(said)}")
        wait_for(base(found[0]), out)
        yield found[0]
    finally:
        server.terminate()
        server.wait(timeout=20)


def base(url: str) -> str:
    """The address of the server, `http://localhost:6006`."""
    return "{0.scheme}://{0.netloc}".format(urlsplit(url))


def wait_for(server: str, out: Path) -> None:
    """Wait until TensorBoard has read all runs of the folder."""
    runs = {f"{path.parent.parent.name}/{path.parent.name}" for path in out.glob("*/seed=*/result.json")}
    if not runs:
        raise SystemExit(f"{out} holds no finished run <norm>/seed=<k>/")
    served: set[str] = set()
    for _ in range(120):
        try:
            with urlopen(f"{server}/data/plugin/scalars/tags", timeout=30) as answer:
                served = set(json.load(answer))
        except (URLError, ConnectionError):
            served = set()
        if runs <= served:
            return
        time.sleep(0.5)
    raise SystemExit(f"TensorBoard serves {sorted(served) or 'nothing'}; missing: {sorted(runs - served)}")


class Looker:
    """One browser: pages are opened, waited for, checked and saved.

    Args:
        browser: Chromium.
        folder: where the pictures go.
    """

    def __init__(self, browser: Browser, folder: Path) -> None:
        self.browser, self.folder = browser, folder
        self.faults: list[str] = []

    @contextmanager
    def page(
        self, url: str, name: str, width: int = 1600, height: int = 1000, whole: bool = False, **kwargs: Any
    ) -> Iterator[Page]:
        """An open page, saved as a picture at the end."""
        page = self.browser.new_page(viewport={"width": width, "height": height}, **kwargs)
        page.set_default_timeout(180_000)  # on a busy machine a picture without a graphics card takes a minute
        page.goto(url)
        yield page
        page.screenshot(path=self.folder / f"{name}.png", full_page=whole)
        print(f"{self.folder / name}.png")
        page.close()

    def check(self, name: str, holds: bool, fault: str) -> None:
        """Keep a fault."""
        if not holds:
            self.faults.append(f"{name}: {fault}")

    def wait(self, name: str, page: Page, selector: str, what: str, seconds: float = 40) -> bool:
        """Wait until something is shown; a fault if it never is."""
        try:
            page.locator(selector).first.wait_for(timeout=1000 * seconds)
        except TimeoutError:
            self.check(name, False, f"no {what}")
            return False
        return True


def at(url: str, tab: str) -> str:
    """The same TensorBoard at another tab."""
    return f"{base(url)}/?darkMode=false#{tab}"


def expected(out: Path) -> tuple[str, list[str]]:
    """The metric of a comparison, and the names of its charts of means."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("*/seed=*/result.json"))]
    metric, stored = str(results[0]["metric"]), any(result["statistics"] for result in results)
    names = [f"validation {metric}", "validation loss", "training loss"]
    return metric, [*dict.fromkeys(names), *(["running minus batch"] if stored else [])]


def time_series(look: Looker, url: str, out: Path) -> None:
    """The landing view: pinned cards that have drawn something, all groups, and none that nobody needs."""
    name = "time series"
    with look.page(url, "time-series") as page:
        look.wait(name, page, "metrics-pinned-view card-view", "pinned card")
        page.wait_for_timeout(6000)
        cards = page.locator("metrics-pinned-view card-view")
        titles = [text.replace("\n", " ") for text in cards.all_inner_texts()]
        for card in ("which norm is best", *expected(out)[1][:2]):
            found = [k for k, title in enumerate(titles) if card in title]
            look.check(name, bool(found), f"{card!r} is not pinned")
            drawn = all(cards.nth(k).locator("line-chart, img").count() for k in found)
            look.check(name, drawn, f"the pinned card {card!r} has drawn nothing")
        groups = [text.strip() for text in page.locator("metrics-card-groups .group-title").all_inner_texts()]
        probes = [file for file in out.glob("*/seed=*/config.yaml") if "rnnnorm.probes" in file.read_text()]
        missing = sorted({*GROUPS, *(["probe"] if probes else [])} - {*groups})
        look.check(name, not missing, f"no cards {missing}")
        needless = [group for group in groups if group.startswith(("epoch", "hp_metric"))]
        look.check(name, not needless, f"cards nobody needs: {needless}")
        images(look, name, page)


def images(look: Looker, name: str, page: Page) -> None:
    """Pictures of probes and of the verdict: the type of each at the size at which it is shown."""
    # A locator, since pictures of the Images tab lie in shadow trees that `querySelectorAll` does not enter.
    found = page.locator("img").evaluate_all("""all => all.map(i => [i.naturalWidth,
        i.getBoundingClientRect().width]).filter(([natural, shown]) => natural > 100 && shown > 0)""")
    look.check(name, bool(found), "no picture is shown")
    for natural, shown in sorted({(natural, round(shown)) for natural, shown in found}):
        size = (verdict.SIZE if natural == verdict.WIDTH else TYPE) * shown / natural
        fault = f"a picture {natural} px wide is shown at {shown} px: its type is {size:.1f} px high"
        look.check(name, size >= LEAST, fault)


def tensorboard(look: Looker, url: str, out: Path) -> None:
    """All tabs."""
    time_series(look, url, out)
    metric, names = expected(out)
    name = "custom scalars"
    with look.page(at(url, "custom_scalars"), "custom-scalars") as page:
        if look.wait(name, page, "tf-custom-scalar-margin-chart-card", "chart of means"):
            page.wait_for_timeout(5000)
            charts = page.locator("tf-custom-scalar-margin-chart-card")
            for title in names:
                chart = charts.filter(has=page.get_by_text(title))
                look.check(name, chart.count() > 0, f"no chart {title!r}")
            for k in range(charts.count()):
                empty = charts.nth(k).get_by_text("Matches (0)").count() > 0
                drawn = not empty and charts.nth(k).get_by_text("Matches").count() > 0
                look.check(name, drawn, f"chart {k + 1} of {charts.count()} has no line")
    with look.page(at(url, "images"), "images") as page:
        if look.wait("images", page, "tf-image-loader img", "heat map"):
            page.wait_for_timeout(4000)
            images(look, "images", page)
    for picture, tag in HEAT_MAPS.items():
        with look.page(at(url, f"images&tagFilter={tag}"), picture) as page:
            look.wait(picture, page, "tf-image-loader img", f"heat map of {tag}")
            page.wait_for_timeout(4000)
    with look.page(at(url, "hparams"), "hparams", 1800) as page:
        look.wait("hparams", page, "text=learning_rate", "column learning_rate")
        page.wait_for_timeout(5000)
        for column in ("norm", "seed", f"test {metric}"):
            look.check("hparams", page.get_by_text(column, exact=True).count() > 0, f"no column {column}")
    with look.page(at(url, "text"), "text") as page:
        if look.wait("text", page, "tf-markdown-view table", "table of the comparison"):
            for said in TEXTS:
                look.check("text", page.locator("tf-markdown-view", has_text=said).count() > 0, f"nothing of {said!r}")


def report(look: Looker, path: Path, name: str) -> None:
    """A page wide, on a phone and dark."""
    for view, (width, kwargs) in VIEWS.items():
        called = f"{name}-{view}"
        with look.page(path.resolve().as_uri(), called, width, 900, True, **kwargs) as page:
            page.wait_for_timeout(500)
            small = page.evaluate(LETTERS, LEAST) if view == "phone" else []
            for fault in dict.fromkeys([*page.evaluate(FIGURES), *page.evaluate(BOXES), *small]):
                look.check(called, False, fault)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", help="folder of a comparison; none: a fresh one with probes")
    parser.add_argument("--study", type=Path, help="folder of a study, with report.html in it")
    parser.add_argument("--screenshots", type=Path, default=Path("screenshots"), help="where the pictures go")
    given = parser.parse_args()
    given.screenshots.mkdir(parents=True, exist_ok=True)
    executable = next((path for path in CHROMIUM if Path(path).exists()), None)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        out = given.out
        if out is None:
            out = Path(folder) / "fresh"
            (Path(folder) / "fresh.yaml").write_text(FRESH, encoding="utf-8")
            command = [sys.executable, "-m", "rnnnorm", "compare", "-c", "default", "-c", f"{folder}/fresh.yaml"]
            subprocess.run([*command, "--jobs", "2", "--out", str(out)], check=True)
        look = Looker(playwright.chromium.launch(executable_path=executable, args=FLAGS), given.screenshots)
        with board(out) as url:
            tensorboard(look, url, out)
        report(look, out / "report.html", "report")
        if given.study is not None:
            report(look, given.study / "report.html", "study")
    for fault in look.faults:
        print(f"FAULT {fault}")
    raise SystemExit(1 if look.faults else 0)


if __name__ == "__main__":
    main()
