"""CLIP's classifiers: the embedding of a class is that of its prompt, fixed (zero-shot) or with learnt vectors (CoOp).

Shapes: as in `image_text`; M vectors of a context.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from trainables.data.augment import Statistics
from trainables.models.image_text import ImageText, alone, attended
from trainables.models.output import Attention, Output
from trainables.settings.image_text import ClipSettings, CoOpSettings

SUFFIX = 4  # words that are taken to follow a context until classes have names


class Compared(NamedTuple):
    """Images beside the texts of classes."""

    features_BE: torch.Tensor  # of length 1
    cosine_BK: torch.Tensor
    more: Mapping[str, torch.Tensor]  # what else training asks for; B rows each


class Classifier(ImageText):
    """An image's logits are cosines with the classes' texts, times `scale`. In eval mode `more` has the score `mcm`."""

    local = False  # whether patches of an image are told apart, too

    def __init__(self, backbone: str, num_classes: int, seen: Statistics | None, looked_at: bool) -> None:
        super().__init__(backbone, num_classes, seen, looked_at)
        self.num_features = self.towers.visual.output_dim

    @abstractmethod
    def texts(self) -> torch.Tensor:
        """The embedding of each class. K,E."""

    def compare(self, image_BE: torch.Tensor, text_KE: torch.Tensor) -> Compared:
        """Images, as they are embedded, beside `texts`."""
        features_BE = F.normalize(image_BE, dim=-1)
        return Compared(features_BE, features_BE @ text_KE.T, {})

    def forward(self, images_BCHW: torch.Tensor) -> Output:
        text_KE = self.texts()
        # The image tower has nothing to learn: of its pass there is a graph only where somebody asks for it.
        looked_at, moved = self.looked_at and torch.is_grad_enabled(), images_BCHW.requires_grad
        maps: list[torch.Tensor] = []
        with torch.set_grad_enabled(torch.is_grad_enabled() and (looked_at or moved)):
            x_BNC = self.patches(images_BCHW)
            if looked_at and not moved:
                x_BNC = x_BNC.detach().requires_grad_()
            for block in self.blocks:
                before_BNC = x_BNC
                if looked_at:
                    x_BNC, weights_BHNN = attended(block, x_BNC)
                    maps.append(weights_BHNN)
                else:
                    x_BNC = block(x_BNC)
            image_BE = self.embedded(x_BNC[:, 0])
        with torch.autocast(images_BCHW.device.type, enabled=False):
            features_BE, cosine_BK, more = self.compare(image_BE if moved else image_BE.detach(), text_KE)
            looked = self.scale * self.compare(image_BE, text_KE.detach()).cosine_BK if maps else None
            attention = None if looked is None else Attention(tuple(maps), looked, 1)
            if self.local:
                with torch.no_grad():
                    patches_BNE = F.normalize(self.embedded(alone(self.blocks[-1], before_BNC.detach())[:, 1:]), dim=-1)
                more = {"local_BNK": patches_BNE @ text_KE.T}
        if not self.classifier.training:
            surest_B = mcm(cosine_BK)
            patch = {"gl_mcm": surest_B + mcm(more["local_BNK"]).amax(dim=1)} if self.local else {}
            more = {"mcm": surest_B, **patch}
        return Output(self.scale * cosine_BK, features_BE, None, more=more, attention=attention)


def mcm(cosine: torch.Tensor) -> torch.Tensor:
    """MCM (Ming et al., NeurIPS 2022, Eq. 2) at temperature 1: the largest softmax over the classes, the last axis.

    In float64 until the largest is taken: cosines differ little, and so do their probabilities."""
    return cosine.double().softmax(dim=-1).amax(dim=-1).to(cosine.dtype)


class ZeroShot(Classifier):
    """Nothing is learnt: the embeddings of the classes are made once, and kept as its weights."""

    def __init__(
        self, backbone: str, num_classes: int, seen: Statistics | None, looked_at: bool, settings: ClipSettings
    ) -> None:
        super().__init__(backbone, num_classes, seen, looked_at)
        self.templates = settings.templates
        self.head = nn.Module()
        self.head.register_buffer("text_KE", torch.zeros(num_classes, self.num_features))

    @torch.no_grad()
    def name_classes(self, names: Sequence[str]) -> None:
        """Of several templates, the mean of the embeddings (Radford et al., 2021, section 3.1.4)."""
        for name, text_E in zip(names, self.texts(), strict=True):
            tokens_TL = self.tokens(template.format(name) for template in self.templates)
            read_TE = F.normalize(self.read(self.towers.token_embedding(tokens_TL), tokens_TL.argmax(dim=1)), dim=-1)
            text_E.copy_(F.normalize(read_TE.mean(dim=0), dim=0))

    def texts(self) -> torch.Tensor:
        return self.head.get_buffer("text_KE")


class Context(nn.Module):
    """The vectors before a class's name: those of all classes, or of each."""

    def __init__(self, num_classes: int, width: int, settings: CoOpSettings) -> None:
        super().__init__()
        shape = (settings.context_tokens, width)
        self.context = nn.Parameter(torch.empty(num_classes if settings.context_of == "class" else 1, *shape))
        nn.init.normal_(self.context, std=0.02)


class Prompted(Classifier):
    """A prompt is a start, M learnt vectors, the class's name, a full stop and the end."""

    def __init__(
        self, backbone: str, num_classes: int, seen: Statistics | None, looked_at: bool, settings: CoOpSettings
    ) -> None:
        super().__init__(backbone, num_classes, seen, looked_at)
        self.M, width = settings.context_tokens, self.towers.token_embedding.embedding_dim
        self.head = Context(num_classes, width, settings)
        for name, shape in (("start_11W", (1, 1, width)), ("name_KLW", (num_classes, SUFFIX, width))):
            self.register_buffer(name, torch.zeros(shape), persistent=False)
        self.register_buffer("ends_K", torch.full((num_classes,), self.M + SUFFIX), persistent=False)

    @torch.no_grad()
    def name_classes(self, names: Sequence[str]) -> None:
        tokens_KL = self.tokens(f"{name}." for name in names)
        words_KLW = self.towers.token_embedding(tokens_KL)
        self.start_11W, self.name_KLW = words_KLW[:1, :1], words_KLW[:, 1:]
        self.ends_K = tokens_KL.argmax(dim=1) + self.M

    def texts(self) -> torch.Tensor:
        return F.normalize(self.prompts(), dim=-1)

    def prompts(self) -> torch.Tensor:
        """The prompt of each class in the embedding, of any length. K,E."""
        start, name_KLW, K = self.get_buffer("start_11W"), self.get_buffer("name_KLW"), self.num_classes
        parts = (start.expand(K, -1, -1), self.head.context.expand(K, -1, -1), name_KLW)
        return self.read(torch.cat(parts, dim=1), self.get_buffer("ends_K"))


class LocallyPrompted(Prompted):
    """`more` has the cosines of each patch (`local_BNK`) in training, and in eval mode the score `gl_mcm` too."""

    local = True
