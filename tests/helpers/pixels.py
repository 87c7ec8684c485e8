"""Images for augmentations, and the affine reading of Pillow."""

import torch
from PIL import Image

HEIGHT, WIDTH = 32, 28


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    """Noise, smooth pictures in colour, narrow ranges and single levels."""
    noise = torch.randint(0, 256, (4, height, width, 3), dtype=torch.uint8, generator=generator())
    coarse = torch.rand(8, 3, 5, 5, generator=generator(1)) * 255
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255)
    smooth = smooth.permute(0, 2, 3, 1).to(torch.uint8)
    constant = torch.tensor([0, 96, 255], dtype=torch.uint8)[:, None, None, None].expand(-1, height, width, 3)
    return torch.cat([noise, smooth, smooth[:2] // 4 + 90, constant])


def moved(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)
