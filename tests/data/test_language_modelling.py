from __future__ import annotations

import gzip
import pickle
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torchtext.data import BPTTIterator, Field
from torchtext.datasets import LanguageModelingDataset

from rnnnorm.data import Batch, LanguageModel
from rnnnorm.data.corpus import sentences, stream
from rnnnorm.data.stream import Stream

TRAIN = " \n = Title = \n \n the cat sat on the <unk> mat . \n the dog sat . \n\n a b c d e f g h i j k l m n \n"
VALID = " the zebra sat . \n\n on \n the mat sat on the cat . \n a b c d e f g h \n"
TEST = "the dog sat on the quokka\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "wikitext2"
    folder.mkdir()
    for name, text in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return tmp_path


def model(root: Path, **keys: object) -> LanguageModel:
    return LanguageModel(data_dir=str(root), download=False, **keys)  # type: ignore[arg-type]


def tokens(data: LanguageModel, ids: Tensor) -> list[str]:
    [itos] = data.vocabularies.values()
    return [itos[i] for i in ids.flatten().tolist()]


def pairs(data: LanguageModel, split: str) -> list[tuple[str, str]]:
    return [(" ".join(tokens(data, x)), " ".join(tokens(data, y))) for x, y in data.examples(split)]


def by_step(batch: Batch) -> tuple[Tensor, Tensor]:
    """Input and target of a dense batch, (T, B)."""
    shape = len(batch.input.batch_sizes), int(batch.input.batch_sizes[0])
    return batch.input.data.view(shape), batch.target.view(shape)


def test_sentences_are_lines_that_are_not_blank(root: Path) -> None:
    data = model(root)
    assert pairs(data, "train") == [
        ("<eos> = Title =", "= Title = <eos>"),
        ("<eos> the cat sat on the <unk> mat .", "the cat sat on the <unk> mat . <eos>"),
        ("<eos> the dog sat .", "the dog sat . <eos>"),
        ("<eos> a b c d e f g h i j k l m n", "a b c d e f g h i j k l m n <eos>"),
    ]
    assert pairs(data, "val")[0] == ("<eos> the <unk> sat .", "the <unk> sat . <eos>")
    assert data.spec.max_length == 15
    assert data.spec.task == "language-modelling"


def test_vocabulary_is_that_of_training_in_both_modes(root: Path) -> None:
    data = model(root)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        list(loader)
    words = set(TRAIN.split()) | {"<eos>"}
    assert set(data.vocabularies["word"]) == words  # <unk> is among them
    assert set(data.field.vocab.stoi) == words  # looking up unknown words did not enter them
    assert data.vocabularies["word"][:3] == ["<unk>", "<eos>", "the"]
    assert data.spec.vocabularies == (len(words),)
    assert data.spec.num_outputs == len(words)
    assert model(root, mode="stream").vocabularies == data.vocabularies


def test_targets_of_a_packed_batch_are_the_next_inputs(root: Path) -> None:
    [batch] = model(root).train_dataloader()
    sizes = batch.input.batch_sizes.tolist()
    assert sizes[0] == 4
    rows = iter(zip(batch.input.data[:, 0].tolist(), batch.target.tolist(), strict=True))
    steps = [list(islice(rows, size)) for size in sizes]
    for now, after in pairwise(steps):
        assert [target for _, target in now[: len(after)]] == [token for token, _ in after]
    assert next(rows, None) is None


def test_min_freq_makes_rare_words_unknown(root: Path) -> None:
    data = model(root, min_freq=2)
    assert set(data.vocabularies["word"]) == {"<unk>", "<eos>", "the", "sat", ".", "="}
    assert pairs(data, "train")[0] == ("<eos> = <unk> =", "= <unk> = <eos>")


