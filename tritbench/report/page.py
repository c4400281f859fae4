"""benchmarks/report.html: one file that needs no network."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tritbench.report import answer, network_sections, result_sections
from tritbench.report.blocks import TEMPLATES, Chart, Section, css_color
from tritbench.report.charts import COLORS, DARK, SHAPES
from tritbench.report.evidence import Evidence
from tritbench.report.figures import vega_script
from tritbench.report.result_sections import method
from tritbench.report.runs import Results
from tritbench.report.summary import advice


def page_html(found: Results, evidence: Evidence, title: str) -> str:
    """The whole page; the same results give the same bytes.

    Args:
        found: as `read_results` returns them.
        evidence: what else the page shows of the same run.
        title: the report's.
    """
    sections = [
        result_sections.trade_off_section(found),
        result_sections.speed_section(found),
        result_sections.results_section(found),
        result_sections.seeds_section(evidence.seeds),
        result_sections.peers_section(found),
        network_sections.confusion_section(found),
        network_sections.flips_section(evidence.flips, evidence.images, evidence.classes),
        network_sections.weights_section(evidence.networks),
        network_sections.layers_section(evidence.networks),
        network_sections.sweep_section(found),
        network_sections.sweeps_section(evidence.sweeps),
        network_sections.training_section(found),
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
