"""What a section of the page is made of, tables, charts and galleries, as plain data; templates."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tritbench.report.charts import SPLITS, Rows

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


# RGB of -1, 0 and +1; 0 is transparent, so that it suits light and dark pages.
TRIT_COLORS = ((0xD5, 0x5E, 0x00), (0x80, 0x80, 0x80), (0x00, 0x72, 0xB2))


def image_png(pixels: NDArray[np.uint8]) -> str:
    """A data URI of uint8 [channels, height, width], gray (1) or RGB (3)."""
    gray_or_rgb = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    return _data_uri(Image.fromarray(np.ascontiguousarray(gray_or_rgb)))


def trits_png(trits: NDArray[np.int8]) -> str:
    """A data URI of int8 [height, width] in {-1, 0, +1}, in TRIT_COLORS."""
    picture = Image.fromarray((trits + 1).astype(np.uint8), mode="P")
    picture.putpalette([channel for color in TRIT_COLORS for channel in color])
    return _data_uri(picture, transparency=1, bits=2)


def css_color(trit: int) -> str:
    """The colour of -1, 0 or +1 as CSS writes it.

    >>> css_color(1)
    '#0072b2'
    """
    return f"#{bytes(TRIT_COLORS[trit + 1]).hex()}"


def _data_uri(picture: Image.Image, **options: Any) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, **options)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("tritbench.report", "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
