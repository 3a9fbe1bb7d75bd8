"""Files of somebody else's run no code: what `SECURITY.md` promises."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from rnnnorm.cli import main
from rnnnorm.data import Spec
from rnnnorm.data.music import read_pieces
from rnnnorm.engine.records import read_result
from rnnnorm.report import build
from rnnnorm.studies.framework.measurements import read
from rnnnorm.tasks import TASKS

pytestmark = pytest.mark.filterwarnings("ignore")
CONFIG = """\
data:
  class_path: rnnnorm.data.TemporalOrder
  init_args: {num_train: 20, num_val: 10, num_test: 10, min_length: 10, max_length: 12, batch_size: 10}
model:
  init_args: {hidden_size: 4, embedding_size: 4}
trainer: {max_epochs: 1, accelerator: cpu, logger: false, enable_checkpointing: false, enable_progress_bar: false}
"""


class Evil:
    """Whoever unpickles it makes a file."""

    def __init__(self, call: Callable[..., Any], *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> Any:
        return self.call, self.args


def calls(marker: Path) -> dict[str, Evil]:
    """Ways to run something while a file is read."""
    python = f"open({str(marker)!r}, 'w').close()"
    return {
        "exec": Evil(exec, python),
        "eval": Evil(eval, python),
        "system": Evil(__import__("os").system, f"touch {marker}"),
        "popen": Evil(subprocess.check_call, ["touch", str(marker)]),
        "partial": Evil(partial(exec, python)),
        "open": Evil(open, str(marker), "w"),
        "loads": Evil(pickle.loads, pickle.dumps(Evil(exec, python))),
    }


def zipped(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def legacy(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


PLACES: dict[str, Callable[[Evil, dict[str, Any]], bytes]] = {
    "alone": lambda evil, good: zipped(evil),
    "weights": lambda evil, good: zipped({**good, "state_dict": {"embedding.weight": evil}}),
    "keys": lambda evil, good: zipped({**good, "hyper_parameters": {"norm": evil}}),
    "callbacks": lambda evil, good: zipped({**good, "callbacks": {"Control": evil}}),
    "optimizer": lambda evil, good: zipped({**good, "optimizer_states": [evil]}),
    "dictionary key": lambda evil, good: zipped({**good, "more": {(1, evil): 2}}),
    "old format": lambda evil, good: legacy({**good, "loops": evil}),
    "pickle": lambda evil, good: pickle.dumps({**good, "state_dict": evil}),
    "spec": lambda evil, good: zipped({**good, "spec": Spec("tagging", vocabularies=evil)}),  # type: ignore[arg-type]
}


SOME = ["alone", "weights", "keys"]
"""Places that every command reads; callbacks, optimizers and loops only one that trains."""


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a small configuration lies."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rnnnorm.report.build", lambda out: out / "report.html")
    (tmp_path / "small.yaml").write_text(CONFIG)
    return tmp_path


def refused(command: list[str]) -> None:
    """A command ends with an error of its own or of torch's, whichever looks first."""
    try:
        code = main(command)
    except Exception:
        return
    assert code != 0, command


def good() -> dict[str, Any]:
    return {"epoch": 0, "global_step": 0, "pytorch-lightning_version": "2.6.0", "state_dict": {}, "loops": {}}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("call", list(calls(Path())))
def test_the_payloads_work_and_loading_weights_runs_none_of_them(call: str, place: str, marker: Path) -> None:
    content = PLACES[place](calls(marker)[call], good())
    path = marker.with_name("x.ckpt")
    path.write_bytes(content)
    with pytest.raises(Exception, match=r"(?i)weights.only|unsupported|invalid"):
        torch.load(path, weights_only=True)
    assert not marker.exists()
    with suppress(Exception):  # what is no checkpoint, it says only afterwards
        torch.load(path, weights_only=False)
    assert marker.exists(), "the test is about nothing"


