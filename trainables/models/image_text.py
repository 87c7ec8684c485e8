"""A model of images and texts (CLIP, Radford et al., 2021) with frozen towers: what an image tower of transformers
says, its attention, and the text tower fed with vectors.

Shapes: B batch, N tokens (a class token, prompts if any, then h * w patches), C channels of the image tower, W of the
text tower, E of the embedding that both end in, K classes, L words, H heads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from trainables.data.augment import Statistics
from trainables.models.libraries import load_open_clip
from trainables.models.output import Network
from trainables.settings.given import RANDOM
from trainables.settings.libraries import OPEN_CLIP, clip_config, library


class ImageText(Network):
    """The towers of an open_clip model, in eval mode and without gradients, and `head`, which is what is learnt.

    Its state dict is that of the head alone: the towers are given, by `give`, whenever the network is made.
    """

    shows_maps = cam_by_gradient = True

    def __init__(self, backbone: str, num_classes: int, seen: Statistics | None, looked_at: bool) -> None:
        """`seen`: how its images are normalised. `looked_at`: whether somebody asks where it looks; then a pass with
        gradients keeps its attention, which takes memory."""
        super().__init__()
        self.backbone, self.num_classes, self.looked_at = backbone, num_classes, looked_at
        self.towers: Any = _drawn(backbone).requires_grad_(False)
        for name, limit in (("black_C", 0.0), ("white_C", 1.0)):
            values = [(limit - m) / s for m, s in zip(*seen, strict=True)] if seen else [(2 * limit - 1) * float("inf")]
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
        hooks: Any = self  # torch says nothing of their types
        hooks.register_state_dict_post_hook(_without_towers)
        hooks.register_load_state_dict_pre_hook(_with_towers)
        self.frozen = True

    def give(self, weights: str, names: Sequence[str]) -> None:
        """Put weights into the towers, and the classes by their names. Raises `WeightsError` where they do not fit."""
        if weights == RANDOM:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(0)
                self.towers.load_state_dict(_drawn(self.backbone).state_dict())
        else:
            load_open_clip(self.towers, self.backbone, weights)
        self.name_classes(names)

    @abstractmethod
    def name_classes(self, names: Sequence[str]) -> None:
        """Take what is needed of the classes' names and the text tower, once."""

    @property
    def scale(self) -> torch.Tensor:
        """What cosines are multiplied by, about 100."""
        scale: torch.Tensor = self.towers.logit_scale.exp()
        return scale

    def tokens(self, texts: Iterable[str]) -> torch.Tensor:
        """Words of texts as numbers, n,L, to the longest text's end, which is the largest number of each."""
        found: torch.Tensor = _tokenizer(self.backbone)(list(texts))
        return found[:, : int(found.argmax(dim=1).max()) + 1].to(self.towers.logit_scale.device)

    def read(self, words_KLW: torch.Tensor, ends_K: torch.Tensor) -> torch.Tensor:
        """Texts in the embedding, of any length, K,E, float32. Attention is causal: the end sees nothing behind it."""
        text, length = self.towers, words_KLW.shape[1]
        x_KLW = words_KLW + text.positional_embedding[:length]
        x_KLW = text.ln_final(text.transformer(x_KLW, attn_mask=text.attn_mask[:length, :length]))
        last_KW = x_KLW[torch.arange(len(x_KLW), device=x_KLW.device), ends_K]
        with torch.autocast(last_KW.device.type, enabled=False):
            found_KE: torch.Tensor = last_KW.to(text.text_projection.dtype) @ text.text_projection
            return found_KE

    def patches(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """Images, enlarged to the side that the tower was made for, as the tokens that its first block sees. B,N,C."""
        tower = self.towers.visual
        patches_BNC = tower.conv1(self.enlarged(images_BCHW)).flatten(2).transpose(1, 2)
        class_B1C = tower.class_embedding.to(patches_BNC.dtype).expand(len(images_BCHW), 1, -1)
        tokens_BNC: torch.Tensor = tower.ln_pre(torch.cat([class_B1C, patches_BNC], dim=1) + tower.positional_embedding)
        return tokens_BNC

    def enlarged(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """As CLIP's own preprocessing resizes: bicubic, as Pillow does it, which goes along lines first and keeps to
        the values of pixels after either direction."""
        size = self.towers.visual.image_size[0]
        if images_BCHW.shape[-1] == size:
            return images_BCHW
        for shape in ((images_BCHW.shape[2], size), (size, size)):
            larger = F.interpolate(images_BCHW, size=shape, mode="bicubic", antialias=True)
            images_BCHW = larger.clamp(self.get_buffer("black_C"), self.get_buffer("white_C"))
        return images_BCHW

    def embedded(self, class_BC: torch.Tensor) -> torch.Tensor:
        """Tokens of the last block in the embedding, of any length, float32."""
        tower = self.towers.visual
        x = tower.ln_post(class_BC)
        with torch.autocast(x.device.type, enabled=False):
            found_BE: torch.Tensor = x.to(tower.proj.dtype) @ tower.proj
            return found_BE

    @property
    def blocks(self) -> Sequence[Any]:
        found: Sequence[Any] = self.towers.visual.transformer.resblocks
        return found


class Attended(NamedTuple):
    """What a block gives, and the attention that it is a function of."""

    tokens_BNC: torch.Tensor
    attention_BHNN: torch.Tensor


def attended(block: Any, x_BNC: torch.Tensor) -> Attended:
    """A block of an image tower, opened up: torch's own attention does not show its weights where they are used."""
    attention = block.attn
    q, k, v = _projected(block, x_BNC, slice(None)).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    weights_BHNN = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
    found = attention.out_proj((weights_BHNN @ v).transpose(1, 2).flatten(2))
    return Attended(_after_attention(block, x_BNC, found), weights_BHNN)


def alone(block: Any, x_BNC: torch.Tensor) -> torch.Tensor:
    """What a block gives where each token attends to itself alone: its value, and no query or key. B,N,C."""
    value_BNC = _projected(block, x_BNC, slice(2 * x_BNC.shape[-1], None))
    return _after_attention(block, x_BNC, block.attn.out_proj(value_BNC))


def _projected(block: Any, x_BNC: torch.Tensor, rows: slice) -> torch.Tensor:
    return F.linear(block.ln_1(x_BNC), block.attn.in_proj_weight[rows], block.attn.in_proj_bias[rows])


def _after_attention(block: Any, x_BNC: torch.Tensor, found_BNC: torch.Tensor) -> torch.Tensor:
    x_BNC = x_BNC + block.ls_1(found_BNC)
    after_BNC: torch.Tensor = x_BNC + block.ls_2(block.mlp(block.ln_2(x_BNC)))
    return after_BNC


def _drawn(backbone: str) -> Any:
    """Both towers, drawn by torch's global generator. open_clip's own factory moves them to a device besides, which
    tensors without numbers refuse, of which memory is told."""
    return library(backbone).CLIP(**clip_config(backbone))


@cache
def _tokenizer(backbone: str) -> Any:
    return library(backbone).get_tokenizer(backbone.removeprefix(OPEN_CLIP))


def _without_towers(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}towers.")]:
        del state[name]


def _with_towers(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    towers = module.get_submodule("towers").state_dict()
    state.update({f"{prefix}towers.{name}": value for name, value in towers.items()})
