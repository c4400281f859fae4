"""What a section of the page is made of: tables, charts and galleries, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tritbench.report.chart_data import Rows
from tritbench.report.charts import SPLITS

# Where there are more classes, a matrix would be unreadable and the page too large.
MOST_CLASSES = 30


@dataclass(frozen=True)
class Table:
    """Text cells; the first `names` columns say what a row is about, the others are numbers."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 2
    kind: str = "table"


@dataclass(frozen=True)
class Panel:
    """One drawing of a chart.

    Attributes:
        title: may be empty where the chart's says it all.
        rows: what is drawn.
        label: what is to be seen, for those who do not see it.
        caption: what to take from it, for all.
        spec: where the panel is not drawn as the chart's others.
    """

    title: str
    rows: Rows
    label: str
    caption: str = ""
    spec: dict[str, Any] | None = None


@dataclass(frozen=True)
class Chart:
    """The same Vega-Lite specification drawn for several panels, with the tables behind it.

    Attributes:
        title: of the whole.
        spec: without data.
        panels: side by side; with `views`, these alone, each in a place
            where the reader can choose another.
        tables: the same numbers.
        note: how to read it.
        modes: what colours and shapes the key explains.
        splits: whether the key explains solid and dashed lines.
    """

    title: str
    spec: dict[str, Any]
    panels: Sequence[Panel]
    tables: Sequence[Table]
    note: str = ""
    modes: Sequence[str] = ()
    splits: bool = False
    views: Sequence[int] = ()
    kind: str = "chart"

    @property
    def lines(self) -> Sequence[str]:
        """The kinds of lines that the key explains."""
        return list(SPLITS) if self.splits else ()


@dataclass(frozen=True)
class Picture:
    """A small picture: its data URI, what it shows in words, lines below it."""

    src: str
    alt: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Gallery:
    """Pictures in a row, with a heading."""

    title: str
    pictures: Sequence[Picture]
    note: str = ""
    trits: bool = False
    kind: str = "gallery"


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of its own and a place in the navigation."""

    id: str
    title: str
    lead: str
    blocks: Sequence[Table | Chart | Gallery] = field(default_factory=list)