@pytest.mark.parametrize(
    ("command", "place"),
    [*(("fit", place) for place in PLACES), *(("validate", place) for place in SOME), *(("test", p) for p in SOME)],
)
def test_a_checkpoint_on_the_command_line(command: str, place: str, small: Path, marker: Path) -> None:
    (small / "x.ckpt").write_bytes(PLACES[place](calls(marker)["exec"], good()))
    refused([command, "-c", "small.yaml", "--ckpt_path", "x.ckpt"])
    assert not marker.exists()


@pytest.fixture
def address(small: Path) -> Iterator[str]:
    """Where the folder can be read through the network."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(small)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_checkpoint_at_an_address(
    command: str, address: str, small: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(small / "hub"))
    (small / "x.ckpt").write_bytes(PLACES["weights"](calls(marker)["exec"], good()))
    refused([command, "-c", "small.yaml", "--ckpt_path", f"{address}/x.ckpt"])
    assert (small / "hub/hub/checkpoints/x.ckpt").exists(), "it was not even looked at"
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "place"), [("last", "weights"), ("last", "callbacks"), ("last", "old format"), ("best", "weights")]
)
def test_a_checkpoint_that_a_comparison_goes_on_from(name: str, place: str, small: Path, marker: Path) -> None:
    command = ["compare", "-c", "small.yaml", "--trainer.enable_checkpointing", "true", "--norms", "none", "--out", "o"]
    assert main(command) == 0
    run = small / "o/none/seed=0"
    (run / "result.json").unlink()
    path = run / "checkpoints" / f"{name}.ckpt"
    content = torch.load(path, weights_only=True)
    path.write_bytes(PLACES[place](calls(marker)["exec"], content))
    assert main(command) == 0
    assert path.with_name(f"{name}.ckpt.unreadable").exists(), "set aside, and trained anew"
    assert read_result(run / "result.json") is not None
    assert not marker.exists()


def test_a_model_made_from_a_checkpoint(marker: Path) -> None:
    for place in PLACES:
        path = marker.with_name("x.ckpt")
        path.write_bytes(PLACES[place](calls(marker)["exec"], good()))
        with pytest.raises(Exception, match=r"(?i)weights.only|unsupported|invalid"):
            TASKS["tagging"].load_from_checkpoint(path)
    assert not marker.exists()


MODULE = """\
import lightning
open({marker!r}, "w").close()
class Model(lightning.LightningModule): pass
"""


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *(("fit", name) for name in ("planted.Model", "os.system", 7)),
        *(("test", name) for name in ("planted.absent", "antigravity.geohash", ["a"])),
    ],
)
def test_a_checkpoint_names_no_code_either(command: str, name: Any, small: Path, marker: Path) -> None:
    (small / "planted.py").write_text(MODULE.format(marker=str(marker)))
    keys = {"_class_path": name, "_instantiator": "planted.Model"}
    torch.save({**good(), "hyper_parameters": keys}, small / "x.ckpt")
    before = set(sys.modules)
    refused([command, "-c", "small.yaml", "--ckpt_path", "x.ckpt"])
    with pytest.raises(Exception, match="checkpoint"):
        TASKS["tagging"].load_from_checkpoint(small / "x.ckpt")
    assert not marker.exists()
    assert not {"planted", "antigravity"} & (set(sys.modules) - before)


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("fit", {"norm": "planted:Model"}),
        ("test", {"norm": "planted.py:Model"}),
        ("fit", {"norm": "input=planted:Model+hidden=ln"}),
        ("test", {"norm": "os:system:command=id"}),
        ("test", {"network": "planted.Model"}),
        ("fit", {"network": "os.system"}),
    ],
)
def test_a_checkpoint_names_no_norm_and_no_network_of_its_own(
    command: str, keys: dict[str, Any], small: Path, marker: Path
) -> None:
    (small / "planted.py").write_text(MODULE.format(marker=str(marker)))
    spec = {"task": "classification", "vocabularies": [8], "num_outputs": 4, "max_length": 12}
    hyper = {"_class_path": "rnnnorm.tasks.classification.Classification", "spec": spec, **keys}
    torch.save({**good(), "hyper_parameters": hyper}, small / "x.ckpt")
    before = set(sys.modules)
    refused([command, "-c", "small.yaml", "--ckpt_path", "x.ckpt"])
    torch.save({**good(), "hyper_parameters": {"spec": spec, **keys}}, small / "x.ckpt")
    with pytest.raises(ValueError, match=r"not loaded|not imported|no torch module"):
        TASKS["classification"].load_from_checkpoint(small / "x.ckpt")
    assert not marker.exists()
    assert "planted" not in set(sys.modules) - before


@pytest.mark.parametrize("file", ["compare.yaml", "none/seed=0/config.yaml"])
def test_what_a_comparison_reads_in_its_folder(file: str, small: Path, marker: Path) -> None:
    tagged = f"model: !!python/object/apply:os.system ['touch {marker}']\n"
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(tagged)
    path = small / "o" / file
    path.parent.mkdir(parents=True)
    path.write_text(tagged)
    main(["compare", "-c", "small.yaml", "--norms", "none", "--out", "o"])
    assert not marker.exists()


def test_results_are_numbers_and_words(small: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    run = small / "o/none/seed=0"
    run.mkdir(parents=True)
    for content in (pickle.dumps(calls(marker)["exec"]), b"__import__('os')", b'{"norm": "!!python/name:os.system"}'):
        (run / "result.json").write_bytes(content)
        try:
            build(small / "o")
        except ValueError:
            continue
    assert not marker.exists()


def test_a_report_shows_what_it_reads_as_text(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = ["--norms", "none", "--out", str(small / "o")]
    assert main(["compare", "-c", str(small / "small.yaml"), "--trainer.enable_checkpointing", "true", *out]) == 0
    monkeypatch.undo()
    path = next((small / "o").glob("*/seed=0/result.json"))
    script = "<script>alert(1)</script>"
    path.write_text(json.dumps({**json.loads(path.read_text()), "norm": script, "task": script}))
    (small / "o/compare.yaml").write_text(f"model: {script}\n")
    (small / "o/data.json").write_text(json.dumps({"data": script, "task": script}))
    assert script not in build(small / "o").read_text()


def test_measurements_are_numbers_and_words(marker: Path) -> None:
    path = marker.with_name("measurements.csv")
    path.write_bytes(pickle.dumps(calls(marker)["exec"]))
    with pytest.raises(Exception, match=r"."):
        read(path.parent)
    path.write_text(f"study,trial,quantity,value\n=cmd|'/c touch {marker}'!A1,@SUM(1),x,1\n")
    with suppress(ValueError):
        read(path.parent)
    assert not marker.exists()


def test_corpora_are_arrays(marker: Path) -> None:
    path = marker.with_name("jsb.npz")
    arrays = {"train.packed": np.array([calls(marker)["exec"]], dtype=object), "train.lengths": np.array([1])}
    np.savez(path, **arrays, allow_pickle=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no file of piano rolls"):
        read_pieces(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("valid.packed", pickle.dumps(calls(marker)["exec"]))
    with pytest.raises(ValueError, match="no file of piano rolls"):
        read_pieces(path)
    assert not marker.exists()


def test_a_configuration_is_code(small: Path, marker: Path) -> None:
    (small / "planted.py").write_text(MODULE.format(marker=str(marker)))
    (small / "evil.yaml").write_text(
        CONFIG.replace("trainer: {", "trainer: {callbacks: [{class_path: planted.Model}], ")
    )
    with suppress(SystemExit):
        main(["fit", "-c", "evil.yaml"])
    sys.modules.pop("planted", None)
    assert marker.exists(), "if this ever fails, say so in SECURITY.md"
