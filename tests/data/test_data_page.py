"""docs/data.md: its files are read by its commands, and its sentences name what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import rnnnorm.data
from rnnnorm.cli import main
from rnnnorm.data.own_files import OwnFiles

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
FILES = re.findall(r"<!-- file: (\S+) -->\n```text\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"<!-- run -->\n```bash\nrnnnorm (.*?)\n```", PAGE, re.DOTALL)
SMALL = ["--seeds", "1", "--norms", "none", "--trainer.max_epochs", "1", "--model.hidden_size", "4"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_commands_run_on_the_files_of_the_page(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, content = FILES[number]
    (tmp_path / name).write_text(content)
    [*arguments, out] = shlex.split(COMMANDS[number].replace("\\\n", " "))
    assert name in arguments
    assert main([*arguments, out, *SMALL, "--trainer.accelerator", "cpu"]) == 0
    assert (tmp_path / out / "none" / "seed=0" / "result.json").is_file()


def test_every_module_of_own_files_is_on_the_page() -> None:
    classes = [getattr(rnnnorm.data, name) for name in rnnnorm.data.__all__]
    own = {cls.__name__ for cls in classes if isinstance(cls, type) and issubclass(cls, OwnFiles)}
    assert len(own) == 5
    assert {name for name in own if f"`{name}`" in PAGE or f"--data {name} " in PAGE} == own
    assert len(COMMANDS) == len(FILES) == 5
