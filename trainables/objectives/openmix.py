"""OpenMix ("OpenMix+", TCSVT 2023): cross-entropy with extra classes, for images that are mixed with themselves.

What a batch holds for each known image, in the released code's shares 1 : 4 : 1 : 1, and of which class that is:

    the image, by its mix                                   its class
    OpenMixup     x / 2 + rot(x) / 2                        no known class
    OpenCutout    its object black                          no known class
                  a trivial mask black, beside its object   its class: black alone does not tell
    OpenCutmix    its object filled with itself             no known class
                  a trivial mask filled, beside its object  its class

A trivial mask is another image's object, half as large, anywhere. The loss is the mean over all of these images. Left
out are those whose object is too small or too large, and those where the trivial mask touches it.

OpenMix+ adds a regulariser for the known classes, which its code does not have: it is missing here. Nor does the code
say what ranks an image as known; the score here is ours. What is mixed is the stored image, which is then cropped and
mirrored by itself; the code does not say. Shapes: B batch, N other images, K known classes, D more, L = K + D.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from trainables.mixes.openmix import (
    draw_places,
    kaleidoscope,
    objects,
    of_right_size,
    opencutmix,
    opencutout,
    openmixup,
    trivial_masks,
)
from trainables.models.dummies import NegativeHead
from trainables.objectives.base import Objective
from trainables.settings.dummies import OpenMixSettings

Others = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # images uint8 N,H,W,C; classes N; parts in the loss N, 0 or 1


class OpenMix(Objective):
    settings: OpenMixSettings
    head = NegativeHead

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        B, batch, images = len(ids_B), self.mix.batch(ids_B), self.mix.images
        stored_NHWC, classes_N, part_N = self.others(ids_B)
        others = images.through(images.draw_view(len(classes_N)), stored_NHWC)
        output = self.see(model, torch.cat([batch.images_BCHW, others]), batch)  # one pass
        logits_BL = torch.cat([output.logits_BK, output.more["dummies"]], dim=1)
        if batch.targets_BK is not None:
            batch = batch._replace(targets_BK=F.pad(batch.targets_BK, (0, self.settings.dummies)))
        known = self.cross_entropy(logits_BL[:B], batch)
        other_N = F.cross_entropy(logits_BL[B:] / self.temperature, classes_N, reduction="none")
        return (B * known + (part_N * other_N).sum()) / (B + part_N.sum())

    def others(self, ids_B: torch.Tensor) -> Others:
        """Every image that is made of those of a batch."""
        pool, kinds, K = self.mix.images.pool, self.settings.kinds, self.mix.images.num_classes
        stored_BHWC, labels_B = pool[ids_B], pool.labels[ids_B]
        made: list[Others] = []
        for position, (kind, count) in enumerate(kinds.items()):
            images_NHWC, labels_N = stored_BHWC.repeat(count, 1, 1, 1), labels_B.repeat(count)
            none_N = torch.full_like(labels_N, K + (position if self.settings.negatives == "separate" else 0))
            if kind == "openmixup":
                mixed = openmixup(images_NHWC, self.angles(len(images_NHWC)))
                made.append((mixed, none_N, torch.ones_like(none_N, dtype=torch.bool)))
            else:
                made += self.hidden(kind, images_NHWC, labels_N, none_N)
        images_NHWC, classes_N, part_N = (torch.cat(of) for of in zip(*made, strict=True))
        return images_NHWC, classes_N, part_N

    def hidden(
        self, kind: str, images_NHWC: torch.Tensor, labels_N: torch.Tensor, none_N: torch.Tensor
    ) -> list[Others]:
        """Of each image two: its object hidden, `none_N` its class then, and a trivial mask of it."""
        N, generator, objects_NHW = len(images_NHWC), self.mix.images.generator, objects(images_NHWC)
        partners_N = torch.randperm(N, generator=generator, device=generator.device)
        trivial_NHW = trivial_masks(objects_NHW[partners_N], *draw_places(N, images_NHWC.shape[1], generator))
        usable_N = of_right_size(objects_NHW)
        apart_N = usable_N & usable_N[partners_N] & ~(trivial_NHW & objects_NHW).flatten(1).any(dim=1)
        if kind == "opencutout":
            images = [opencutout(images_NHWC, mask_NHW) for mask_NHW in (objects_NHW, trivial_NHW)]
        else:
            mirrors_2N = torch.rand(2, N, generator=generator, device=generator.device) < 0.5
            filler_NHWC = kaleidoscope(images_NHWC, mirrors_2N[0], mirrors_2N[1], self.angles(N))
            images = [opencutmix(images_NHWC, filler_NHWC, mask_NHW) for mask_NHW in (objects_NHW, trivial_NHW)]
        return [(images[0], none_N, usable_N), (images[1], labels_N, apart_N)]

    def angles(self, count: int) -> torch.Tensor:
        """Drawn evenly from -360..360 degrees."""
        generator = self.mix.images.generator
        return 720 * torch.rand(count, generator=generator, device=generator.device) - 360
