"""ARPL+CS (Chen et al., TPAMI 2021): ARPL with confusing samples, by ARPL's core/train.py, `train_cs`.

Every epoch goes over the images twice. In a batch of its first pass, with D the discriminator, G the generator, z
latents and h the certainty of the classifier on images that are seen by batch norms of their own:

    D descends      BCE(D(x), 1) + BCE(D(G(z)), 0)
    G descends      BCE(D(G(z)), 1) + beta h(G(z))
    the network     ARPL's loss of x + beta h(G(z')), z' drawn anew

The second pass is ARPL's. D and G have optimisers of their own, and all is in the state.
Shapes: B batch, C channels, H W image, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from trainables.mixes.base import Mix
from trainables.models.confusing import LATENT, Discriminator, Generator, TwoNorms, double_norms, for_generated
from trainables.models.output import Network
from trainables.objectives.base import Given
from trainables.objectives.points import Arpl
from trainables.processes import over_processes
from trainables.settings.points import ArplCsSettings

BETAS = (0.5, 0.999)  # of Adam, for generator and discriminator


class ArplCs(Arpl):
    settings: ArplCsSettings

    def __init__(self, settings: ArplCsSettings, mix: Mix, given: Given) -> None:
        super().__init__(settings, mix, given)
        device = mix.images.generator.device
        self.generator = Generator(settings.gan_width, mix.images.image_size)
        self.discriminator = Discriminator(settings.gan_width)
        self.optimizers = {}
        for name, net in self.adversaries().items():
            net.to(device).to(memory_format=torch.channels_last)
            if given.processes.size > 1:
                over_processes(net, given.processes, device)
            self.optimizers[name] = torch.optim.Adam(net.parameters(), settings.gan_lr, BETAS)
        mean, std = (torch.tensor(of, device=device).view(3, 1, 1) for of in mix.images.pool.statistics)
        self.mean_C11, self.std_C11 = mean, std

    @classmethod
    def equip(cls, network: Network) -> None:
        double_norms(network)

    def adversaries(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    def trained_with_network(self) -> Iterable[nn.Parameter]:
        return [self.radius]

    def loss(self, model: nn.Module, ids_B: torch.Tensor) -> torch.Tensor:
        batch = self.mix.batch(ids_B)
        network = getattr(model, "module", model)  # without DistributedDataParallel, which counts one pass a step
        norms = [layer for layer in network.modules() if isinstance(layer, TwoNorms)]
        if self.pass_number == 1:
            loss = self.of(self.see(model, batch.images_BCHW, batch), batch)
            return loss + 0 * sum(p.sum() for norm in norms for p in norm.generated.parameters())
        self.descend(network, norms, batch.images_BCHW)
        loss = self.of(self.see(model, batch.images_BCHW, batch), batch)
        with torch.no_grad():
            images = self.generate(len(ids_B))
        return loss + self.settings.confusing_weight * self.certainty(network, norms, images)

    def descend(self, network: nn.Module, norms: list[TwoNorms], images_BCHW: torch.Tensor) -> None:
        """A step of the discriminator, then one of the generator."""
        processes = self.given.processes
        generated = self.generate(len(images_BCHW))
        real_B = processes.gather(self.discriminator(processes.mine(images_BCHW)))
        false_B = processes.gather(self.discriminator(generated.detach()))
        self.step("discriminator", is_real(real_B, 1) + is_real(false_B, 0))
        deceived = is_real(processes.gather(self.discriminator(generated)), 1)
        certainty = self.certainty(network, norms, generated)
        self.step("generator", deceived + self.settings.confusing_weight * certainty)

    def step(self, name: str, loss: torch.Tensor) -> None:
        """Descend along the gradient of one of them alone: the network's is neither computed nor left behind."""
        parameters = list(self.adversaries()[name].parameters())
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, self.given.processes.average(gradients), strict=True):
            parameter.grad = gradient
        self.optimizers[name].step()

    def generate(self, count: int) -> torch.Tensor:
        """This process's part of `count` generated images, normalised as real ones are."""
        images = self.mix.images
        latents = torch.randn(count, LATENT, 1, 1, generator=images.generator, device=self.mean_C11.device)
        latents = self.given.processes.mine(latents).to(next(self.generator.parameters()).dtype)
        normalised: torch.Tensor = (self.generator(latents) - self.mean_C11) / self.std_C11
        return normalised

    def certainty(self, network: nn.Module, norms: list[TwoNorms], mine_BCHW: torch.Tensor) -> torch.Tensor:
        """h of this process's part of generated images and everyone else's, a scalar."""
        with for_generated(norms):
            output = network(mine_BCHW)
        return certainty(self.given.processes.gather(output.more["distance"]))

    def state(self) -> dict[str, Any]:
        return {**super().state(), "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])


def is_real(logits_B: torch.Tensor, target: int) -> torch.Tensor:
    """Binary cross-entropy of being real (1) or generated (0). A scalar."""
    return F.binary_cross_entropy_with_logits(logits_B, torch.full_like(logits_B, target))


def certainty(distance_BK: torch.Tensor) -> torch.Tensor:
    """h = exp(mean_i sum_k p_ik log p_ik), p_i the softmax of the distances to the points: 1/K where all classes are as
    likely, up to 1 (ARPLoss.py, `fake_loss`; it leaves out the products that are part of the logits). A scalar."""
    log_BK = distance_BK.log_softmax(dim=1)
    return (log_BK.exp() * log_BK).sum(dim=1).mean().exp()
