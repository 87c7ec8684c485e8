"""Vision transformers (Dosovitskiy et al., 2021; the widths of DeiT, Touvron et al., 2021), torchvision's."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import VisionTransformer

from trainables.models.output import Network, Output


class ViT(Network):
    """Twelve blocks with heads of 64 channels. The class token after the last norm is the features."""

    shows_maps = cam_by_gradient = True

    def __init__(self, width: int, patch: int, image_size: int, num_classes: int) -> None:
        super().__init__()
        self.num_features = width
        self.body = VisionTransformer(
            image_size,
            patch,
            num_layers=12,
            num_heads=width // 64,
            hidden_dim=width,
            mlp_dim=4 * width,
            num_classes=num_classes,
        )
        # As DeiT's. Torchvision's is 0: then all images have one distribution, where the gradient of DIST's
        # correlations explodes, and no map reaches beyond the head.
        nn.init.trunc_normal_(self.body.heads.head.weight, std=0.02)

    @property
    def classifier(self) -> nn.Module:
        return self.body.heads

    def forward(self, images_BCHW: torch.Tensor) -> Output:
        """What torchvision's forward does, opened up: it shows neither the tokens nor the features."""
        body, encoder = self.body, self.body.encoder
        patches_BNC = body.conv_proj(images_BCHW).flatten(2).transpose(1, 2)
        class_B1C = body.class_token.expand(len(images_BCHW), -1, -1)
        tokens_BNC = torch.cat([class_B1C, patches_BNC], dim=1) + encoder.pos_embedding
        *blocks, last = encoder.layers
        for block in blocks:
            tokens_BNC = block(tokens_BNC)
        head = body.heads.head
        features_BC = encoder.ln(last(tokens_BNC)[:, 0]).to(head.weight.dtype)
        with torch.autocast(images_BCHW.device.type, enabled=False):  # rounded logits would tie
            logits_BK = head(features_BC)
        return Output(logits_BK, features_BC, None, tokens_BNC)
