"""Pictures of a report as readers see it: wide, dark, and on a phone.

    python scripts/look_at_report.py runs/default --screenshots shots
    python scripts/look_at_report.py runs/studies --screenshots shots

Of a report on studies the page as a whole comes first, then each study by itself.
Needs Chromium on the path (Debian: apt-get install chromium).
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from browser import screenshot

VIEWS = {"light": (1200, 3000, False), "dark": (1200, 3000, True), "phone": (500, 3600, False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of a comparison or of studies, with report.html in it")
    parser.add_argument("--screenshots", type=Path, default=Path("screenshots"), help="where the pictures go")
    given = parser.parse_args()
    page = (given.out / "report.html").resolve()
    if not page.is_file():
        raise SystemExit(f"{page} does not exist: expected a folder that `rnnnorm compare` or `rnnnorm report` wrote")
    given.screenshots.mkdir(parents=True, exist_ok=True)
    for view, (width, height, dark) in VIEWS.items():
        screenshot(page.as_uri(), given.screenshots / f"report-{view}.png", width, height, dark=dark)
    text = page.read_text(encoding="utf-8")
    for study in re.findall(r'<article id="([\w-]+)">', text):
        for view, (width, height, dark) in VIEWS.items():
            alone = given.screenshots / f"{study}-{view}.html"
            # A screenshot starts at the top of a page: hide what stands above the study.
            hidden = f"<style>body > header, main > :not(#{study}) {{ display: none }}</style></head>"
            alone.write_text(text.replace("</head>", hidden, 1), encoding="utf-8")
            screenshot(alone.resolve().as_uri(), alone.with_suffix(".png"), width, height, dark=dark)
            alone.unlink()


if __name__ == "__main__":
    main()
