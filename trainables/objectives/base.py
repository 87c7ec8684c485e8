"""What every objective has: the network's head, a loss on a batch, and what it is given for it.

Shapes: B batch, K classes, C features, h w positions of the network's last map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from trainables.data.pools import ImagePool
from trainables.mixes.base import Batch, Mix
from trainables.models import build_model
from trainables.models.cam import foreground
from trainables.models.head import Head, LinearHead
from trainables.models.output import Network, Output
from trainables.objectives.losses import mixed_cross_entropy, soft_cross_entropy
from trainables.processes import ALONE, Processes
from trainables.settings.config import TrialConfig


@dataclass(frozen=True)
class Given:
    """What a trial gives to its objective."""

    network: Network  # the one that is trained, as it is within one process
    teacher: Network | None = None  # frozen, in eval mode
    outliers: ImagePool | None = None
    processes: Processes = ALONE


class Objective(nn.Module, ABC):
    """What is learnt from the batches of a mix. Its parameters are trained beside those of the network."""

    head: ClassVar[type[Head]] = LinearHead  # what makes logits of the network's features
    pass_number: int = 0  # of `settings.passes` over the images in an epoch: which one a batch is of
    temperature: float = 1.0  # that cross-entropy divides logits by, in the epoch under way

    def __init__(self, settings: Any, mix: Mix, given: Given) -> None:
        super().__init__()
        self.settings = settings
        self.mix = mix
        self.given = given

    @classmethod
    def network(cls, config: TrialConfig, num_classes: int, image_size: int) -> Network:
        """The freshly initialised network of a trial, by torch's global generator."""
        network = build_model(config.backbone, num_classes, image_size, cls.head, config.objective_settings)
        cls.equip(network)
        return network

    @classmethod
    def equip(cls, network: Network) -> None:
        """Change the freshly initialised network of a trial to what this objective needs, beside its head. In place."""

    def trained_with_network(self) -> Iterable[nn.Parameter]:
        """What the trial's optimiser trains beside the network. One with optimisers of its own leaves out theirs."""
        return self.parameters()

    @abstractmethod
    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        """The loss, a scalar, of the batch of sample numbers `ids_B` (distinct)."""

    def see(self, model: nn.Module, images_BCHW: torch.Tensor, batch: Batch | None = None) -> Output:
        """What the network says of all images: logits, features and `more`. Each process runs it on its own part.

        With `batch`, its images are the first of `images_BCHW`, and a mix that looks is shown their foreground.
        """
        processes = self.given.processes
        output = model(processes.mine(images_BCHW))
        more = {name: processes.gather(said) for name, said in output.more.items()}
        whole = Output(processes.gather(output.logits_BK), processes.gather(output.features_BC), None, more=more)
        if batch is not None and self.mix.looks:
            self.mix.look(batch, self._foreground(model, output, batch, len(images_BCHW)))
        return whole

    def _foreground(self, model: nn.Module, output: Output, batch: Batch, images: int) -> torch.Tensor:
        """How much each position speaks for the true class, B,h,w in 0..1: from the pass that gave `output`, or from
        one of its own in eval mode, which leaves batch statistics alone."""
        processes, labels = self.given.processes, batch.labels_B
        if batch.foreground_BCHW is None:
            every = F.pad(labels, (0, images - len(labels)))  # what follows the batch has no label, and no place in it
            return processes.gather(self.foreground(output, processes.mine(every)))[: len(labels)]
        model.eval()
        with torch.set_grad_enabled(self.given.network.cam_by_gradient):
            own = model(processes.mine(batch.foreground_BCHW))
            found = processes.gather(self.foreground(own, processes.mine(labels)))
        model.train()
        return found

    def foreground(self, output: Output, labels_B: torch.Tensor) -> torch.Tensor:
        """How much each position speaks for the true class, B,h,w in 0..1, of what the network says of B images."""
        return foreground(output, labels_B)

    @torch.no_grad()
    def teach(self, images_BCHW: torch.Tensor) -> Output:
        """What the teacher says of the whole batch. Raises `RuntimeError` where the trial has none."""
        if self.given.teacher is None:
            raise RuntimeError("this objective needs a teacher's weights")
        return self.see(self.given.teacher, images_BCHW)

    def cross_entropy(self, logits_BK: torch.Tensor, batch: Batch, smoothing: float = 0.0) -> torch.Tensor:
        """Cross-entropy with the labels of the batch, both of them by their parts where it is mixed, and the mix's own
        term. `smoothing` is the part of the uniform label. A scalar."""
        labels = batch.labels_B
        if self.temperature != 1:
            logits_BK = logits_BK / self.temperature
        if batch.targets_BK is not None:
            targets = (1 - smoothing) * batch.targets_BK + smoothing / logits_BK.shape[1]
            loss = soft_cross_entropy(logits_BK, targets).mean()
        elif batch.partners_B is None or batch.lam_B is None:
            loss = F.cross_entropy(logits_BK, labels, label_smoothing=smoothing)
        else:
            pair = (labels, labels[batch.partners_B], batch.lam_B)
            loss = mixed_cross_entropy(logits_BK, *pair, smoothing=smoothing).mean()
        term = self.mix.term(logits_BK, batch)
        return loss if term is None else loss + term

    def of_labels(self, values_BK: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The value of each sample's label, of both by their parts where it is mixed. B."""
        if batch.targets_BK is not None:
            return (batch.targets_BK * values_BK).sum(dim=1)
        own = values_BK.gather(1, batch.labels_B[:, None])[:, 0]
        if batch.partners_B is None or batch.lam_B is None:
            return own
        other = values_BK.gather(1, batch.labels_B[batch.partners_B, None])[:, 0]
        return batch.lam_B * own + (1 - batch.lam_B) * other

    def state(self) -> dict[str, Any]:
        """What changes while it trains, the mix's included. An objective that keeps more than parameters and buffers
        adds it, so that an interrupted trial goes on as if nothing had happened."""
        return {"own": self.state_dict(), "mix": self.mix.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave; its tensors may be on another device."""
        self.load_state_dict(state["own"])
        self.mix.load_state(state["mix"])
