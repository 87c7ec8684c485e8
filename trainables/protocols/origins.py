"""Sets that show the same photographs under several names, of which pixels tell nothing: they were cut or resized."""

from __future__ import annotations

from collections.abc import Mapping

# Sets whose images are of one collection of photographs, by that collection; where the sets' authors say so.
COLLECTIONS: Mapping[str, str] = {
    "digits": "scikit-learn's digits",  # load_digits
    "cut-digits": "scikit-learn's digits",
    # Liang et al. (2018), section 4.1: Tiny-ImageNet's and LSUN's test images, cropped and resized to 32 px
    "imagenet-crop": "ImageNet",
    "imagenet-resize": "ImageNet",
    "lsun-crop": "LSUN",
    "lsun-resize": "LSUN",
    # Tack et al. (2020), datasets/imagenet_fix_preprocess.py, lsun_fix_preprocess.py: training images of ImageNet-30
    # and of LSUN
    "imagenet-fix": "ImageNet",
    "lsun-fix": "LSUN",
    "tiny-imagenet": "ImageNet",  # its page, and its archive: wnids of ImageNet's challenge, 64 px
    "imagenet30": "ImageNet",  # Hendrycks et al. (2019): 30 classes of ImageNet-1k
    "imagenet-samples": "ImageNet",  # its README: an image of each class of ImageNet-1k
    # Huang and Li (2021), section 4.1: images of Places365; `composed.Landscapes` reads Places365 as well
    "places": "Places365",
    "landscapes": "Places365",
    **dict.fromkeys(("cub", "waterbirds-0.5", "waterbirds-0.7", "waterbirds-0.9", "waterbirds-0.95"), "CUB-200-2011"),
}


def same_collection(one: str, other: str) -> bool:
    """Whether two sets may show the same photographs, by their names."""
    return one == other or (one in COLLECTIONS and COLLECTIONS[one] == COLLECTIONS.get(other))
