"""benchmarks/report.html: one file that needs no network."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tritbench.data.description import TEST_IMAGES, read_description
from tritbench.report import answer
from tritbench.report.blocks import Chart, Section
from tritbench.report.charts import COLORS, DARK, SHAPES
from tritbench.report.flips import Flips, read_flips
from tritbench.report.networks import Networks, examine
from tritbench.report.pictures import css_color
from tritbench.report.runs import Results
from tritbench.report.sections import classes, costs, networks, results, sweeps, training
from tritbench.report.sections.method import method
from tritbench.report.seeds import Summary, read_summaries
from tritbench.report.summary import advice
from tritbench.report.sweeps import SweepResult, read_sweep_csv
from tritbench.report.templates import TEMPLATES
from tritbench.report.vega import vega_script


@dataclass(frozen=True)
class Evidence:
    """What the page shows beside the tables.

    Attributes:
        networks: what the model files hold.
        flips: which test images changed sides.
        images: the test images, uint8 [n, channels, height, width].
        classes: their names.
        dataset: as params.yaml names it.
        hashes: file and digest.
        sweeps: on this data set, by name.
        seeds: what methods give over several seeds, on this data set.
    """

    networks: Networks
    flips: Sequence[Flips]
    images: NDArray[np.uint8]
    classes: Sequence[str]
    dataset: str
    hashes: list[tuple[str, str]]
    sweeps: Mapping[str, SweepResult]
    seeds: Sequence[Summary]


def read_evidence(
    results: Results, models: Path, data: Path, benchmarks: Path, sweeps: Path, dataset: str
) -> Evidence:
    """Read the artifacts, the test images and the predictions that `results` are of.

    Args:
        results: as `read_results` returns them.
        models: folder of the artifacts.
        data: folder of the data set.
        benchmarks: folder of `predictions.npz`, and of `methods_raw.csv` where it is there.
        sweeps: folder of what `tritbench sweep` wrote.
        dataset: as params.yaml names it.

    Raises:
        TritbenchError: naming a file that is missing or damaged.
    """
    pairs = list(dict.fromkeys((run.model, run.mode) for run in results.runs))
    ternary = [pair for pair in pairs if pair[1] != "fp32"]
    about = read_description(data)
    files = [
        models / model / f"{mode}.{'safetensors' if mode == 'fp32' else 'trit'}"
        for model, mode in pairs
    ]
    hashes = [(f"{path}", f"MD5 {_md5(path)}") for path in files]
    hashes += [(f"{data / name}", f"SHA-256 {digest}") for name, digest in about.sha256.items()]
    swept = {path.stem: read_sweep_csv(path) for path in sorted(sweeps.glob("*.csv"))}
    return Evidence(
        examine(models, results.models, list(dict.fromkeys(mode for _, mode in ternary))),
        read_flips(benchmarks / "predictions.npz", ternary),
        np.load(data / TEST_IMAGES, "r", allow_pickle=False),
        about.classes,
        dataset,
        hashes,
        {
            name: sweep
            for name, sweep in swept.items()
            if sweep.rows and sweep.rows[0]["dataset"] == results.runs[0].dataset
        },
        read_summaries(benchmarks / "methods_raw.csv", results.models, results.runs[0].dataset),
    )


def _md5(path: Path) -> str:
    """As dvc.lock has it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def page_html(found: Results, evidence: Evidence, title: str) -> str:
    """The whole page; the same results give the same bytes.

    Args:
        found: as `read_results` returns them.
        evidence: what else the page shows of the same run.
        title: the report's.
    """
    sections = [
        costs.trade_off_section(found),
        costs.speed_section(found),
        results.results_section(found),
        results.seeds_section(evidence.seeds),
        results.peers_section(found),
        classes.confusion_section(found),
        networks.flips_section(evidence.flips, evidence.images, evidence.classes),
        networks.weights_section(evidence.networks),
        networks.layers_section(evidence.networks),
        training.sweep_section(found),
        sweeps.sweeps_section(evidence.sweeps),
        training.training_section(found),
    ]
    shown = [section for section in sections if section is not None]
    return TEMPLATES.get_template("page.html").render(
        title=title,
        dataset=found.runs[0].dataset,
        run=found.runs[0],
        machine=found.machine,
        sentence=answer.sentence(found),
        figures=answer.figures(found, evidence.seeds),
        cards=answer.cards(found),
        advice=advice(found.runs),
        sections=shown,
        charts=_charts(shown),
        method=method(found, evidence.hashes, evidence.dataset),
        colors=COLORS,
        dark=DARK,
        shapes=SHAPES,
        trits=[("+1", css_color(1)), ("0", "transparent"), ("−1", css_color(-1))],
        vega=vega_script(),
    )


def _charts(sections: Sequence[Section]) -> Mapping[str, Any]:
    """What the script draws: by section and place in it, `spec` and `panels`."""
    return {
        f"{section.id}-{number}": {
            "spec": block.spec,
            "panels": [asdict(panel) for panel in block.panels],
        }
        for section in sections
        for number, block in enumerate(section.blocks)
        if isinstance(block, Chart)
    }
