from __future__ import annotations

import copy
import gzip
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor

from rnnnorm.data import Batch, Names, PartOfSpeech
from rnnnorm.data.conllu import Sentence, read_conllu
from rnnnorm.data.word_features import FEATURES

Tagged = Sequence[tuple[str, str]]

TRAIN: list[Tagged] = [
    [("The", "DET"), ("dog", "NOUN"), ("barks", "VERB"), (".", "PUNCT")],
    [("Dogs", "NOUN"), ("bark", "VERB")],
    [("the", "DET"), ("cat", "NOUN"), ("sleeps", "VERB"), ("and", "CCONJ"), ("the", "DET"), ("dog", "NOUN")],
    [("Stop", "VERB")],
]
VAL: list[Tagged] = [[("The", "DET"), ("zebra", "NOUN"), ("sleeps", "VERB")]]
TEST: list[Tagged] = [[("A", "DET"), ("quokka", "NOUN")], [("Dogs", "NOUN"), ("sleep", "VERB"), (".", "PUNCT")] * 3]


def conllu(sentences: Sequence[Tagged], xpos: str | None = None) -> str:
    """A CoNLL-U file with comments, a multiword token and an empty node in every sentence."""
    blocks = []
    for sentence in sentences:
        lines = ["# text = " + " ".join(word for word, _ in sentence), "1-2\tmultiword" + "\t_" * 8]
        for i, (word, tag) in enumerate(sentence, start=1):
            lines.append(f"{i}\t{word}\t_\t{tag}\t{xpos or 'X' + tag[0]}\t_\t0\troot\t_\t_")
        lines.append("1.1\tempty\t_\tNOUN\tNN" + "\t_" * 5)
        blocks.append("\n".join(lines) + "\n\n")
    return "".join(blocks)


def write_treebank(folder: Path, prefix: str = "en_ewt-ud", zipped: bool = False, **splits: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"train": conllu(TRAIN), "dev": conllu(VAL), "test": conllu(TEST)} | splits
    for split, text in texts.items():
        path = folder / f"{prefix}-{split}.conllu"
        if zipped:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text, encoding="utf-8", newline="")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_treebank(tmp_path / "ud_english_ewt")
    return tmp_path


def treebank(root: Path, **keys: object) -> PartOfSpeech:
    return PartOfSpeech(data_dir=str(root), download=False, **keys)  # type: ignore[arg-type]


