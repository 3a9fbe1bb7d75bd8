"""Screenshots of a page by headless Chromium, for the scripts that show what a person would see."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def screenshot(url: str, picture: Path, width: int, height: int, wait: float = 0.0, dark: bool = False) -> None:
    """Save what Chromium shows at `url` after `wait` seconds of the page's own time.

    Raises:
        SystemExit: no Chromium, or it made no picture.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise SystemExit("no Chromium found: install it (Debian: apt-get install chromium) and run this again")
    flags = [*FLAGS, f"--window-size={width},{height}", f"--screenshot={picture}"]
    flags += [f"--virtual-time-budget={1000 * wait:.0f}"] if wait else []
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    picture.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *flags, f"--user-data-dir={profile}", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    if not picture.exists() or picture.stat().st_size < 1000:
        raise SystemExit(f"Chromium made no picture of {url}:\n{done.stderr[-2000:]}")
    print(f"{picture}: {url}")
