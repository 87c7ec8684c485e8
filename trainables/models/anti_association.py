"""A2Pt (Ren et al., 2023): CoOp, with a decoder that divides an image's embedding into foreground and background.

It is that of the released code (Hrren/A2Pt, commit f3f0a17, coop.py): a feed-forward part that the code makes and never
calls is left out. Self-attention sees one vector K times as its values, so that its weights change nothing but what
dropout takes of them; what is attended to later differs by the places' codes alone.

Shapes: B batch, K classes, E embedding, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainables.data.augment import Statistics
from trainables.models.prompts import Compared, Prompted
from trainables.settings.image_text import A2PtSettings

HEADS = 8


class Foreground(nn.Module):
    """Image and text embeddings, of any length, to the image's foreground, whose length is about sqrt(E). B,E."""

    def __init__(self, num_classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.to_itself, self.to_texts = (nn.MultiheadAttention(width, HEADS) for _ in range(2))
        self.before_itself, self.after_itself, self.before_texts, self.after_texts = (
            nn.LayerNorm(width) for _ in range(4)
        )
        self.dropout = nn.Dropout(dropout)
        self.places_KE, self.text_places_KE = (nn.Parameter(torch.randn(num_classes, width)) for _ in range(2))

    def forward(self, image_BE: torch.Tensor, text_KE: torch.Tensor) -> torch.Tensor:
        K, B = len(text_KE), len(image_BE)
        value_BKE = self.before_itself(image_BE)[:, None].expand(-1, K, -1)
        x_BKE = image_BE[:, None] + self.places_KE
        found_BKE = attend(self.to_itself, self.dropout, x_BKE, x_BKE, value_BKE)
        x_BKE = x_BKE + self.dropout(self.after_itself(found_BKE))
        # The first place alone is what the code goes on with.
        first_B1E = self.before_texts(x_BKE[:, :1]) + self.places_KE[:1]
        key_BKE = (text_KE + self.text_places_KE).expand(B, -1, -1)
        found_B1E = attend(self.to_texts, self.dropout, first_B1E, key_BKE, x_BKE)
        foreground_B1E = x_BKE[:, :1] + self.dropout(self.after_texts(found_B1E))
        return F.layer_norm(foreground_B1E[:, 0], foreground_B1E.shape[-1:])


def attend(
    attention: nn.MultiheadAttention,
    dropout: nn.Dropout,
    query_BQE: torch.Tensor,
    key_BKE: torch.Tensor,
    value_BKE: torch.Tensor,
) -> torch.Tensor:
    """What `attention` gives, whose dropout of weights is a layer, which several processes draw as one. B,Q,E."""
    parts = zip(
        (query_BQE, key_BKE, value_BKE), attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True
    )
    q, k, v = (F.linear(*part).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)
    weights_BHQK = dropout((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1))
    found_BQE: torch.Tensor = attention.out_proj((weights_BHQK @ v).transpose(1, 2).flatten(2))
    return found_BQE


class AntiAssociative(Prompted):
    """Logits and features are the foreground's. In training `more` has the background's cosines (`background_BK`) and
    those of fore- with background (`opposed_B`). What it is looked at by, a second pass of the decoder, has dropout of
    its own."""

    def __init__(
        self, backbone: str, num_classes: int, seen: Statistics | None, looked_at: bool, settings: A2PtSettings
    ) -> None:
        super().__init__(backbone, num_classes, seen, looked_at, settings)
        self.head.add_module("foreground", Foreground(num_classes, self.num_features, settings.attention_dropout))

    def texts(self) -> torch.Tensor:
        return self.prompts()

    def compare(self, image_BE: torch.Tensor, text_KE: torch.Tensor) -> Compared:
        foreground_BE = self.head.get_submodule("foreground")(image_BE, text_KE)
        unit_KE = F.normalize(text_KE, dim=-1)
        front, back = super().compare(foreground_BE, unit_KE), super().compare(image_BE - foreground_BE, unit_KE)
        opposed_B = (front.features_BE * back.features_BE).sum(dim=-1)
        return front._replace(more={"background_BK": back.cosine_BK, "opposed_B": opposed_B})
