"""Networks of timm and open_clip: as those libraries have them; what is wrong with a name or a file is one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from trainables.data.trial_data import build
from trainables.models.given import load_given
from trainables.models.libraries import open_clip_model
from trainables.objectives import network_of
from trainables.one_trial import run_trial
from trainables.reading.yaml_file import ConfigError
from trainables.settings import libraries
from trainables.settings.config import TrialConfig
from trainables.settings.libraries import check_clip_weights, clip_config
from trainables.settings.resolving import resolve
from trainables.storage.weights import WeightsError

CLIP = "open_clip:tiny-clip"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model of two small transformers, which open_clip knows by the name `tiny-clip`."""
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    file = tmp_path_factory.mktemp("open_clip") / "tiny-clip.json"
    file.write_text(json.dumps({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(file)
    torch.manual_seed(2)
    return open_clip_model(CLIP)


@pytest.mark.parametrize("name", ["clip.safetensors", "clip.pt"])
def test_a_model_of_open_clip_is_read_from_a_file(name: str, clip: Any, tmp_path: Path) -> None:
    write = save_file if name.endswith(".safetensors") else torch.save
    write(clip.state_dict(), str(tmp_path / name))
    again = open_clip_model(CLIP, str(tmp_path / name))
    assert all(torch.equal(value, clip.state_dict()[key]) for key, value in again.state_dict().items())


def test_a_file_of_another_model_is_told_with_what_is_missing_and_left_over(clip: Any, tmp_path: Path) -> None:
    torch.save(clip.visual.state_dict(), tmp_path / "tower.pt")
    with pytest.raises(
        WeightsError, match=r"tower.pt does not fit open_clip:tiny-clip: missing text_projection, .*; left"
    ):
        open_clip_model(CLIP, str(tmp_path / "tower.pt"))


def test_a_name_that_open_clip_lacks_is_told_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"open_clip has no model 'ViT-B-33'.*did you mean 'ViT-B-32'"):
        clip_config("open_clip:ViT-B-33")
    with pytest.raises(ValueError, match="open_clip has no weights 'laion' of ViT-B-32; it has openai, "):
        check_clip_weights("open_clip:ViT-B-32/laion")


def test_weights_that_were_trained_with_another_activation_are_refused() -> None:
    with pytest.raises(ValueError, match="trained with QuickGELU: write open_clip:ViT-B-32-quickgelu"):
        check_clip_weights("open_clip:ViT-B-32/openai")
    check_clip_weights("open_clip:ViT-B-32-quickgelu/openai")


# As backbones


def given(weights: Path | str, **settings: Any) -> TrialConfig:
    return resolve({"method": "plain", "weights": str(weights), "train": "none", "image_size": 64, **settings})


@pytest.mark.parametrize(
    "name", ["resnet18", "regnetx_002", "convnext_atto", "vit_tiny_patch16_224", "mobilenetv3_small_050"]
)
def test_a_network_of_timm_says_what_timm_says(name: str, tmp_path: Path) -> None:
    torch.manual_seed(4)
    sized = {"img_size": 64} if name.startswith("vit") else {}
    theirs = timm.create_model(name, num_classes=5, **sized).eval()
    save_file(theirs.state_dict(), str(tmp_path / "theirs.safetensors"))
    config = given(tmp_path / "theirs.safetensors", backbone=f"timm:{name}")
    ours = network_of(config, 5, 64).eval()
    load_given(ours, config, range(5))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        output = ours(images)
        features = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
        torch.testing.assert_close(output.logits_BK, theirs(images), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(output.features_BC, features, rtol=1e-4, atol=1e-5)
    maps = name in ("resnet18", "regnetx_002")  # whose features are the mean of the last maps
    assert (output.evidence_BKhw is not None) == maps


def test_backmix_and_heads_of_objectives_go_on_a_network_of_timm_that_ends_in_maps(tmp_path: Path) -> None:
    small = {"backbone": "timm:resnet10t", "image_size": 64}
    once = {"epochs": 1, "images_per_class": 2, "batch_size": 12, "test": False}
    config = resolve({"method": "backmix", **small, **once})
    (report,) = run_trial(config, build(config, Path()), torch.device("cpu"), tmp_path)
    assert report.metrics["train/loss"] > 0
    network = network_of(resolve({"method": "cssr", **small}), 6, 64)
    assert network(torch.randn(2, 3, 64, 64)).logits_BK.shape == (2, 6)
    assert network.middle is network.body.layer2  # where manifold mixup mixes
    with pytest.raises(ConfigError, match="it shows no maps, and cssr has one of its own: take a convolutional"):
        resolve({**small, "method": "cssr", "backbone": "timm:vit_tiny_patch16_224"})
    changed = resolve({**small, "method": "cssr", "backbone": "timm:convnext_atto"})
    with pytest.raises(ValueError, match="convnext_atto changes its maps after they are pooled, and takes a linear"):
        network_of(changed, 6, 64)
    with pytest.raises(ValueError, match="convnext_atto shows no maps, by which backmix tells object from background"):
        network_of(resolve({**small, "method": "backmix", "backbone": "timm:convnext_atto"}), 6, 64)


def test_the_image_tower_of_open_clip_is_read_from_the_file_of_both(clip: Any, tmp_path: Path) -> None:
    torch.save(clip.state_dict(), tmp_path / "both.pt")
    config = given(tmp_path / "both.pt", backbone=CLIP, image_size=32, train="head", head="new")
    ours = network_of(config, 5, 32).eval()
    load_given(ours, config, range(5))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        output = ours(images)
        torch.testing.assert_close(output.features_BC, clip.encode_image(images))
        torch.testing.assert_close(output.logits_BK, ours.classifier(output.features_BC))
    without = given(tmp_path / "both.pt", backbone=CLIP, image_size=32)
    with pytest.raises(WeightsError, match=r"missing head.weight, head.bias; it has no head: `head: new` puts one"):
        load_given(ours, without, range(5))


def test_names_of_timm_are_told_apart_from_names_of_its_weights() -> None:
    def told(**settings: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            resolve({"method": "plain", **settings})
        return str(caught.value)

    assert "timm has no network 'resnet19' (did you mean 'resnet18'" in told(backbone="timm:resnet19")
    assert "write backbone: timm:resnet18, and weights: timm:resnet18.a1_in1k" in told(backbone="timm:resnet18.a1_in1k")
    assert "are of backbone timm:resnet50, not of wrn40-4" in told(weights="timm:resnet50.a1_in1k")
    assert "timm has no weights '' of resnet18; write timm:resnet18.NAME, of" in told(
        backbone="resnet18", weights="timm:resnet18"
    )
    resolve({"method": "plain", "backbone": "resnet18", "weights": "timm:resnet18.a1_in1k", "head": "new"})


def test_a_library_that_is_not_installed_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match="takes the package timm, which is not installed: uv sync --extra pretrained"):
        libraries.library("timm:resnet18")


def test_weights_that_cannot_be_downloaded_are_one_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = resolve(
        {"method": "plain", "backbone": "timm:resnet18", "weights": "timm:resnet18.a1_in1k", "head": "new"}
    )
    with pytest.raises(WeightsError, match=r"timm:resnet18.a1_in1k could not be downloaded \(.*\): get its file, and"):
        load_given(network_of(config, 5, 32), config, range(5))
