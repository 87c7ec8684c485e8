"""Small models of images and texts: one whose towers are drawn, and one that has learnt digits and their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F

from trainables.data.trial_data import Samples
from trainables.models.libraries import open_clip_model

TINY: dict[str, Any] = {"backbone": "open_clip:tiny", "weights": "random"}


def fitted(train: Samples, names: list[str], folder: Path, steps: int = 200) -> Path:
    """A file of the tiny model whose towers have learnt, from images and the names of their classes alone, to put them
    in one place: CLIP's training (Radford et al., 2021, Fig. 3), with a text of each class."""
    torch.manual_seed(4)
    clip, pool = open_clip_model("open_clip:tiny").train(), train.on(torch.device("cpu"))
    texts = open_clip.get_tokenizer("ViT-B-32")([f"a photo of a {name}" for name in names])[:, :12]
    learnt = [p for name, p in clip.named_parameters() if name != "token_embedding.weight"]
    optimizer = torch.optim.Adam(learnt, lr=3e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 20) * (1 - step / steps)
        ids = torch.randint(len(pool), (64,))
        words = clip.token_embedding(texts) + clip.positional_embedding[:12]
        last = clip.ln_final(clip.transformer(words, attn_mask=clip.attn_mask[:12, :12]))
        text_KE = F.normalize(last[torch.arange(len(texts)), texts.argmax(dim=1)] @ clip.text_projection, dim=-1)
        logits = clip.logit_scale.exp() * clip.encode_image(pool.seen(ids), normalize=True) @ text_KE.T
        loss = F.cross_entropy(logits, pool.labels[ids])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(clip.state_dict(), folder / "fitted.pt")
    return folder / "fitted.pt"
