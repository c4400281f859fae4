"""Turn what `evaluate` and the training stages measured into a page, figures and tables."""

import sys
from pathlib import Path

from tritbench.errors import reported
from tritbench.files import write_atomic
from tritbench.measure.machine import fingerprint
from tritbench.params import load_params
from tritbench.report.evidence import read_evidence
from tritbench.report.figures import figures, mermaid_markdown, start_bundling
from tritbench.report.page import page_html
from tritbench.report.runs import read_results
from tritbench.report.summary import summary_markdown

BENCHMARKS = Path("benchmarks")
MODELS = Path("models")
SWEEPS = Path("sweeps")
DIAGRAM = Path("docs/diagrams/benchmarks.mermaid.md")


def main() -> None:
    """Write the outputs of the `report` stage."""
    params = load_params()
    title = params.report.title
    results = read_results(BENCHMARKS, params.models)
    start_bundling()  # needed last, and done beside the rest
    if results.machine.id != fingerprint()["id"]:
        print(f"report: latencies are of another machine, {results.machine.text}", file=sys.stderr)
    dataset = params.data.dataset
    data = params.data.folder
    evidence = read_evidence(results, MODELS, data, BENCHMARKS, SWEEPS, dataset)
    engine = results.engine or "not recorded"
    svgs = figures(results)
    outputs = {
        BENCHMARKS / "summary.md": summary_markdown(
            results.runs, results.machine, engine, title, results.peers
        ),
        BENCHMARKS / "report.html": page_html(results, evidence, title),
        DIAGRAM: mermaid_markdown(results.runs, title),
    }
    outputs |= {BENCHMARKS / "figures" / name: svg for name, svg in svgs.items()}
    for path, content in outputs.items():
        write_atomic(path, content)
    print(
        f"report: {results.runs[0].dataset}: {BENCHMARKS / 'report.html'}, "
        f"{BENCHMARKS / 'summary.md'}, {len(svgs)} figures, {DIAGRAM}"
    )


if __name__ == "__main__":
    with reported("report"):
        main()
