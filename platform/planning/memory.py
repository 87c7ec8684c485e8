"""How much memory of a GPU a trial takes, and how many of them fit on one, told without a GPU.

What is counted: weights with their gradients and the optimiser's state; what the forward pass of a batch keeps for the
backward pass, by a pass of tensors that have a shape and no numbers; the images, which lie on the device. What no shape
tells is `OUTSIDE` and `MARGIN`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from platform.planning.plan import ImageSets, Sweep
from trainables.data.trial_data import Samples, TrialData
from trainables.images.encoded import Encoded
from trainables.models.output import Network
from trainables.objectives import network_of
from trainables.settings.config import TrialConfig
from trainables.settings.custom import reason

OUTSIDE = 700 * 2**20  # bytes of a process beside its tensors: CUDA's context, and what libraries take (docs/gpu.md)
MOST = 8  # trials on a GPU: six kept one 96 to 100 % busy (docs/gpu.md), and more of them only wait for each other
SHARES = 10_000  # of a GPU: Ray counts in them
MARGIN = 1.3  # what algorithms of convolutions work in, and what lies unused between tensors


def gpu_bytes(config: TrialConfig, data: TrialData) -> int:
    """Bytes of a GPU that a process of this trial takes at most while it trains."""
    network = network_of(config, len(data.classes), data.image_size)
    parameters = _bytes(network.parameters())
    state = {"adam": 2, "sgd": 1 if config.momentum else 0}[config.optimizer]
    if config.train == "head":
        network.freeze()
    learnt = _bytes(parameter for parameter in network.parameters() if parameter.requires_grad)
    tensors = parameters + learnt * state + _bytes(network.buffers())
    tensors += max(learnt, _kept(network, config, data.image_size))  # gradients take the place of the latter
    if config.teacher:
        tensors += _bytes(network_of(config.teacher, len(data.classes), data.image_size).state_dict().values())
    return OUTSIDE + round(MARGIN * (tensors + _of_images(data)))


def gpu_share(need: int, memory: int) -> float:
    """The share of a GPU of `memory` bytes for trials of `need` each, so that as many fit as are of use; 1 where only
    one does, or none. Rounded down to what Ray counts in, for the shares of all not to exceed the whole."""
    return math.floor(SHARES / min(MOST, max(1, memory // need))) / SHARES


def largest(sweep: Sweep, images: ImageSets) -> tuple[int, TrialConfig]:
    """Bytes of a GPU for the largest of a sweep's trials and their teachers, and which it is; of a search, with the
    settings that it starts from."""
    needs: dict[tuple[object, ...], tuple[int, TrialConfig]] = {}
    for student in ([sweep.search] if sweep.search else []) + [request.config for request in sweep.requests]:
        data = images.of(student)
        for config in filter(None, (student, student.teacher)):
            teacher = config.teacher.backbone if config.teacher else ""
            shape = (config.backbone, config.batch_size, config.precision, config.optimizer, config.momentum > 0)
            mix = config.mix if config.objective_settings.image_text else ""  # BackMix asks where such a model looks
            key = (*shape, config.objective, mix, config.objective_settings.images_a_sample, teacher, id(data))
            if key not in needs:
                needs[key] = (gpu_bytes(config, data), config)
    return max(needs.values(), key=lambda need: need[0])


def pack(sweep: Sweep, images: ImageSets, memory: int) -> str:
    """What to say of the GPU memory of a sweep's trials, of `memory` bytes in all. Where `auto` is asked for, as many
    trials share a GPU as fit."""
    auto = sweep.spec.resources.gpus_per_worker == "auto"
    try:
        need, config = largest(sweep, images)
    except Exception as error:  # whatever a network of one's own does that takes numbers
        said = f"could not be told without a GPU: {reason(error)}"
        return f"{said}; auto gives each trial a whole one" if auto else said
    said = f"about {need / 2**30:.1f} GiB of a GPU for the largest trial ({config.method}, {config.backbone})"
    if not memory:
        return f"{said}; no GPU tells its size, so auto gives each trial a whole one" if auto else said
    share = gpu_share(need, memory)
    if auto:
        packed = sweep.spec.resources.sharing(share)
        sweep.spec = sweep.spec.model_copy(update={"resources": packed})
    together = f"{int(1 / share)} of them on one of {memory / 2**30:.0f} GiB"
    return f"{said}; auto puts {together}, gpus_per_worker: {share:g}"


def _kept(network: Network, config: TrialConfig, image_size: int) -> int:
    """Bytes of what the pass of a batch keeps for the backward pass, and of the largest gradient on the way."""
    batch = config.batch_size * config.objective_settings.images_a_sample
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with (
        FakeTensorMode(allow_non_fake_inputs=True),  # not while a network is made: that may look at its numbers
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"),
    ):
        network.to_empty(device="cpu")(torch.empty(batch, 3, image_size, image_size))
        own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    sizes = [storage.nbytes() for key, storage in kept.items() if key not in own]
    return sum(sizes) + 2 * max(sizes, default=0)


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _of_images(data: TrialData) -> int:
    """Bytes of all images that lie on the device; large ones are streamed, and a few batches of them are nothing."""
    every: list[Samples] = [data.train, *data.validation.values(), *data.test.values()]
    if data.outliers:
        every.append(data.outliers)
    return sum(
        len(samples) * samples.source.size**2 * samples.source.channels
        for samples in every
        if not isinstance(samples.source.images, Encoded)
    )
