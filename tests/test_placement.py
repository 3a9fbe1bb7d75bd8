"""The preset table, and norms as users write them."""

from __future__ import annotations

import pytest
from support import PRESETS

import rnnnorm
from rnnnorm.norms import NORMALIZERS, Use, options_of
from rnnnorm.norms.places import PLACES, Norm
from rnnnorm.norms.presets import parse_norm, presets


def test_the_table() -> None:
    assert PRESETS[0] == "none"
    for name, preset in presets().items():
        assert preset.name == preset.norm.name == name
        assert preset.source
        assert preset.description
        assert preset.statistics


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("none", Norm()),
        ("bn-vertical", Norm(input="bn")),
        ("bn-vertical-framewise", Norm(input="bn:statistics=timestep")),
        ("bn-shared", Norm(*["bn:statistics=shared:gain=0.1"] * 3)),
        ("bn-timestep", Norm(*["bn:statistics=timestep:gain=0.1"] * 3)),
        ("ln", Norm(input="ln", hidden="ln", cell="ln")),
        ("ln-carried", Norm(input="ln", hidden="ln", cell="ln", carried=True)),
        ("wn", Norm(input="wn", hidden="wn")),
    ],
)
def test_each_preset_can_be_built_by_place(name: str, norm: Norm) -> None:
    by_name, by_place = rnnnorm.LSTM(3, 4, norm=name), rnnnorm.LSTM(3, 4, norm=norm)
    assert repr(by_name).replace(f"norm={name!r}", "") == repr(by_place).replace(f"norm={norm.written()}", "")
    assert eval(norm.written(), {"Norm": Norm}) == norm


def test_overrides_reach_every_place_that_knows_them() -> None:
    norm = parse_norm("bn-timestep:gain=1.0:max_steps=50")
    assert [u.options["gain"] for u in norm.places.values()] == [1.0] * 3
    lstm = rnnnorm.LSTM(3, 4, norm=norm, max_steps=9)
    assert lstm.norms("_l0").hidden.stats.running_mean.shape[0] == 50
    assert lstm.norms("_l0").cell.gain[0].item() == 1.0
    assert norm.name == "bn-timestep:gain=1.0:max_steps=50"


def test_an_override_can_name_its_place() -> None:
    norm = parse_norm("bn-timestep:hidden.gain=0.5")
    assert [u.options["gain"] for u in norm.places.values()] == [0.1, 0.5, 0.1]


def test_values_are_read_as_what_they_look_like() -> None:
    use = Use.parse("bn:statistics=timestep:momentum=none:bias=true:min_rows=3:eps=1e-3")
    assert use is not None
    assert use.options == {"statistics": "timestep", "momentum": None, "bias": True, "min_rows": 3, "eps": 1e-3}
    assert parse_norm("ln:carried=true") == parse_norm("ln-carried")
    assert Use.parse("none") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bn-timestap", r"unknown norm 'bn-timestap' \(did you mean 'bn-timestep'\?\); there are: none, bn-vertical"),
        ("quantum", "unknown norm 'quantum'; there are: none"),
        ("bn-timestep:gian=1", "'bn-timestep' has no option 'gian'; it has: .*gain.*max_steps"),
        ("none:gain=1", "'none' has no option 'gain'; it has: none"),
        ("ln:gain", "expected key=value after each colon, got 'gain'"),
        ("ln:gain=1:gain=2", "'gain' is given twice"),
        ("ln:elsewhere.gain=1", "places: input, hidden, cell"),
        ("bn-shared:tail=longest", "tail must be one of last, pool, error, got 'longest'"),
        ("ln:gain=much", "much"),
        ("bn-timestep:max_steps=many", "max_steps=many"),
        ("wn:init=random", "random"),
    ],
)
def test_mistakes_are_named(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rnnnorm.LSTM(2, 3, norm=text)


def test_unknown_normalizer_lists_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"unknown normalizer 'gn9'; there are: adanorm, .*bn, .*gn, ln, lrn, .*wn"):
        Norm(input="gn9")
    with pytest.raises(ValueError, match="'ln' has no option 'momentum'; it has: eps, affine, gain, bias"):
        Norm(input="ln:momentum=1")
    with pytest.raises(ValueError, match="got 3"):
        Norm(input=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"preset's name or a rnnnorm\.Norm, got 7"):
        rnnnorm.LSTM(2, 2, norm=7)  # type: ignore[arg-type]


def test_what_cannot_stand_at_a_place_says_why() -> None:
    with pytest.raises(ValueError, match=r"cannot stand at cell: it normalizes a weight"):
        Norm(cell="wn")
    with pytest.raises(ValueError, match=r"cannot stand at hidden: .*all steps at once"):
        Norm(hidden="bn")
    with pytest.raises(ValueError, match="carried=True"):
        Norm(input="ln", carried=True)


def test_every_option_of_every_normalizer_can_be_set() -> None:
    for name, cls in NORMALIZERS.items():
        for key, parameter in options_of(cls).items():
            assert Use(name, {key: parameter.default}).options == {key: parameter.default}


def test_places_are_those_of_the_equations() -> None:
    norm = Norm(input="ln", hidden="ln", joint="ln", cell="ln", output="ln", emitted="ln", between="bn")
    assert tuple(norm.places) == PLACES
    assert str(norm) == "input=ln+hidden=ln+joint=ln+cell=ln+output=ln+emitted=ln+between=bn"


@pytest.mark.parametrize(
    ("text", "norm"),
    [
        ("input=ln", Norm(input="ln")),
        ("hidden=bn:statistics=timestep:eps=1e+00+input=ln", Norm(input="ln", hidden="bn:statistics=timestep:eps=1.0")),
        (" cell = ln + carried ", Norm(cell="ln", carried=True)),
        ("joint=ln+output=lrn+between=bn+input=none", Norm(joint="ln", output="lrn", between="bn")),
    ],
)
def test_a_text_by_place(text: str, norm: Norm) -> None:
    assert parse_norm(text) == norm
    assert parse_norm(str(norm)) == norm
    assert parse_norm(text).name == str(norm)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inptu=ln", r"no place 'inptu' \(did you mean 'input'\?\); expected place=normalizer\+place=normalizer"),
        ("input=ln+hiden=ln", "no place 'hiden'"),
        ("input=ln+hidden", "'hidden' names no normalizer, as in hidden=ln"),
        ("input=+hidden=ln", "'input' names no normalizer"),
        ("input=ln+input=bn", "'input' is given twice"),
        ("input=lnn", "unknown normalizer 'lnn'.*did you mean 'ln'"),
        ("cell=wn", "'wn' cannot stand at cell"),
        ("input=ln+carried", "cell=None"),
        ("cell=ln+carried=true", "no place 'carried'"),
        ("ln+hidden=bn", r"unknown norm 'ln\+hidden=bn'; normalizers by place are written input=ln\+hidden=bn"),
        ("ln:gain=1+hidden=bn", "finite number"),
    ],
)
def test_mistakes_in_a_text_by_place_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_norm(text)


def test_what_was_asked_for_is_not_dropped() -> None:
    with pytest.raises(ValueError, match="a GRU has no cell state"):
        rnnnorm.GRU(2, 3, norm="input=ln+cell=ln")