@pytest.mark.parametrize("level", ["word", "char"])
def test_cut_sequences_predict_the_same_tokens(root: Path, level: str) -> None:
    whole, cut = model(root, max_length=None, level=level), model(root, max_length=4, level=level)
    for split in ("train", "val", "test"):
        assert max(cut.lengths(split)) <= 4
        for k in (0, 1):  # inputs and targets
            pieces, wholes = ([example[k].flatten() for example in data.examples(split)] for data in (cut, whole))
            assert torch.equal(torch.cat(pieces), torch.cat(wholes))
    assert (whole.spec.max_length, cut.spec.max_length) == (max(whole.lengths("train")), 4)
    assert len(cut.examples("train")) == sum(-(-n // 4) for n in whole.lengths("train"))


def test_characters_of_lines(root: Path) -> None:
    data = model(root, level="char")
    first, target = data.examples("train")[0]
    assert tokens(data, first) == list("\n = Title = ")
    assert tokens(data, target) == list(" = Title = \n")
    assert "z" not in data.vocabularies["char"]
    assert tokens(data, data.examples("val")[0][0])[:7] == ["\n", " ", "t", "h", "e", " ", "<unk>"]


def shakespeare(root: Path) -> str:
    speeches = [f"Speaker {i % 7}:\nLine {'x' * (i % 13)}\nand more." for i in range(100)]
    text = "\n\n".join(speeches) + "\n"
    (root / "tinyshakespeare").mkdir()
    (root / "tinyshakespeare" / "input.txt").write_text(text, encoding="utf-8")
    return text


def test_shakespeare_is_split_by_characters_and_read_by_speeches(tmp_path: Path) -> None:
    text = shakespeare(tmp_path)
    data = model(tmp_path, dataset="tinyshakespeare")
    ends = [0, len(text) * 90 // 100, len(text) * 95 // 100, len(text)]
    assert data.level == "char"
    for split, start, end in zip(("train", "val", "test"), ends, ends[1:], strict=False):
        speeches = [part for part in text[start:end].split("\n\n") if part.strip()]
        assert ["".join(tokens(data, x)) for x, _ in data.examples(split)] == ["\n" + speech for speech in speeches]
        assert ["".join(tokens(data, y)) for _, y in data.examples(split)] == [speech + "\n" for speech in speeches]
    assert set(data.vocabularies["char"]) == {"<unk>", *text[: ends[1]]}


def test_shakespeare_stream_is_the_text(tmp_path: Path) -> None:
    text = shakespeare(tmp_path)
    data = model(tmp_path, dataset="tinyshakespeare", mode="stream", batch_size=1, bptt=50)
    batches = [by_step(batch) for batch in data.train_dataloader()]
    train = text[: len(text) * 90 // 100]
    assert "".join("".join(tokens(data, x)) for x, _ in batches) == train[:-1]
    assert "".join("".join(tokens(data, y)) for _, y in batches) == train[1:]


def test_stream_of_words_is_torchtext_s(root: Path) -> None:
    field = Field(pad_token=None)
    dataset = LanguageModelingDataset(str(root / "wikitext2" / "train.txt"), field)
    field.build_vocab(dataset)
    assert [token for line in stream(TRAIN, "word") for token in line] == dataset[0].text
    assert model(root).vocabularies["word"] == field.vocab.itos


@pytest.mark.parametrize("bptt", [1, 3, 5, 100])
@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_stream_batches_are_torchtext_s(root: Path, batch_size: int, bptt: int) -> None:
    field = Field(pad_token=None)
    dataset = LanguageModelingDataset(str(root / "wikitext2" / "train.txt"), field)
    field.build_vocab(dataset)
    text = dataset[0].text
    dataset[0].text = text[: len(text) // batch_size * batch_size]  # torchtext would pad it to a multiple
    expected = list(BPTTIterator(dataset, batch_size, bptt, device="cpu"))
    batches = list(model(root, mode="stream", batch_size=batch_size, bptt=bptt).train_dataloader())
    assert len(batches) == len(expected) > 0
    for batch, theirs in zip(batches, expected, strict=True):
        inputs, targets = by_step(batch)
        assert torch.equal(inputs, theirs.text)
        assert torch.equal(targets, theirs.target)
        assert set(batch.input.batch_sizes.tolist()) == {batch_size}
        assert batch.input.data.shape == (inputs.numel(), 1)
    assert [batch.continues for batch in batches] == [False] + [True] * (len(batches) - 1)


def test_stream_goes_on_where_it_stopped(root: Path) -> None:
    """A network that carries its state over reads the stream as if it were one long batch."""
    data = model(root, mode="stream", batch_size=2, bptt=3)
    embed = nn.Embedding(data.spec.vocabularies[0], 4)
    lstm = nn.LSTM(4, 4)
    outputs, hx = [], None
    for batch in data.train_dataloader():
        output, hx = lstm(
            PackedSequence(embed(batch.input.data[:, 0]), batch.input.batch_sizes), hx if batch.continues else None
        )
        outputs.append(output.data.view(-1, 2, 4))
    [whole] = model(root, mode="stream", batch_size=2, bptt=10_000).train_dataloader()
    expected, _ = lstm(embed(by_step(whole)[0]))
    torch.testing.assert_close(torch.cat(outputs), expected)


def test_stream_spec(root: Path) -> None:
    data = model(root, mode="stream", bptt=7)
    assert data.spec.max_length == 7
    assert data.spec.vocabularies == (data.spec.num_outputs,) == (len(data.vocabularies["word"]),)


def test_stream_evaluates_with_its_own_batch_size(root: Path) -> None:
    data = model(root, mode="stream", batch_size=4, eval_batch_size=1, bptt=5)
    text = [token for line in stream(VALID, "word") for token in line]
    targets = torch.cat([batch.target for batch in data.val_dataloader()])
    assert tokens(data, targets) == [token if token != "zebra" else "<unk>" for token in text[1:]]


@pytest.mark.parametrize("mode", ["sentences", "stream"])
def test_same_batches_in_every_run(root: Path, mode: str) -> None:
    runs = [list(model(root, mode=mode, batch_size=2, bptt=4).train_dataloader()) for _ in range(2)]
    for one, other in zip(*runs, strict=True):
        assert torch.equal(one.input.data, other.input.data)
        assert torch.equal(one.target, other.target)


@pytest.mark.parametrize("done", [1, 3])
def test_stream_resumes_in_the_middle_of_an_epoch(root: Path, done: int) -> None:
    def loader() -> object:
        return model(root, mode="stream", batch_size=2, bptt=4).train_dataloader()

    interrupted, resumed = loader(), loader()
    every = list(loader())  # type: ignore[call-overload]
    list(islice(interrupted, done))  # type: ignore[call-overload]
    resumed.load_state_dict(pickle.loads(pickle.dumps(interrupted.state_dict())))  # type: ignore[attr-defined]
    rest = list(resumed)  # type: ignore[call-overload]
    assert len(every) == done + len(rest) > done + 1
    for one, other in zip(every[done:], rest, strict=True):
        assert torch.equal(one.input.data, other.input.data)
        assert one.continues
        assert other.continues


def test_stream_with_workers(root: Path) -> None:
    here, there = (
        list(model(root, mode="stream", batch_size=2, bptt=4, num_workers=n).val_dataloader()) for n in (0, 2)
    )
    assert len(here) == len(there) > 1
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.input.data, other.input.data)
        assert torch.equal(one.input.batch_sizes, other.input.batch_sizes)
        assert torch.equal(one.target, other.target)
        assert one.continues == other.continues


def test_processes_share_the_streams() -> None:
    ids = torch.arange(103)
    whole = Stream(ids, 6, bptt=4)
    shares = [Stream(ids, 2, bptt=4, rank=rank, world_size=3) for rank in range(3)]
    assert {len(share) for share in shares} == {len(whole)} == {4}
    for index in range(len(whole)):
        inputs, targets = by_step(whole[index])
        theirs = [by_step(share[index]) for share in shares]
        assert torch.equal(torch.cat([x for x, _ in theirs], dim=1), inputs)
        assert torch.equal(torch.cat([y for _, y in theirs], dim=1), targets)


def test_loader_knows_its_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [Stream(torch.arange(20), 2, 3, rank=1, world_size=2)[k] for k in range(2)]
    data = model(root, mode="stream", batch_size=2, bptt=3)
    data.splits["train"] = [(torch.arange(19)[:, None], torch.arange(1, 20))]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    batches = list(data.train_dataloader())
    assert len(batches) == len(expected)
    assert all(torch.equal(one.target, other.target) for one, other in zip(batches, expected, strict=True))


def test_stream_of_too_short_a_text(root: Path) -> None:
    with pytest.raises(ValueError, match="the test split of wikitext2: a text of 7 tokens is too short for"):
        model(root, mode="stream", batch_size=4).test_dataloader()


def test_stream_has_no_items_beyond_its_end() -> None:
    items = Stream(torch.arange(11), 2, bptt=3)
    assert [len(batch.input.batch_sizes) for batch in items] == [3, 1]  # iteration ends by IndexError
    with pytest.raises(IndexError, match="item -1 of a stream of 2 items"):
        items[-1]


@pytest.mark.parametrize("name", ["{}.txt", "ptb.{}.txt", "ptb.char.{}.txt", "wiki.{}.tokens"])
@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_folder_of_one_s_own(tmp_path: Path, root: Path, name: str, zipped: bool) -> None:
    (tmp_path / "mine").mkdir()
    for split, text in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        path = tmp_path / "mine" / name.format(split)
        if zipped:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text.replace("\n", "\r\n"), encoding="utf-8", newline="")
    expected = model(root)
    for data in (
        model(tmp_path, dataset="folder", folder="mine"),
        model(tmp_path / "mine", dataset="folder"),
        model(Path("elsewhere"), dataset="folder", folder=str(tmp_path / "mine")),
    ):
        assert data.vocabularies == expected.vocabularies
        assert [pairs(data, split) for split in data.splits] == [pairs(expected, split) for split in expected.splits]


def test_folder_without_a_split(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(TRAIN, encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"no text of the val split.*valid\.txt, ptb\.valid\.txt"):
        _ = model(tmp_path, dataset="folder").spec


def test_state_holds_the_vocabulary(root: Path) -> None:
    data = model(root)
    state = pickle.loads(pickle.dumps(data.state_dict()))
    model(root, mode="stream").load_state_dict(state)
    with pytest.raises(ValueError, match=r"vocabulary of 'word'.*differ first at id"):
        model(root, min_freq=2).load_state_dict(state)
    with pytest.raises(ValueError, match="vocabularies of word; the data have char"):
        model(root, level="char").load_state_dict(state)


def test_keys_on_the_command_line(root: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(LanguageModel, "data")
    args = [
        f"--data.data_dir={root}",
        "--data.mode=stream",
        "--data.level=char",
        "--data.bptt=9",
        "--data.batch_size=2",
    ]
    data = parser.instantiate_classes(parser.parse_args(args)).data
    assert data.spec.max_length == 9
    assert int(next(iter(data.train_dataloader())).input.batch_sizes[0]) == 2


def test_paragraphs_and_lines() -> None:
    text = "one two\nthree\n\n \n\nfour\n"
    assert sentences(text, "word", "\n\n") == [["<eos>", "one", "two", "three", "<eos>"], ["<eos>", "four", "<eos>"]]
    assert sentences(text, "char", "\n")[1] == ["\n", *"three", "\n"]
