"""Read images in batches, by sample number, onto a device: from memory, or decoded before they are needed.

Shapes: n samples of the pool, B batch, S side of the stored images in px.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import torch

from trainables.data.augment import GREY, HALF, Statistics, centre, normalise
from trainables.images.encoded import Encoded
from trainables.processes import ALONE, Processes

AHEAD = 3  # batches that are decoded before they are asked for


class ImagePool(ABC):
    """A set of n images that gives batches of them. Sample numbers are 0..n-1."""

    labels: torch.Tensor  # n
    stored_size: int
    image_size: int  # px that the network sees
    statistics: Statistics

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def __getitem__(self, ids_B: torch.Tensor) -> torch.Tensor:
        """Return the images of sample numbers `ids_B`: B,S,S,3 uint8."""

    def ahead(self, batches: Sequence[torch.Tensor]) -> None:  # noqa: B027 (what is in memory needs no warning)
        """Announce the batches that will be asked for next, in this order, by these very tensors."""

    def seen(self, ids_B: torch.Tensor) -> torch.Tensor:
        """Return images as the network sees them in a test: their middle, normalised, B,3,I,I."""
        return normalise(centre(self[ids_B], self.image_size), self.statistics)


@dataclass(frozen=True)
class MemoryPool(ImagePool):
    """Images in memory. On the CPU the whole set stays in a shared memory map, of which `rows` are used; on an
    accelerator there are only these."""

    images: torch.Tensor  # N,S,S,3 uint8
    rows: torch.Tensor  # n
    labels: torch.Tensor
    image_size: int = 0
    statistics: Statistics = HALF

    def __post_init__(self) -> None:
        if not self.image_size:
            object.__setattr__(self, "image_size", self.stored_size)

    @property
    def stored_size(self) -> int:  # type: ignore[override]
        return self.images.shape[1]

    def __getitem__(self, ids_B: torch.Tensor) -> torch.Tensor:
        return self.images[self.rows[ids_B]]


@dataclass
class StreamedPool(ImagePool):
    """Images that stay encoded. Threads decode them a few batches ahead: Pillow frees Python's lock meanwhile.

    Batches that `ahead` announced are ready when they are asked for; others are decoded then. One that is asked for
    twice in a row is decoded once. Where a trial has several processes, each decodes its own part of a batch and gets
    the other parts from the others.
    """

    source: Encoded
    rows: torch.Tensor  # n, on the host
    labels: torch.Tensor
    device: torch.device
    image_size: int
    statistics: Statistics
    threads: int
    processes: Processes = ALONE
    _waiting: deque[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=deque, init=False)  # on device and host
    _last: tuple[torch.Tensor, torch.Tensor] | None = field(default=None, init=False)  # asked for, and its images
    _begun: deque[tuple[torch.Tensor, list[Future[None]], torch.Tensor]] = field(default_factory=deque, init=False)

    def __post_init__(self) -> None:
        self._workers = ThreadPoolExecutor(self.threads, thread_name_prefix="decode")

    @property
    def stored_size(self) -> int:  # type: ignore[override]
        return self.source.size

    def ahead(self, batches: Sequence[torch.Tensor]) -> None:
        for _, futures, _ in self._begun:
            for future in futures:
                future.cancel()
        self._begun.clear()
        on_host = torch.cat(list(batches)).cpu().split([len(b) for b in batches]) if batches else ()  # waits once
        self._waiting = deque(zip(batches, on_host, strict=True))
        self._begin()

    def __getitem__(self, ids_B: torch.Tensor) -> torch.Tensor:
        # The very tensor that was announced: to compare numbers would wait for the device.
        if self._last and _same(self._last[0], ids_B):
            return self._last[1]
        if self._begun and _same(self._begun[0][0], ids_B):
            _, futures, images = self._begun.popleft()
            self._begin()
        else:
            futures, images = self._decode(ids_B.cpu())
        for future in futures:
            future.result()
        self.processes.mine(ids_B)  # says how many rows the whole batch has
        self._last = ids_B, self.processes.gather(images.to(self.device, non_blocking=True))
        return self._last[1]

    def _begin(self) -> None:
        while self._waiting and len(self._begun) < AHEAD:
            ids, on_host = self._waiting.popleft()
            self._begun.append((ids, *self._decode(on_host)))

    def _decode(self, ids_B: torch.Tensor) -> tuple[list[Future[None]], torch.Tensor]:
        rows = self.rows[self.processes.mine(ids_B)].tolist()
        shape = (len(rows), self.source.size, self.source.size, self.source.channels)
        images = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        out = images.numpy()
        return [self._workers.submit(self.source.decode, row, out[i]) for i, row in enumerate(rows)], images


@dataclass(frozen=True)
class MaskedPool(ImagePool):
    """Images whose fourth channel is the mask of their object, shown in one of the ways of BackMix's Table I.

    `raw`: as they are. `fg`: the object on grey. `fg-raw`: the object on another image. `fg-bg`: on another image whose
    own object is grey. The other image is that of `partners`, or, in training, another one of the same batch.
    """

    pool: ImagePool
    view: str
    partners: torch.Tensor | None = None  # n sample numbers
    host: torch.Generator | None = None  # in training

    @property
    def labels(self) -> torch.Tensor:  # type: ignore[override]
        return self.pool.labels

    @property
    def stored_size(self) -> int:  # type: ignore[override]
        return self.pool.stored_size

    @property
    def image_size(self) -> int:  # type: ignore[override]
        return self.pool.image_size

    @property
    def statistics(self) -> Statistics:  # type: ignore[override]
        return self.pool.statistics

    def ahead(self, batches: Sequence[torch.Tensor]) -> None:
        self.pool.ahead(batches)

    def __getitem__(self, ids_B: torch.Tensor) -> torch.Tensor:
        images = self.pool[ids_B]
        if self.view in ("raw", "fg"):
            return shown(self.view, images, images)
        if self.partners is not None:
            return shown(self.view, images, self.pool[self.partners[ids_B]])
        # A batch is in random order: its n-th next image is a random other one, and it is here already.
        B = len(images)
        step = int(torch.randint(1, B, (), generator=self.host)) if B > 1 else 0
        return shown(self.view, images, images.roll(step, dims=0))


def shown(view: str, images_BHW4: torch.Tensor, others_BHW4: torch.Tensor) -> torch.Tensor:
    """Images B,H,W,3 in a view of `MaskedPool`, before the backgrounds of `others_BHW4`."""
    pixels, object_ = images_BHW4[..., :3], images_BHW4[..., 3:] > 127
    if view == "raw":
        return pixels
    others = others_BHW4[..., :3]
    if view == "fg":
        others = torch.full_like(pixels, GREY)
    elif view == "fg-bg":
        others = others.masked_fill(others_BHW4[..., 3:] > 127, GREY)
    return torch.where(object_, pixels, others)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are the same numbers in memory."""
    return one.data_ptr() == other.data_ptr() and len(one) == len(other)
