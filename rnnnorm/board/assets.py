"""Page of TensorBoard in the colours of the report: its palette exchanged, and some of its settings' initial values.

TensorBoard has no setting for its palette: seven colours, handed out in turn. It does take another archive of the files
of its page, and this is the installed one with a few values changed. What another version does not have stays as it is.
"""

from __future__ import annotations

import html
import io
import json
import re
import zipfile
import zlib
from collections.abc import Sequence

GROUPS = re.compile(r'(colorPalette:\{id:"default",name:"\w+",colors:)\[[^\]]*\]')
"""The palette of groups of runs, in the Time Series tab."""
RUNS = re.compile(r"(tensorboardColorBlindAssist:)\[[^\]]*\]")
"""The palette of single runs, in the tabs Scalars and Custom Scalars, which know no groups."""
SETTINGS = {
    "reloadPeriodInMs:3e4,reloadEnabled:!1": "reloadPeriodInMs:1e4,reloadEnabled:!0",  # curves move while they grow
    "isSettingsPaneOpen:!0,isSlideoutMenuOpen": "isSettingsPaneOpen:!1,isSlideoutMenuOpen",  # a third column of cards
    "maxNamesToEnableByDefault=40,": "maxNamesToEnableByDefault=4000,",  # of more runs, most tabs show none at all
    '"_smoothingWeight",{defaultValue:.6}': '"_smoothingWeight",{defaultValue:0}',
}
"""Initial values in the page's script, and those that stand there instead; what a browser has stored counts more."""
OUTLIERS = {
    "ignoreOutliers:!0,xAxisType": "ignoreOutliers:!1,xAxisType",
    '"_ignoreYOutliers",{defaultValue:!0': '"_ignoreYOutliers",{defaultValue:!1',
}
"""The same for the axes of curves: TensorBoard leaves out the highest and lowest values, of a short run most of it."""


def archive(
    installed: bytes, groups: Sequence[str], runs: Sequence[str], address: str, outliers: bool = True
) -> tuple[bytes, bool]:
    """The archive of a page with other colours, and whether the installed one could be changed that way.

    Args:
        installed: the archive that comes with TensorBoard, a zip file.
        groups: the colours of groups of runs, as `#rrggbb`, in their order.
        runs: the colours of runs, in their order.
        address: to which `view.html`, a file that is added, leads; relative to the page.
        outliers: whether the axes of curves reach as far as the curves.
    """
    files = _read(installed)
    script, page = files.get("index.js", b"").decode(), files.get("index.html", b"").decode()
    palette = json.dumps([{"name": colour, "lightHex": colour, "darkHex": colour} for colour in groups])
    changed, palettes = GROUPS.subn(lambda found: found[1] + palette, script)
    changed = RUNS.sub(lambda found: found[1] + json.dumps(list(runs)), changed)
    for old, new in {**SETTINGS, **(OUTLIERS if outliers else {})}.items():
        changed = changed.replace(old, new)
    if palettes == 1:
        files["index.js"] = changed.encode()
        # Browsers keep the script for a day under its hash.
        hashed = rf"\g<1>{zlib.crc32(files['index.js']):08x}"
        files["index.html"] = re.sub(r"(index\.js\?_file_hash=)\w+", hashed, page).encode()
    leads = f'<meta charset="utf-8"><meta http-equiv="refresh" content="0; url=./{html.escape(address)}">\n'
    files["view.html"] = leads.encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as written:
        for name, content in files.items():
            written.writestr(name, content)
    return packed.getvalue(), palettes == 1


def _read(installed: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(installed)) as read:
        return {name: read.read(name) for name in read.namelist() if not name.endswith("/")}
