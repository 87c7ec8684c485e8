"""What a caption says of the images behind numbers: which were trained on and tested, of how many published ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from trainables.data.sources import published_images
from trainables.images.listing import Content
from trainables.protocols.protocols import part_of_set, protocol_of
from trainables.reading.values import listed
from trainables.settings.config import TrialConfig

Tested = tuple[TrialConfig, Mapping[str, Content]]  # a finished trial, and the test images that its evaluation saw


def say_settings(settings: Mapping[str, object]) -> str:
    return "  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in settings.items())


def trained_on(configs: Sequence[TrialConfig], counts: Mapping[str, int]) -> Iterator[str]:
    """A sentence for each set of which not all published training images are here. `counts` says how many are, by
    `TrialConfig.training_images`."""
    drawn = sorted({config.images_per_class for config in configs if config.images_per_class})
    for name, key in _training_sets(configs).items():
        here, published = counts.get(key, 0), published_images(name)
        if not 0 < here < published:
            continue
        of = f"{here:,} of the {published:,} published training images of {name}"
        if drawn and all(config.images_per_class for config in configs) and name in configs[0].training_sets[:1]:
            yield f"Trained on {_listed(drawn)} images a class, drawn from {of}."
        else:
            yield f"Trained on {of}."


def trained_on_all(config: TrialConfig, counts: Mapping[str, int]) -> bool:
    """Whether every published training image is here, where it is known how many there are."""
    return all(counts.get(key, 0) >= published_images(name) for name, key in _training_sets([config]).items())


def tested_on(trials: Iterable[Tested]) -> Iterator[str]:
    """A sentence for each image set that was not tested whole, or on which trials saw different images; and how many
    trials do not say what they saw."""
    seen: dict[str, set[Content]] = {}
    silent = 0
    for config, tested in trials:
        silent += not tested
        for name, content in tested.items():
            if name in ("known", *config.evaluation_sets):
                seen.setdefault(image_set(config, name), set()).add(content)
    for name, contents in seen.items():
        counts = sorted({content.images for content in contents})
        published = max(content.published for content in contents)
        if published and counts[0] < published:
            yield f"Tested on {_listed(counts)} of the {published:,} published test images of {name}."
        if len({content.fingerprint for content in contents}) > 1:
            yield f"Trials were tested on different images of {name}: the sweep, run again, evaluates all on the same."
    if silent:
        yield f"Which test images {silent} trials saw was not recorded when they ran: they are shown as they are."


def tested_on_all(tested: Mapping[str, Content], sets: Iterable[str]) -> bool:
    """Whether these evaluation sets were tested whole, as far as that is known."""
    return all(tested[name].images >= tested[name].published for name in sets if name in tested)


def image_set(config: TrialConfig, name: str) -> str:
    """The image set whose test images an evaluation set is made of, or those that are `known`."""
    if name == "known":
        return protocol_of(config.protocol).image_set
    return part_of_set(config.protocol, name).images


def _training_sets(configs: Sequence[TrialConfig]) -> dict[str, str]:
    """Each set, and what it is called among fingerprints."""
    found: dict[str, str] = {}
    for config in configs:
        found |= dict(zip(config.training_sets, config.training_images, strict=True))
    return found


def _listed(counts: Sequence[int]) -> str:
    return listed(f"{count:,}" for count in counts)
