"""Networks of timm and open_clip: as those libraries have them; what is wrong with a name or a file is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from trainables.models.libraries import open_clip_model
from trainables.settings.libraries import check_clip_weights, clip_config
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