def sequences(batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """Take a batch apart again, row by row: (input, target) of each sequence."""
    count = int(batch.input.batch_sizes[0])
    rows: list[list[int]] = [[] for _ in range(count)]
    row = 0
    for running in batch.input.batch_sizes.tolist():
        for sequence in range(running):
            rows[sequence].append(row)
            row += 1
    return [(batch.input.data[r], batch.target[r]) for r in rows]


def test_conllu_keeps_words_only() -> None:
    text = (
        "# sent_id = 1\n1-2\tdon't\t_\t_\t_\t_\t_\t_\t_\t_\n1\tdo\tdo\tAUX\tVBP\t_\t0\troot\t_\t_\r\n"
        "2\tn't\tnot\tPART\tRB\t_\t1\tadvmod\t_\t_\n2.1\tgo\tgo\tVERB\tVB\t_\t_\t_\t_\t_\n\n\n"
        "1\t#1\t_\tNOUN\tNN\t_\t0\troot\t_\t_"
    )
    assert list(read_conllu(text.split("\n"))) == [
        Sentence(["do", "n't"], ["AUX", "PART"], ["VBP", "RB"]),
        Sentence(["#1"], ["NOUN"], ["NN"]),
    ]


def test_conllu_malformed_line_is_named() -> None:
    with pytest.raises(ValueError, match=r"bad\.conllu, line 2: 2 tab-separated columns.*10.*'1\\tword'"):
        list(read_conllu(["# comment", "1\tword"], "bad.conllu"))


@pytest.mark.parametrize(
    ("feature", "word", "expected"),
    [
        ("word", "Dogs", "Dogs"),
        ("suffix3", "Barking", "ing"),
        ("suffix3", "a", "a"),
        ("suffix2", "BARKS", "ks"),
        ("prefix3", "Unhappy", "unh"),
        ("prefix2", "Re-do", "re"),
        ("shape", "McDonald's", "XxXx'x"),
        ("shape", "1,234.50", "d,d.d"),
        ("shape", "USA", "X"),
        ("shape", "Ångström", "Xx"),
        ("shape", "...", "."),
        ("shape", "COVID-19", "X-d"),
    ],
)
def test_feature(feature: str, word: str, expected: str) -> None:
    assert FEATURES[feature](word) == expected


def test_batches_hold_the_sentences(root: Path) -> None:
    data = treebank(root, min_freq=1, lower=False)
    names = data.vocabularies
    [batch] = data.train_dataloader()
    assert batch.input.batch_sizes.tolist() == [4, 3, 2, 2, 1, 1]  # lengths 6, 4, 2, 1
    read = []
    for rows, target in sequences(batch):
        words = [names["word"][i] for i in rows[:, 0].tolist()]
        for k, feature in enumerate(data.features):
            assert [names[feature][i] for i in rows[:, k].tolist()] == [FEATURES[feature](word) for word in words]
        read.append(list(zip(words, [data.class_names[i] for i in target.tolist()], strict=True)))
    assert read == sorted((list(sentence) for sentence in TRAIN), key=len, reverse=True)
    assert batch.input.data.dtype == batch.target.dtype == torch.int64


def test_spec(root: Path) -> None:
    data = treebank(root)
    assert data.spec.task == "tagging"
    assert data.spec.vocabularies == tuple(len(data.vocabularies[name]) for name in FEATURES)
    assert data.spec.num_outputs == len(data.class_names) == 5
    assert data.spec.max_length == 6
    assert data.class_names == ["NOUN", "VERB", "DET", "CCONJ", "PUNCT"]  # by frequency, then by name
    for split in ("train", "val", "test"):
        for rows, target in data.examples(split):
            assert rows.shape == (len(target), len(FEATURES))
            assert (rows < torch.tensor(data.spec.vocabularies)).all()


def test_vocabularies_come_from_training_alone(root: Path) -> None:
    data = treebank(root, min_freq=1)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        list(loader)
    fields = data._loaded[0]
    for name in data.features:
        seen = {FEATURES[name](word.lower() if name == "word" else word) for s in TRAIN for word, _ in s}
        assert set(data.vocabularies[name]) == seen | {"<unk>"}
        assert set(fields[name].vocab.stoi) == seen | {"<unk>"}  # looking up unknown words did not enter them


def test_unknown_words_are_unk_and_their_affixes_are_not(root: Path) -> None:
    data = treebank(root, min_freq=1, features=["word", "suffix3", "shape"])
    [(rows, target)] = data.examples("val")
    unk = data.vocabularies["word"].index("<unk>")
    assert (rows[:, 0] == unk).tolist() == [False, True, False]  # zebra
    assert data.vocabularies["shape"][int(rows[1, 2])] == "x"
    assert [data.class_names[i] for i in target.tolist()] == ["DET", "NOUN", "VERB"]


def test_min_freq_makes_training_words_unknown(root: Path) -> None:
    data = treebank(root, min_freq=2, features=["word"])
    assert data.vocabularies["word"] == ["<unk>", "the", "dog"]
    assert any((rows == 0).any() for rows, _ in data.examples("train"))


def test_lower_keeps_shape(root: Path) -> None:
    cased, lowered = treebank(root, min_freq=1, lower=False), treebank(root, min_freq=1, lower=True)
    assert {"The", "the"} <= set(cased.vocabularies["word"])
    assert "The" not in lowered.vocabularies["word"]
    assert lowered.vocabularies["shape"] == cased.vocabularies["shape"]


def test_features_choose_the_columns(root: Path) -> None:
    data = treebank(root, features=["shape", "word"])
    every = treebank(root)
    assert list(data.vocabularies) == ["shape", "word", "tags"]
    column = list(FEATURES).index("shape")
    for (some, _), (all_, _) in zip(data.examples("train"), every.examples("train"), strict=True):
        assert some.shape[1] == 2
        assert torch.equal(some[:, 0], all_[:, column])
        assert torch.equal(some[:, 1], all_[:, 0])


def test_max_train_length_is_for_training(root: Path) -> None:
    data = treebank(root, max_train_length=2, min_freq=1)
    assert sorted(data.lengths("train")) == [1, 2]
    assert sorted(data.lengths("val") + data.lengths("test")) == [2, 3, 9]
    assert data.spec.max_length == 2
    assert set(data.vocabularies["word"]) == {"<unk>", "dogs", "bark", "stop"}


def test_max_train_length_without_sentences(root: Path) -> None:
    write_treebank(root / "ud_english_ewt", train=conllu([TRAIN[0]]))
    with pytest.raises(ValueError, match="en_ewt-ud has no training sentence of at most 3 words"):
        _ = treebank(root, max_train_length=3).spec


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
def test_any_treebank(tmp_path: Path, root: Path, zipped: bool, absolute: bool) -> None:
    write_treebank(tmp_path / "UD_German-GSD", "de_gsd-ud", zipped)
    name = "UD_German-GSD/de_gsd-ud"
    data = treebank(Path("elsewhere") if absolute else tmp_path, treebank=str(tmp_path / name) if absolute else name)
    assert data.spec == treebank(root).spec
    assert torch.equal(data.examples("train")[0][0], treebank(root).examples("train")[0][0])


def test_own_folder_as_data_dir(root: Path) -> None:
    assert treebank(root / "ud_english_ewt").spec == treebank(root).spec


def test_missing_treebank_lists_those_there(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"fr_gsd-ud-train\.conllu.*ud_english_ewt/en_ewt-ud"):
        _ = treebank(root, treebank="fr_gsd-ud").spec


def test_xpos(root: Path) -> None:
    assert set(treebank(root, tags="xpos").class_names) == {"XD", "XN", "XV", "XP", "XC"}


def test_treebank_without_xpos(root: Path) -> None:
    write_treebank(root / "ud_english_ewt", **dict.fromkeys(("train", "dev", "test"), conllu(TRAIN, xpos="_")))
    with pytest.raises(ValueError, match="en_ewt-ud has no xpos tags"):
        _ = treebank(root, tags="xpos").spec


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_file_without_sentences_is_named(split: str, root: Path) -> None:
    write_treebank(root / "ud_english_ewt", **{split: "# text = none\n"})
    with pytest.raises(ValueError, match=f"the {split.replace('dev', 'val')} split of en_ewt-ud is empty"):
        _ = treebank(root).spec


def test_tag_never_seen_in_training_is_a_class_of_its_own(root: Path) -> None:
    write_treebank(root / "ud_english_ewt", test=conllu([[("Wow", "INTJ"), ("dog", "NOUN")]]))
    data = treebank(root)
    assert data.class_names[-1] == "<unk>"
    assert data.class_names.count("<unk>") == 1
    assert [data.class_names[i] for i in data.examples("test")[0][1].tolist()] == ["<unk>", "NOUN"]


def test_state_holds_the_vocabularies(root: Path) -> None:
    data = treebank(root)
    state = pickle.loads(pickle.dumps(data.state_dict()))
    again = treebank(root)
    again.load_state_dict(state)
    assert again.vocabularies == data.vocabularies
    with pytest.raises(ValueError, match=r"vocabulary of 'word' has 3 entries and the data's has 11; .* id 3"):
        treebank(root, min_freq=1).load_state_dict(state)
    with pytest.raises(ValueError, match=r"vocabularies of word, suffix3.*the data have word, tags"):
        treebank(root, features=["word"]).load_state_dict(state)


def test_pickle_and_copy(root: Path) -> None:
    data = treebank(root)
    _ = data.spec
    assert pickle.loads(pickle.dumps(data)).spec == copy.deepcopy(data).spec == data.spec


def test_keys_on_the_command_line(root: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(PartOfSpeech, "data")
    args = [f"--data.data_dir={root}", "--data.features=[word,shape]", "--data.batch_size=2", "--data.tags=xpos"]
    data = parser.instantiate_classes(parser.parse_args(args)).data
    assert len(data.spec.vocabularies) == 2
    assert len(data.train_dataloader()) == 2


@pytest.fixture
def names_root(tmp_path: Path) -> Path:
    folder = tmp_path / "names"
    folder.mkdir()
    for i, language in enumerate(Names.class_names):
        names = [f"{language}é{chr(ord('a') + k)}" * (1 + k % 3) for k in range(5 + i)]
        (folder / f"{language}.txt").write_text("\n".join(names) + "\n\n", encoding="utf-8")
    return tmp_path


def spelled(data: Names, split: str) -> list[tuple[str, str]]:
    characters = data.vocabularies["char"]
    return [
        ("".join(characters[i] for i in rows[:, 0].tolist()), data.class_names[int(target)])
        for rows, target in data.examples(split)
    ]


def test_names_are_split_as_documented(names_root: Path) -> None:
    data = Names(data_dir=str(names_root), download=False, seed=7)
    lines = [
        (line, language)
        for language in data.class_names
        for line in (names_root / "names" / f"{language}.txt").read_text(encoding="utf-8").split()
    ]
    order = np.random.RandomState(0).permutation(len(lines))
    assert len(lines) == 243
    read = {split: spelled(data, split) for split in ("train", "val", "test")}
    assert [len(read[split]) for split in read] == [174, 20, 49]
    known = set(data.vocabularies["char"])
    for split, part in zip(read, np.split(order, [174, 194]), strict=True):
        expected = [lines[i] for i in part]
        masked = [("".join(c if c in known else "<unk>" for c in name), language) for name, language in expected]
        assert read[split] == masked
    assert known == {"<unk>"} | {character for name, _ in (lines[i] for i in order[:174]) for character in name}


def test_names_batch(names_root: Path) -> None:
    data = Names(data_dir=str(names_root), download=False, batch_size=8)
    assert data.spec.vocabularies == (len(data.vocabularies["char"]),)
    assert (data.spec.task, data.spec.num_outputs) == ("classification", 18)
    assert data.spec.max_length == max(data.lengths("train"))
    characters = data.vocabularies["char"]
    for batch in data.train_dataloader():
        count = int(batch.input.batch_sizes[0])
        assert batch.target.shape == (count,)
        assert batch.input.data.shape == (int(batch.input.batch_sizes.sum()), 1)
        for first, target in zip(batch.input.data[:count, 0].tolist(), batch.target.tolist(), strict=True):
            assert data.class_names[target].startswith(characters[first])


def test_missing_language_is_named(names_root: Path) -> None:
    (names_root / "names" / "Greek.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"names.Greek\.txt"):
        _ = Names(data_dir=str(names_root), download=False).spec
