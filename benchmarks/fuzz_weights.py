"""Files of weights harmed at random, and what comes of reading them: none may give other numbers.

python -m benchmarks.fuzz_weights --files 300

Each file is a copy of one network's weights with one kind of harm at a random place. It is read as a figure reads a
run's (`read_weights`) and as a worker reads a teacher's (`kept_weights`, with the sha256 of what was kept, then
`read_weights`). It may be refused by `WeightsError`, or give the numbers that were saved, where the harm hit none. What
was changed and saved anew is another file in good order: only the sha256 can tell. Exits 1 on anything else.
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from trainables.data.trial_data import TrialData, build
from trainables.objectives import network_of
from trainables.settings.resolving import resolve
from trainables.storage.folder import Folder
from trainables.storage.weights import WeightsError, keep_weights, kept_weights
from trainables.training.teacher import read_weights

CPU = torch.device("cpu")
CONFIG = resolve({"method": "plain", "backbone": "wrn10-1"})
State = dict[str, torch.Tensor]
Harm = Callable[[bytes, random.Random], bytes]


def flipped(content: bytes, draw: random.Random) -> bytes:
    harmed = bytearray(content)
    for _ in range(draw.randint(1, 5)):
        harmed[draw.randrange(len(harmed))] ^= 1 << draw.randrange(8)
    return bytes(harmed)


def zeroed(content: bytes, draw: random.Random) -> bytes:
    start, size = draw.randrange(len(content)), draw.choice([16, 512, 4096])
    return (content[:start] + bytes(size) + content[start + size :])[: len(content)]


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def swapped(content: bytes, draw: random.Random) -> bytes:
    """Two blocks in each other's place."""
    size = draw.choice([16, 512, 4096])
    one, other = sorted(draw.sample(range(0, len(content) - size, size), 2))
    blocks = (content[other : other + size], content[one + size : other], content[one : one + size])
    return content[:one] + b"".join(blocks) + content[other + size :]


def longer(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content))
    return content[:place] + draw.randbytes(draw.randint(1, 100)) + content[place:]


def in_its_directory(content: bytes, draw: random.Random) -> bytes:
    """A bit of what says where the parts lie: at the end, and before each part."""
    places = [i for i in range(len(content) - 4) if content[i : i + 4] in (b"PK\3\4", b"PK\1\2", b"PK\5\6")]
    harmed = bytearray(content)
    harmed[min(draw.choice(places) + draw.randrange(46), len(harmed) - 1)] ^= 1 << draw.randrange(8)
    return bytes(harmed)


def noise(content: bytes, draw: random.Random) -> bytes:
    return draw.randbytes(draw.choice([0, 1, 100, len(content)]))


def saved(change: Callable[[State, str, random.Random], object]) -> Harm:
    """One of the tensors changed, and all saved anew."""

    def harm(content: bytes, draw: random.Random) -> bytes:
        state = torch.load(io.BytesIO(content), weights_only=True)
        name = draw.choice([n for n, tensor in state.items() if tensor.is_floating_point()])
        other = change(state, name, draw)
        file = io.BytesIO()
        torch.save(state if other is None else other, file)
        return file.getvalue()

    return harm


def not_finite(state: State, name: str, draw: random.Random) -> None:
    flat = state[name].view(-1)
    flat[draw.randrange(len(flat))] = draw.choice([torch.nan, torch.inf, -torch.inf])


def other_shape(state: State, name: str, draw: random.Random) -> object:
    without = {n: tensor for n, tensor in state.items() if n != name}
    others: list[object] = [
        without,
        {**without, f"{name}2": state[name]},
        {**without, name: state[name].double()},
        {**without, name: state[name].flatten()[None]},
        {**without, name: 0.5},
        list(state.values()),
        {name: Path("an object")},
    ]
    return draw.choice(others)


def other_numbers(state: State, name: str, draw: random.Random) -> None:
    state[name] += draw.choice([1e-6, 1.0])


IN_ITS_BYTES: dict[str, Harm] = {
    "1 to 5 bits flipped": flipped,
    "a block of zeros": zeroed,
    "cut short": cut,
    "two blocks swapped": swapped,
    "bytes put in": longer,
    "a bit of its directory": in_its_directory,
    "noise": noise,
    "saved anew, not finite": saved(not_finite),
    "saved anew, another shape": saved(other_shape),
}
ONLY_BY_DIGEST: dict[str, Harm] = {"saved anew, other numbers": saved(other_numbers)}


def outcome(read: Callable[[], State], exact: State) -> str:
    try:
        found = read()
    except WeightsError as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    except Exception as error:
        return f"ended by {type(error).__name__}"
    equal = found.keys() == exact.keys() and all(torch.equal(found[name], exact[name]) for name in exact)
    return "same numbers" if equal else "OTHER NUMBERS"


def read_as_teacher(kept: Folder, data: TrialData, scratch: Path) -> State:
    content = kept_weights(kept, "identity")
    if content is None:
        raise WeightsError("missing or damaged")
    scratch.write_bytes(content)
    return dict(read_weights(CONFIG, data, scratch, CPU).state_dict())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_weights", description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    torch.manual_seed(args.seed)
    data = build(CONFIG, Path())
    harms = {**IN_ITS_BYTES, **ONLY_BY_DIGEST}
    found: dict[tuple[str, str], Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        file, kept = Path(folder) / "weights.pt", Folder.at(Path(folder) / "teachers")
        torch.save(network_of(CONFIG, len(data.classes), data.image_size).state_dict(), file)
        whole, exact = file.read_bytes(), torch.load(file, weights_only=True)
        keep_weights(file, kept, "identity")
        for number in range(args.files):
            kind = list(harms)[number % len(harms)]
            harmed = harms[kind](whole, draw)
            kept.write(io.BytesIO(harmed), "identity.pt")
            result = outcome(lambda: read_as_teacher(kept, data, Path(folder) / "taught.pt"), exact)
            found.setdefault((kind, "a teacher's"), Counter())[result] += 1
            if kind in IN_ITS_BYTES:
                file.write_bytes(harmed)
                result = outcome(lambda: dict(read_weights(CONFIG, data, file, CPU).state_dict()), exact)
                found.setdefault((kind, "a run's"), Counter())[result] += 1
    table = Table("harm", "read as", "files", "refused", "same numbers", "other numbers", "anything else")
    known = ("refused", "same numbers", "OTHER NUMBERS")
    for (kind, how), counts in found.items():
        rest = ", ".join(f"{count} {what}" for what, count in counts.items() if what not in known)
        table.add_row(kind, how, str(counts.total()), *(str(counts[what]) for what in known), rest or "0")
    Console(width=140).print(table)
    wrong = sum(counts["OTHER NUMBERS"] for counts in found.values())
    others = sum(counts.total() - sum(counts[what] for what in known) for counts in found.values())
    print(f"{args.files} harmed files: {wrong} read with other numbers, {others} ended in anything but one line")
    return 1 if wrong or others else 0


if __name__ == "__main__":
    sys.exit(main())
