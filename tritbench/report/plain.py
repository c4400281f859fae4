"""Text for terminals and diagrams; the standard library alone, as `tritbench inspect` needs it."""

from collections.abc import Collection, Sequence

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
