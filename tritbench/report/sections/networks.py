"""Inside the networks: their layers, their first weights as pictures, the images that flipped."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tritbench.report import charts
from tritbench.report.answer import minus
from tritbench.report.blocks import Chart, Gallery, Panel, Picture, Section, Table
from tritbench.report.chart_data import mode_names
from tritbench.report.flips import Flip, Flips
from tritbench.report.networks import FirstLayer, LayerFacts, Networks
from tritbench.report.pictures import image_png, trits_png
from tritbench.report.summary import MODE_NAMES

# Of a layer: heading of the column, field, format on the axis, format in text.
LAYER_COLUMNS = (
    ("zeros", "zeros", ".0%", "{:.1%}"),
    ("bits a weight", "bits", ".2f", "{:.3f}"),
    ("relative error", "error", ".2f", "{:.3f}"),
)


def layers_section(networks: Networks) -> Section | None:
    """Zeros, bits and error of each layer."""
    layers = networks.layers
    if not layers:
        return None
    modes = mode_names([layer.mode for layer in layers])
    table = Table(
        "Layers",
        [
            "model",
            "mode",
            "layer",
            "kind",
            "weights",
            "zeros",
            "bits a weight",
            "entropy",
            "relative error",
        ],
        [
            [
                *(layer.model, MODE_NAMES[layer.mode], layer.name, layer.kind),
                f"{layer.weights:,}",
                *(f"{layer.zeros:.1%}", f"{layer.bits:.3f}", f"{layer.entropy:.3f}"),
                f"{layer.error:.3f}",
            ]
            for layer in layers
        ],
        names=4,
    )
    names = list(dict.fromkeys(_place(layer) for layer in layers))
    panels = []
    for title, field, axis, form in LAYER_COLUMNS:
        rows = [
            {"name": _place(layer), "mode": MODE_NAMES[layer.mode]}
            | {field: getattr(layer, field), "text": form.format(getattr(layer, field))}
            for layer in layers
        ]
        read = ", ".join(f"{row['name']} {row['mode']} {row['text']}" for row in rows)
        chart = charts.strip(title, field, names, modes, axis)
        label = f"{title.capitalize()} of each layer: {read}."
        panels.append(
            Panel(title.capitalize(), rows, label, spec=charts.for_page(chart, 30 * len(names)))
        )
    lead = (
        "Bits are of the packed weights; their entropy is what the best code would take. The error "
        "is the norm of the difference to the FP32 weights over theirs, BatchNorm folded into "
        "both: large where a method follows a layer's outputs, or trains on, not the weights."
    )
    chart = Chart("Layer by layer", {}, panels, [table], modes=modes)
    return Section("layers", "Layers", lead, [chart])


def _place(layer: LayerFacts) -> str:
    return f"{layer.model} {layer.name.split(' ')[0].rstrip(':')} {layer.name.split(' ')[1]}"


def weights_section(networks: Networks) -> Section | None:
    """The weights that see the image, a picture for each unit."""
    galleries = [_weights(layer) for layer in networks.first_layers]
    if not galleries:
        return None
    lead = (
        "A pixel's weight in its place in the image: +1 speaks for the class or unit, −1 against "
        "it, and 0 is left out."
    )
    return Section("weights", "Learned weights", lead, galleries)


def _weights(layer: FirstLayer) -> Gallery:
    pictures = []
    for name, trits in zip(layer.names, layer.trits, strict=True):
        plus, less = (int((trits == sign).sum()) for sign in (1, -1))
        label = f"{layer.model} {MODE_NAMES[layer.mode]}, weights of {name}: {plus} are +1, "
        pictures.append(Picture(trits_png(trits), f"{label}{less} are −1.", [name]))
    shown = len(pictures)
    title = f"{layer.model}, {MODE_NAMES[layer.mode]}"
    note = "" if shown == layer.outputs else f"The first {shown} of {layer.outputs} units."
    return Gallery(title, pictures, note, trits=True)


def flips_section(
    flips: Sequence[Flips], images: NDArray[np.uint8], classes: Sequence[str]
) -> Section | None:
    """Test images that a ternary network gets wrong and FP32 right, worst first.

    Args:
        flips: of each model and ternary mode.
        images: the test split, shown where it is uint8 [n, 1 or 3, height, width].
        classes: a name for each class.
    """
    if not flips:
        return None
    are_images = images.dtype == np.uint8 and images.ndim == 4 and images.shape[1] in (1, 3)
    blocks = [_flips(each, images, classes) for each in flips] if are_images else []
    table = Table(
        "Images that changed sides",
        ["model", "mode", "lost", "won", "balance"],
        [
            [f.model, MODE_NAMES[f.mode], str(f.lost), str(f.won), minus(f"{f.won - f.lost:+d}")]
            for f in flips
        ],
    )
    lead = (
        f"Of {len(images):,} test images. Lost: FP32 names the right class and the ternary network "
        "does not. Won: the other way round. Those shown are lost, first the one whose right class "
        "fell most in probability."
    )
    return Section("flips", "Flipped images", lead, [table, *blocks])


def _flips(flips: Flips, images: NDArray[np.uint8], classes: Sequence[str]) -> Gallery:
    mode = MODE_NAMES[flips.mode]
    pictures = [
        Picture(image_png(images[flip.index]), _described(flip, mode, classes), lines)
        for flip in flips.worst
        for lines in [
            [
                classes[flip.actual],
                f"FP32 {flip.before_probability:.0%}",
                f"{mode}: {classes[flip.after]} {flip.after_probability:.0%}",
            ]
        ]
    ]
    title = f"{flips.model}, {mode}: {flips.lost} lost, {flips.won} won"
    return Gallery(title, pictures, "" if pictures else "None was lost.")


def _described(flip: Flip, mode: str, classes: Sequence[str]) -> str:
    return (
        f"Test image {flip.index}, {classes[flip.actual]}: FP32 gives it "
        f"{flip.before_probability:.0%}, {mode} gives {classes[flip.after]} "
        f"{flip.after_probability:.0%}."
    )
