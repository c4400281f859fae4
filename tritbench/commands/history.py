"""`tritbench history`: every run that git and DVC remember."""

import sys
from pathlib import Path

from tritbench.errors import TritbenchError
from tritbench.files import write_atomic
from tritbench.measure.machine import fingerprint
from tritbench.report.history import HEADER, collect, history_csv, history_html, history_rows
from tritbench.report.text import aligned


def run(csv: Path | None, html: Path | None) -> None:
    """Print the table; write it as CSV and as a page with a figure where asked to.

    Revisions whose results cannot be read are named on stderr.

    Raises:
        TritbenchError: where there are no runs.
    """
    entries, problems = collect(str(fingerprint()["id"]))
    for problem in problems:
        print(f"tritbench: left out: {problem}", file=sys.stderr)
    if not entries:
        raise TritbenchError("no runs in git's history, DVC's experiments or the workspace")
    print("\n".join(aligned([HEADER, *history_rows(entries)])))
    for path, content in ((csv, history_csv), (html, history_html)):
        if path is not None:
            write_atomic(path, content(entries))
            print(f"{path}: {len(entries)} rows", file=sys.stderr)
