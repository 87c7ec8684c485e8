"""Whose each setting of a file in search_spaces/ is, and what the papers' codes do to images: as the files train it."""

import re
from collections.abc import Iterator

import pytest
import yaml

from platform.files import rows, search_file
from platform.files.rows import row_list
from platform.files.spec import Spec
from tests.helpers.paths import ROOT
from trainables.protocols.protocols import protocol_of
from trainables.settings.config import TrialConfig
from trainables.settings.identity import identity_of
from trainables.settings.resolving import resolve

SEARCH_SPACES = ROOT / "search_spaces"
FILES = sorted(str(path.relative_to(SEARCH_SPACES)) for path in SEARCH_SPACES.rglob("*.yaml"))
MEDMNIST = "asymmetric/table09.yaml"  # trained as MedMNIST's own code does it
SSB = "asymmetric/table03.yaml"  # trained as AGC's code does it
ASYMMETRIC = [f for f in FILES if f.startswith(("asymmetric", "teacher_free"))]
BACKMIX = [f for f in FILES if f.startswith("backmix")]
DIGITS = ("mnist", "digits", "cut-digits")
WHOSE = re.compile(r"# (paper|code|ours)\b")


def mappings(node: yaml.Node, *path: str) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Keys and values of the mapping at `path`; none where there is no such."""
    assert isinstance(node, yaml.MappingNode)
    for key, value in node.value:
        if path and key.value == path[0]:
            yield from mappings(value, *path[1:])
        elif not path:
            yield key, value


def profile(file: str, name: str) -> Spec:
    return search_file.load(SEARCH_SPACES / file).profile(name)


def trials(spec: Spec) -> list[tuple[str, TrialConfig]]:
    """Every trial of the rows with the name of its row, and every teacher."""
    own = spec.confirm.baselines if spec.confirm else row_list(spec)
    found = [(row.name, c) for row in own if not row.published_only for _, c in rows.trials(spec, row)]
    return [(name, c) for name, config in found for c in (config, config.teacher) if c]


@pytest.mark.parametrize("file", FILES)
def test_every_setting_of_a_base_says_whose_it_is(file: str) -> None:
    text = (SEARCH_SPACES / file).read_text()
    lines, node = text.splitlines(), yaml.compose(text)

    def silent(*path: str) -> list[str]:
        return [key.value for key, _ in mappings(node, *path) if not WHOSE.search(lines[key.start_mark.line])]

    assert "base" not in silent() or not silent("base")
    assert not silent("profiles")
    assert not silent("profiles", "official", "base")


@pytest.mark.parametrize("file", [*ASYMMETRIC, *BACKMIX])
def test_where_code_was_released_there_is_a_profile_official(file: str) -> None:
    parts = [p for _, c in trials(profile(file, "paper")) for p in (c.objective_settings, c.mix_settings)]
    released = all("official" in part.recipes for part in parts) and file not in ("backmix/table1.yaml", MEDMNIST)
    assert ("official" in search_file.load(SEARCH_SPACES / file).profiles) == released
    assert released == ("no profile `official`" not in (SEARCH_SPACES / file).read_text())


@pytest.mark.parametrize("file", [f for f in ASYMMETRIC if f != MEDMNIST])
def test_asymmetric_files_treat_images_as_their_code_does(file: str) -> None:
    for row, config in trials(profile(file, "paper")):
        if config.objective_settings.image_text:  # which sees images as CLIP does, and has a recipe of its own
            assert config.normalisation == "clip"
            continue
        assert config.crop_fill == ("reflect" if row.startswith("+ Rand. Quantization") else "black")
        assert (config.normalisation, config.crop_padding) == ("cifar10", 4)
        assert config.flips == (config.protocol not in DIGITS)
        if not row.startswith("AGC") and file != SSB:  # which have a recipe of their own
            assert (config.momentum, config.nesterov, config.weight_decay) == (0.9, False, 5e-4)
        if config.method == "cutout":
            assert (config.mix_settings.mix_probability, config.mix_settings.cutout_size) == (1, 0.25)  # type: ignore[attr-defined]


@pytest.mark.parametrize("file", [f for f in ASYMMETRIC if "official" in search_file.load(SEARCH_SPACES / f).profiles])
def test_the_asymmetric_profile_official_is_that_of_baselines_and_teachers_too(file: str) -> None:
    for row, config in trials(profile(file, "official")):
        if row.startswith("AGC") or config.objective_settings.image_text:
            continue
        if not config.weights:  # which are fine-tuned with less
            assert (config.lr, config.warmup_epochs, config.augment_first) == (0.025, 1, "agc-randaugment")
            assert (config.randaugment_ops, config.randaugment_magnitude) == (1, 9)
        parts = (config.objective_settings, config.mix_settings)
        official = {name: value for part in parts for name, value in part.recipes["official"].items()}
        assert {name: config.settings()[name] for name in official if name != "crop_fill"} == {
            name: value for name, value in official.items() if name != "crop_fill"
        }


@pytest.mark.parametrize("file", BACKMIX)
def test_backmix_files_crop_an_eighth_of_small_images_and_pad_no_large_one(file: str) -> None:
    for name in ("paper", *({"official"} & set(search_file.load(SEARCH_SPACES / file).profiles))):
        for _, config in trials(profile(file, name)):
            side = config.seen_size
            assert config.crop_padding == (side // 8 if side < 224 else 0)
            assert config.flips == (config.protocol not in DIGITS)
            if side < 224:
                assert config.crop_fill == ("black" if name == "official" else "reflect")
            of_weights = "clip" if config.objective_settings.image_text else "imagenet"
            assert config.normalisation == (of_weights if config.weights else "half")


@pytest.mark.parametrize("file", [f for f in FILES if f != MEDMNIST])
def test_small_profiles_crop_their_small_images_as_before(file: str) -> None:
    for name in {"quick", "small", "reduced"} & set(search_file.load(SEARCH_SPACES / file).profiles):
        assert {config.crop_padding for _, config in trials(profile(file, name))} == {4}


@pytest.mark.parametrize("method", ["cssr", "rcssr"])
def test_the_profile_original_cssr_is_the_recipe_of_that_name(method: str) -> None:
    config = next(c for name, c in trials(profile("backmix/table4.yaml", "original-cssr")) if name == method.upper())
    assert (config.protocol, config.objective) == ("svhn", method)
    assert config == resolve({"method": method, "recipe": "original", "protocol": "svhn", "split_family": "osrci"})


def test_svhn_is_mirrored_unless_flip_says_otherwise() -> None:
    settings = {"method": "plain", "protocol": "svhn"}
    mirrored, left = (resolve({**settings, **more}) for more in ({}, {"flip": False}))
    assert mirrored.flips
    assert not left.flips
    assert identity_of(mirrored, {"svhn": "images"}) != identity_of(left, {"svhn": "images"})
    assert protocol_of("mnist").flip is protocol_of("digits").flip is False


def test_flip_written_as_the_protocol_has_it_is_the_same_trial() -> None:
    settings = {"method": "plain", "protocol": "cifar10"}
    said, unsaid = (resolve({**settings, **more}) for more in ({"flip": True}, {}))
    assert identity_of(said, {"cifar10": "images"}) == identity_of(unsaid, {"cifar10": "images"})
