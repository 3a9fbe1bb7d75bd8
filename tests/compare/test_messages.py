"""What is misspelt is answered by one line with a suggestion, on the command line and in files."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnnorm.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")


def refused(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says that exits with code 2."""
    try:
        code = main(args)
    except SystemExit as stop:
        code = stop.code  # type: ignore[assignment]
    assert code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("rnnnorm")
    assert ": error: " in captured.err
    return captured.err


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("compare --model.hiden_size 3", "hidden_size"),
        ("compare --model Tagging --model.hiden_size 3", "hidden_size"),
        ("compare --data.num_trian 3", "num_train"),
        ("compare --trainer.max_epoch 3", "--trainer.max_epochs"),
        ("compare --seed 3", "--seeds"),
        ("compare --data JapaneseVowel", "JapaneseVowels"),
        ("compare --model Taging", "Tagging"),
        ("compare --trainer.callbacks EarlyStoping", "EarlyStopping"),
        ("compare --data rnnnorm.data.TemporalOrdr", "TemporalOrder"),
        ("compare -c japanese-vowls", "japanese-vowels"),
        ("compare --config=japanese-vowls", "japanese-vowels"),
        ("compare japanese-vowls", "japanese-vowels"),
        ("compare --norms lnn", "ln"),
        ("compare --norms ln:gian=2", "gain"),
        ("compare --norms inptu=ln", "input"),
        ("compare --executor proceses", "processes"),
        ("compare --data.length_distribution unifrm", "uniform"),
        ("compare --trainer.precision 16-mixd", "16-mixed"),
        ("compar", "compare"),
        ("study raggednes", "raggedness"),
        ("study raggedness --qick", "--quick"),
        ("study raggedness -c pos-taging", "pos-tagging"),
        ("fit --data TemporalOrder --model.hiden_size 3", "hidden_size"),
        ("fit --data TemporalOrdr", "TemporalOrder"),
        ("test --data TemporalOrder --trainer.max_epoch 3", "--trainer.max_epochs"),
        ("list nomrs", "norms"),
        ("bench --prts x", "--parts"),
    ],
)
def test_what_was_meant_is_said(command: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"did you mean '{meant}'?" in refused(command.split(), capsys)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model: {init_args: {hiden_size: 3}}", "did you mean 'hidden_size'?"),
        ("model: {init_arg: {hidden_size: 3}}", "the model has no key 'init_arg.hidden_size'"),
        ("data: {class_path: TemporalOrder, init_args: {num_trian: 3}}", "did you mean 'num_train'?"),
        ("data: {class_path: TemporalOrdr}", "did you mean 'TemporalOrder'?"),
        ("data: {init_args: {num_train: 3}}", "needs a class that has it"),
        ("data: [1, 2]", "data: expected the name of a data module or class_path and init_args, got '[1, 2]'"),
        ("trainer: {max_epoch: 3}", "trainer has no key 'max_epoch' (did you mean 'max_epochs'?)"),
        ("trainer: {max_epochs: three}", "trainer.max_epochs: expected int or null, got 'three'"),
        ("trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitr: x}}]}", "did you mean 'monitor'?"),
        ("nrms: ln", "a configuration has no key 'nrms' (did you mean 'norms'?)"),
        ("hidden_size: 3", "no key 'hidden_size'; it is a key of --model"),
        ("norms: {a: 1}", "norms: expected str or list"),
        ("config: {max_epochs: 1}", "a configuration has a value of another shape than its key expects"),
        ("a: [", "Problems parsing config"),
    ],
)
def test_a_file(content: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(content)
    assert message in refused(["compare", "-c", "mine.yaml"], capsys)


@pytest.mark.parametrize(("content", "meant"), [("opions: {}", "options"), ("options: {mixed_norm: 3}", "mixed_norms")])
def test_a_file_of_a_study(content: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(content)
    assert f"did you mean '{meant}'?" in refused(["study", "raggedness", "-c", "mine.yaml"], capsys)


def test_a_file_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\x00\xfe")
    assert f"-c {path} is no text: expected a YAML file in UTF-8" in refused(["compare", "-c", str(path)], capsys)


def test_a_file_in_place_of_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plain").touch()
    command = ["compare", "--norms", "none", "--seeds", "1", "--out", str(tmp_path / "plain")]
    assert "plain is a file or lies in one; expected a folder" in refused(command, capsys)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("compare --data nowhere.X", "data: there is no data module 'nowhere.X': No module named 'nowhere'"),
        ("compare --data torch.nn.LSTM", "no subclass of LightningDataModule"),
        ("compare --model.dropout x", "model.dropout: expected float, got 'x'"),
        ("compare --model.cell_options 3", "model.cell_options: expected dict or null, got '3'"),
        ("compare --max-minutes -1", "max_minutes: expected a number >0 or null, got '-1'"),
        ("compare --threads 0", "threads: expected a number >0 or null, got '0'"),
        ("compare --tune-trials 1.5", "--tune-trials: expected a whole number of at least 1, got '1.5'"),
        ("compare --tune-trials 0", "--tune-trials: expected a whole number of at least 1, got '0'"),
        ("compare --seeds", "expected one argument"),
        ("compare --model.network nowhere.Net", "nowhere cannot be imported: ModuleNotFoundError"),
        ("compare --model.network torch.nn.LSMT", "torch.nn has no torch module 'LSMT' (did you mean 'LSTM'?)"),
        ("compare --model.network Net", "network 'Net': expected module.Class"),
        ("compare --model.class_weights balancd", "did you mean 'balanced'?"),
        ("compare --norms nowhere:peak", "there is no module 'nowhere'"),
        ("fit --data TemporalOrder --model.norm nowhere:peak", "there is no module 'nowhere'"),
    ],
)
def test_other_mistakes_are_a_line_too(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(command.split(), capsys)
