"""Visual prompt tuning (VPT, Jia et al., ECCV 2022): learnt tokens in a frozen image tower, a linear head on its class
token.

Shapes: as in `image_text`; T learnt tokens, D blocks that get some.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from trainables.data.augment import Statistics
from trainables.models.image_text import ImageText, attended
from trainables.models.output import Attention, Output
from trainables.settings.image_text import VptSettings


class VisualHead(nn.Module):
    """What is learnt: tokens, drawn as patches' embeddings are (the code's Xavier bound), and a linear head."""

    def __init__(self, tokens_DTC: tuple[int, int, int], patch: int, num_classes: int) -> None:
        super().__init__()
        self.tokens_DTC = nn.Parameter(torch.empty(tokens_DTC))
        bound = math.sqrt(6 / (3 * patch**2 + tokens_DTC[2]))
        nn.init.uniform_(self.tokens_DTC, -bound, bound)
        self.linear = nn.Linear(tokens_DTC[2], num_classes)
        nn.init.kaiming_normal_(self.linear.weight, nonlinearity="linear")
        nn.init.zeros_(self.linear.bias)


class VisuallyPrompted(ImageText):
    """Tokens follow the class token where the first block sees them, after the tower's first norm; with `deep` they are
    others before each block. Features are the class token after the last norm, before it is projected."""

    def __init__(
        self, backbone: str, num_classes: int, seen: Statistics | None, looked_at: bool, settings: VptSettings
    ) -> None:
        super().__init__(backbone, num_classes, seen, looked_at)
        tower, self.T = self.towers.visual, settings.visual_tokens
        self.num_features = tower.conv1.out_channels
        depth = len(self.blocks) if settings.visual_depth == "deep" else 1
        self.head = VisualHead((depth, self.T, self.num_features), tower.patch_size[0], num_classes)

    def name_classes(self, names: Sequence[str]) -> None:
        """Its head is linear: names tell it nothing."""

    def forward(self, images_BCHW: torch.Tensor) -> Output:
        looked_at, maps = self.looked_at and torch.is_grad_enabled(), []
        x_BNC, seen = self.patches(images_BCHW), 0
        for block, depth in zip(self.blocks, range(len(self.blocks)), strict=True):
            if depth < len(self.head.tokens_DTC):
                tokens_BTC = self.head.tokens_DTC[depth].to(x_BNC.dtype).expand(len(x_BNC), -1, -1)
                x_BNC, seen = torch.cat([x_BNC[:, :1], tokens_BTC, x_BNC[:, 1 + seen :]], dim=1), self.T
            if looked_at:
                x_BNC, weights_BHNN = attended(block, x_BNC)
                maps.append(weights_BHNN)
            else:
                x_BNC = block(x_BNC)
        features_BC = self.towers.visual.ln_post(x_BNC[:, 0]).to(self.head.linear.weight.dtype)
        with torch.autocast(images_BCHW.device.type, enabled=False):
            logits_BK = self.head.linear(features_BC)
        attention = Attention(tuple(maps), logits_BK, 1 + self.T) if maps else None
        return Output(logits_BK, features_BC, None, attention=attention)
