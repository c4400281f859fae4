"""Numbers, tables and labels as text; the standard library alone, for `tritbench inspect`."""

from collections.abc import Callable, Collection, Sequence

PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _-.,()@×%")


def aligned(rows: Sequence[Sequence[str]], left: Collection[int] = (0, 1)) -> list[str]:
    """Lines of a table; the columns `left` are words, the others figures.

    >>> aligned([["a", "b", "1"], ["cc", "d", "10"]])
    ['a   b   1', 'cc  d  10']
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def quoted(*lines: str) -> str:
    """A Mermaid label in quotes; whatever could be syntax there becomes a character code.

    >>> quoted('a "b"', "c")
    '"a #34;b#34;<br/>c"'
    """
    return f'"{"<br/>".join(_escaped(line) for line in lines)}"'


def _escaped(text: str) -> str:
    text = " ".join(text.split())
    return "".join(char if char in PLAIN else f"#{ord(char)};" for char in text)


NOTHING = "–"


def percent(share: float) -> str:
    """A share in percent, to the hundredth: one image of a 10,000-image test split.

    >>> percent(0.8912)
    '89.12%'
    """
    return f"{100 * share:.2f}%"


def seconds(value: float | None) -> str:
    """A duration with three significant digits; a dash where there is none.

    >>> seconds(0.0000123), seconds(0.0456), seconds(1.5), seconds(0.00099996)
    ('12.3 µs', '45.6 ms', '1.50 s', '1.00 ms')
    """
    if value is None:
        return NOTHING
    for unit, scale in (("µs", 1e6), ("ms", 1e3)):
        if value * scale < 999.5:
            return f"{_three_digits(value * scale)} {unit}"
    return f"{_three_digits(value)} s"


def size(count: int) -> str:
    """Bytes, in units of 1000.

    >>> size(980), size(31_400), size(2_678_824)
    ('980 bytes', '31.4 KB', '2.68 MB')
    """
    if count < 1000:
        return f"{count} bytes"
    unit, scale = ("KB", 1e3) if count < 999_500 else ("MB", 1e6)
    return f"{_three_digits(count / scale)} {unit}"


def times(factor: float | None) -> str:
    """A ratio; a dash where there is none.

    >>> times(15.62), times(0.456)
    ('15.6×', '0.456×')
    """
    return NOTHING if factor is None else f"{_three_digits(factor)}×"


def within(low: float | None, high: float | None) -> str:
    """The interval of a ratio, to stand after it; nothing where there is none."""
    if low is None or high is None:
        return ""
    return f" [{_three_digits(low)}, {_three_digits(high)}]"


def _three_digits(value: float) -> str:
    decimals = 3 if value < 0.9995 else 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f}"


def escape_markdown(text: str) -> str:
    """Text as it is, wherever it stands in Markdown: in a table, as a heading.

    >>> escape_markdown("<b>|x_1")
    '&lt;b&gt;\\\\|x\\\\_1'
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{char}" if char in "\\`*_[]#|~$" else char for char in text)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose first two columns are names and whose others are figures."""
    return [
        _markdown_row(header, escape_markdown),
        _markdown_row([":--"] * 2 + ["--:"] * (len(header) - 2), str),
        *(_markdown_row(row, escape_markdown) for row in rows),
    ]


def _markdown_row(cells: Sequence[str], escape: Callable[[str], str]) -> str:
    return f"| {' | '.join(escape(cell) for cell in cells)} |"
