"""A table as one HTML page that needs no network, and an index of all of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from platform.command import command
from platform.reports.forms import MARK, compared, counted, decimals, measured, notes, of_differences, published
from platform.reports.table import ReportTable, ReportTrial
from platform.tracking.reader import Reader
from trainables.reading.addresses import showable, without_user

_TEMPLATES = files(__package__) / "templates"
LEGEND = f"Below each: the paper's number, and measured − published; {MARK}: more than the spread explains (95 %)."
# Sentences that no reader may miss begin so.
SAID_FIRST = ("Profile ", "Changed by hand", "Recomputed", "Trained on ", "Tested on ", "Trials were tested")


@dataclass(frozen=True)
class Figure:
    """A drawn figure: `<name>.png` and the data behind it, `<name>.parquet`."""

    name: str
    caption: str
    png: Path

    @property
    def photographs(self) -> bool:
        """Whether it has images in their own colours, which a dark page must not turn round."""
        return self.name == "masks"

    @property
    def base64(self) -> str:
        return base64.b64encode(self.png.read_bytes()).decode()


@dataclass(frozen=True)
class Links:
    """Where the runs of a store are seen: the UI's address, and the command that starts it where none runs yet."""

    ui: str
    command: str
    reader: Reader | None

    @classmethod
    def of(cls, uri: str, reader: Reader | None, ui: str | None) -> Links:
        if ui:
            return cls(ui.rstrip("/"), "", reader)
        if uri.startswith("http"):
            return cls(without_user(uri).rstrip("/"), "", reader)
        shown = showable(uri)  # a page is for others to see
        return cls("http://127.0.0.1:5000", command("mlflow", "ui", "--backend-store-uri", shown), reader)

    def __call__(self, trial: ReportTrial) -> str:
        return self.ui + (self.reader.link(trial.run_id, trial.experiment) if self.reader else "")


def page(
    table: ReportTable,
    command: str,
    links: Links,
    figures: Sequence[Figure] = (),
    left_out: Mapping[str, str] | None = None,
    index: str = "",
) -> str:
    """The table, what was claimed of it, its figures, and behind every cell its runs. `left_out` says why a figure is
    not there; `command` fills the table, where anything does; `index` leads to the page of all tables."""
    digits, with_n = decimals(table), counted(table)
    environment = _environment()
    environment.filters |= {
        "measured": lambda cell: measured(cell, digits, with_n=with_n),
        "published": lambda cell: published(cell, digits),
        "link": links,
    }
    return environment.from_string(_read("table.html")).render(
        table=table,
        digits=digits,
        reduced=[said for said in table.caption if said.startswith(SAID_FIRST)],
        notes=[said for said in notes(table, LEGEND) if not said.startswith((*SAID_FIRST, "Differences "))],
        differences=of_differences(table),
        comparisons=[(one, compared(one, digits)) for one in table.comparisons],
        figures=figures,
        left_out=left_out or {},
        command=command,
        ui=links.ui,
        ui_command=links.command,
        style=Markup(_read("style.css")),
        index=index,
    )


def index_page(tables: Sequence[tuple[ReportTable, str]]) -> str:
    """All tables with the addresses of their pages, and how far each is."""
    entries: list[dict[str, Any]] = []
    for table, address in tables:
        counts = list(table.counts().values())
        entries.append({"table": table, "page": address, "counts": counts, "claims": _claims(table)})
    return _environment().from_string(_read("index.html")).render(entries=entries, style=Markup(_read("style.css")))


def _claims(table: ReportTable) -> str:
    """How many of the paper's claims hold, of those that our trials say something of."""
    verdicts = [one.verdict for one in table.comparisons if one.claim in table.spec.claims]
    judged = sum(verdict in ("holds", "reversed", "undecided", "smaller") for verdict in verdicts)
    if not judged:
        return f"none of {len(verdicts)} judged yet" if verdicts else ""
    rest = len(verdicts) - judged
    return f"{verdicts.count('holds')} of {judged}" + (f", {rest} not judged yet" if rest else "")


def _environment() -> Environment:
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
