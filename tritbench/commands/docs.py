"""`tritbench docs`: the figures in README.md, BENCHMARKS.md and docs/, from the results here."""

from pathlib import Path

from tritbench.report.documents import fill


def run() -> None:
    """Write them, and say which pages changed.

    Raises:
        TritbenchError: naming the page with figures that there are none of.
    """
    pages = [Path("README.md"), Path("BENCHMARKS.md"), *sorted(Path("docs").glob("*.md"))]
    changed = [str(page) for page in pages if page.exists() and fill(page)]
    print(f"docs: {', '.join(changed) or 'nothing to change'}")
