"""The command that shows protocols and gets their images: python -m platform.protocols"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from platform.command import DONE, NOTHING_DONE, SOME_FAILED, add_data_root, command, consoles, new_parser, parsed
from platform.terminal.reading import ReadingBars
from trainables.data.sources import source_of
from trainables.images.layouts import labels_of
from trainables.images.listing import DataError
from trainables.protocols.protocols import (
    PROTOCOLS,
    evaluation_sets,
    known_classes,
    num_splits,
    part_of_set,
    partition,
    protocol_of,
)
from trainables.reading.yaml_file import nearest

SHOWN = 6  # files of a set, or classes, that a line names

EXAMPLES = """examples:
  python -m platform.protocols --data-root DATA
      every protocol: classes, images, split families, and how many of its images are under DATA
  python -m platform.protocols cifar10 --data-root DATA
      one of them, with each of its unknown sets and how to get what is missing; also a file of one's own
  python -m platform.protocols cifar10 --data-root DATA --download
      fetch what is missing of it and may be fetched by a program
  python -m platform.protocols cifar10 --data-root DATA --show cifar10.png
      a contact sheet: known images by class, then images of each unknown set that is there

exit codes: 0 done; 1 some sets could not be fetched; 2 no such protocol, or nothing to show"""


def main(argv: list[str] | None = None) -> int:
    args = parsed(_parser(), argv)
    console, errors = consoles()
    try:
        for name in args.protocols:
            protocol_of(name)
        if args.show and len(args.protocols) != 1:
            raise ValueError("--show is of one protocol: name it")
        failed = _download(args.protocols, args.data_root, console, errors) if args.download else 0
        if args.show:
            _show(args, console)
        elif args.protocols:
            for name in args.protocols:
                with errors.status(f"counting images of {escape(name)}"):
                    _print_one(name, args.data_root, console)
        else:
            with errors.status("counting images"):  # seconds, where sets of a million files are
                table = overview(args.data_root)
            console.print(table)
            for line in _how_to_get_all(args.data_root):
                console.print(escape(line), soft_wrap=True)
        return SOME_FAILED if failed else DONE
    except (ValueError, DataError, OSError) as error:
        errors.print(escape(str(error)), style="red")
        return NOTHING_DONE


def _parser() -> argparse.ArgumentParser:
    parser = new_parser(
        "platform.protocols",
        "Show protocols: classes, images, split families, and where their images come from.",
        EXAMPLES,
    )
    parser.add_argument("protocols", nargs="*", metavar="protocol", help="a name, or the file of one's own")
    add_data_root(parser)
    parser.add_argument("--download", action="store_true", help="fetch what is missing and may be fetched")
    parser.add_argument("--show", type=Path, metavar="PNG", help="write a contact sheet of one protocol")
    parser.add_argument("--split-family", metavar="FAMILY", help="for --show (default: the protocol's first)")
    parser.add_argument("--split", type=int, default=0, help="for --show (default: 0)")
    return parser


def overview(data_root: Path) -> Table:
    """A line for each protocol of the project."""
    table = Table(title=f"Protocols, with images under {escape(str(data_root))}", title_justify="left")
    for column in ("protocol", "px", "known / unknown", "images", "split families", "unknown sets", "here"):
        table.add_column(column, justify="right" if column == "px" else "left")
    for name in PROTOCOLS:
        entry = protocol_of(name)
        sets = list(dict.fromkeys(s for family in entry.families for s in evaluation_sets(name, family)))
        there = [s for s in sets if _is_there(part_of_set(name, s).images, "test", data_root)]
        own = [_there(entry.image_set, part, data_root) for part in ("train", "test")]
        here = " + ".join("?" if part.wrong else f"{part.images:,}" for part in own)
        table.add_row(
            name,
            str(entry.image_size),
            _classes(name),
            _published(entry.image_set),
            "\n".join(_families(name)),
            f"{len(there)} of {len(sets)} here",
            here if any(part.wrong or part.images for part in own) else "no",
            style="" if all(part.images for part in own) else "dim",
        )
    table.caption = (
        "images: published for training and test, and here: how many of them are, ? if they cannot be read. Equal "
        "partitions of one family count once in a test. A name after the command shows each set of that protocol."
    )
    return table


def _is_there(image_set: str, part: str, data_root: Path) -> bool:
    source = source_of(image_set)
    return source.layout(source.part(part), data_root) is not None


class There(NamedTuple):
    """What is under the data root of one part of an image set."""

    images: int
    lacking: tuple[int, ...]  # classes without an image
    wrong: str  # why it cannot be read as it is


def _there(image_set: str, part: str, data_root: Path) -> There:
    """Count without decoding an image."""
    source = source_of(image_set)
    part = source.part(part)
    nothing = tuple(range(source.num_classes))
    try:
        layout = source.layout(part, data_root)
        if layout is None:
            return There(0, nothing, "")
        labels = labels_of(layout, data_root, part)
    except DataError as error:
        return There(0, nothing, str(error))
    lacking = tuple(np.setdiff1d(nothing, labels).tolist())
    return There(len(labels), lacking, source.too_many(part, len(labels)) or ("" if len(labels) else "has no image"))


def _how_to_get_all(data_root: Path) -> Iterator[str]:
    """What is missing of all protocols: together what can be fetched, then what has to be got by hand."""
    wanted = dict.fromkeys((image_set, part) for name in PROTOCOLS for image_set, part, _ in _sets(name))
    missing = list(dict.fromkeys(s for s, part in wanted if not _is_there(s, part, data_root)))
    if fetched := [s for s in missing if source_of(s).fetcher]:
        yield f"--download fetches {', '.join(fetched)}"
    for image_set in missing:
        if image_set not in fetched:
            source = source_of(image_set)
            yield f"{image_set}: {source.how_to_get()}. {source.looked_for}"


def _classes(name: str) -> str:
    """How many classes are known and unknown, as every split of a family has them."""
    entry = protocol_of(name)
    counts = dict.fromkeys((len(known_classes(name, family, 0)), entry.num_classes) for family in entry.families)
    listed = [f"{known} / {every - known}" if every > known else f"{known} / other sets" for known, every in counts]
    if name == "cifar-plus":
        listed = ["4 / 10 or 50 of CIFAR-100"]
    return ", ".join(listed)


def _families(name: str) -> Iterator[str]:
    for family in protocol_of(name).families:
        count = num_splits(name, family)
        distinct = len({partition(name, family, split) for split in range(count)})
        splits = f"{count} splits" if count > 1 else "1 split"
        yield f"{family}: {splits}" + (f", {distinct} partitions" if distinct < count else "")


def _published(image_set: str) -> str:
    source = source_of(image_set)
    return " + ".join(f"{source.images[part]:,}" if source.images[part] else "?" for part in source.images)


def _print_one(name: str, data_root: Path, console: Console) -> None:
    entry = protocol_of(name)
    console.print(f"[bold]{escape(name)}[/bold]: {_classes(name)} classes, {entry.image_size} px", soft_wrap=True)
    for line in _families(name):
        console.print(f"  {line}")
    table = Table(show_header=True)
    for column in ("set", "for", "images here", "from"):
        table.add_column(column)
    for image_set, part, purpose in _sets(name):
        source = source_of(image_set)
        there = _there(image_set, part, data_root)
        published = source.images[source.part(part)]
        count = f"{there.images:,} of {published:,}" if published else f"{there.images:,}"
        if there.wrong and not there.images:
            count, place = "?", there.wrong
        elif not there.images:
            place = f"{source.how_to_get()}. {source.looked_for}"
        else:
            place = _place(image_set, part, data_root)
            if there.wrong:
                place += f" {there.wrong}"
            elif image_set == entry.image_set and (lacking := _lacking(name, part, there)):
                place += f"; {lacking}"
        table.add_row(escape(image_set), escape(purpose), count, escape(place))
    console.print(table)


def _place(image_set: str, part: str, data_root: Path) -> str:
    """The files or folders that a part is read from, as they are called under the data root."""
    source = source_of(image_set)
    part = source.part(part)
    layout = source.layout(part, data_root)
    assert layout is not None
    paths = layout.files(data_root, part)
    if not all(path.is_relative_to(data_root) for path in paths):  # comes with a library
        return layout.where
    names = [str(path.relative_to(data_root)) for path in paths]
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _lacking(protocol: str, part: str, there: There) -> str:
    """The classes that a protocol needs of its own set and that have no image: known ones to train, all to test."""
    entry = protocol_of(protocol)
    splits = ((family, split) for family in entry.families for split in range(num_splits(protocol, family)))
    known = {label for family, split in splits for label in known_classes(protocol, family, split)}
    lacking = [label for label in there.lacking if part == "test" or label in known]
    if not lacking:
        return ""
    classes = source_of(entry.image_set).classes
    names = [classes[label] if classes else str(label) for label in lacking]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"no image of {len(names)} of {entry.num_classes} classes: {', '.join(names[:SHOWN])}{more}"


def _sets(name: str) -> list[tuple[str, str, str]]:
    """Every image set of a protocol: its name, the part, and what it is for."""
    entry = protocol_of(name)
    found = {(entry.image_set, "train"): ["training"], (entry.image_set, "test"): ["known test"]}
    for family in entry.families:
        for unknown in evaluation_sets(name, family):
            purposes = found.setdefault((part_of_set(name, unknown).images, "test"), [])
            if unknown not in purposes:
                purposes.append(unknown)
    return [(image_set, part, ", ".join(purposes)) for (image_set, part), purposes in found.items()]


def _download(names: Sequence[str], data_root: Path, console: Console, errors: Console) -> int:
    """Fetch what is missing of these protocols, or of all; how many sets could not be."""
    wanted = dict.fromkeys((s, p) for name in names or PROTOCOLS for s, p, _ in _sets(name))
    missing = list(dict.fromkeys(s for s, p in wanted if not _is_there(s, p, data_root)))
    failed = 0
    for image_set in missing:
        source = source_of(image_set)
        if source.fetcher is None:
            console.print(f"{image_set}: {source.how_to_get()}", style="yellow", soft_wrap=True)
            continue
        console.print(f"fetching {image_set} …")
        try:
            source.fetch(data_root)
        except DataError as error:
            errors.print(escape(str(error)), style="red")
            failed += 1
    if not missing:
        console.print("nothing is missing")
    return failed


def _show(args: argparse.Namespace, console: Console) -> None:
    """A contact sheet: a line for each known class, and one for each unknown set that is there."""
    from platform.terminal.contact_sheet import contact_sheet

    name = args.protocols[0]
    entry = protocol_of(name)
    family = args.split_family or next(iter(entry.families))
    if family not in entry.families:
        raise ValueError(f"{name} has no split family {family!r}{nearest(family, entry.families)}")
    sets = evaluation_sets(name, family)
    there = [s for s in sets if _is_there(part_of_set(name, s).images, "test", args.data_root)]
    if not there:
        see = command("python", "-m", "platform.protocols", name)
        raise DataError(f"no unknown set of {name} is under {args.data_root}: see {see}")
    with ReadingBars(console) as reading:
        contact_sheet(name, family, args.split, there, args.data_root, args.show, reading)
    console.print(f"wrote {escape(str(args.show))}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
