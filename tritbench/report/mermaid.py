"""docs/diagrams/benchmarks.mermaid.md: the pipeline with the numbers it measured."""

from collections.abc import Sequence

from tritbench.report.plain import quoted
from tritbench.report.runs import Run
from tritbench.report.summary import (
    MODE_NAMES,
    by_model_and_mode,
    escape_markdown,
    percent,
    size,
    times,
)

STAGES = {"fp32": "train_fp32", "ptq": "quantize_ptq", "qat": "train_qat"}


def mermaid_markdown(runs: Sequence[Run], title: str) -> str:
    """The flowchart and the bar chart of test accuracy, each in a ```mermaid fence."""
    dataset = runs[0].dataset
    lines = [
        f"# {escape_markdown(title)}: {escape_markdown(dataset)}",
        "",
        "Written by the `report` stage from `benchmarks/quantization_runs.csv`. Accuracies are of "
        f"the test split of {escape_markdown(dataset)}, sizes of the stored weights, speed-ups "
        f"against FP32 on one machine ({escape_markdown(runs[0].machine)}).",
        "",
        "```mermaid",
        *_flowchart(runs),
        "```",
        "",
        "```mermaid",
        *_bar_chart(runs),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _flowchart(runs: Sequence[Run]) -> list[str]:
    lines = [
        "flowchart LR",
        f"    download[({quoted('download', runs[0].dataset)})]",
        f"    evaluate[{quoted('evaluate')}]",
        f"    report[{quoted('report')}]",
    ]
    models = list(dict.fromkeys(run.model for run in runs))
    for number, model in enumerate(models):
        # Numbered ids: a model named `end` would end the subgraph.
        lines += [f"    subgraph model{number}[{quoted(model)}]"]
        groups = [group for group in by_model_and_mode(runs) if group[0].model == model]
        for group in groups:
            lines.append(f"        {_node(number, group[0].mode)}[{_label(group)}]")
        for mode in (group[0].mode for group in groups if group[0].mode != "fp32"):
            lines.append(f"        {_node(number, 'fp32')} --> {_node(number, mode)}")
        lines += ["    end", f"    download --> {_node(number, 'fp32')}"]
        lines += [f"    {_node(number, group[0].mode)} --> evaluate" for group in groups]
    return [*lines, "    evaluate --> report"]


def _node(number: int, mode: str) -> str:
    return f"model{number}_{mode}"


def _label(group: Sequence[Run]) -> str:
    run = group[0]
    lines = [f"{STAGES[run.mode]}@{run.model}", f"{percent(run.test_accuracy)} test accuracy"]
    if run.mode == "fp32":
        return quoted(*lines, size(run.bytes))
    timed = [other for other in group if other.speedup is not None]
    speedups = (f"{times(other.speedup)} as fast, batch {other.batch_size}" for other in timed)
    return quoted(*lines, f"{size(run.bytes)}, {times(run.compression)} smaller", *speedups)


def _bar_chart(runs: Sequence[Run]) -> list[str]:
    firsts = [group[0] for group in by_model_and_mode(runs)]
    names = ", ".join(quoted(f"{run.model} {MODE_NAMES[run.mode]}") for run in firsts)
    return [
        # Horizontal: nine names do not fit side by side.
        "xychart-beta horizontal",
        f"    title {quoted(f'Test accuracy on {runs[0].dataset}')}",
        f"    x-axis [{names}]",
        f"    y-axis {quoted('test accuracy (%)')} 0 --> 100",
        f"    bar [{', '.join(f'{100 * run.test_accuracy:.2f}' for run in firsts)}]",
    ]
