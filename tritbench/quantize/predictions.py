"""Following the float network's predictions p: less KL(p || softmax(logits)), without labels."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from tritbench.graph.graph import Graph, Node, Value
from tritbench.graph.interpret import execute, run
from tritbench.graph.passes import section
from tritbench.quantize.kept import HalfWeight, IntegerWeight
from tritbench.quantize.progress import progress
from tritbench.quantize.ternary import Quantized, TernaryWeight

IMAGES = 8192  # that scales, biases and second derivatives are fitted on, at most
BATCH = 512
ROUNDS = 600  # of trit changes in the last layer, at most
HESSIANS = 2**24  # values in the last layer's, one a class: 64 MB, and some seconds to take
CHANGES = 8  # of one trit or two that a class makes in a round, at first
REFIT = 50  # changes between two fits of scales and bias
PAIRED = 128  # most promising changes that are tried in pairs


def descend_on_predictions(
    inputs: Tensor, ternary: TernaryWeight, bias: Tensor, predictions: Tensor
) -> TernaryWeight:
    """Change trits of a last Linear while the predictions come closer to p.

    Each round takes for every class the most promising changes by the second-order expansion of
    the cross-entropy, and keeps them if the cross-entropy falls; if it does not, fewer classes
    change at once, then fewer trits. Scales and bias are fitted in between.

    Args:
        inputs: float32 [n, in].
        ternary: weight [classes, in].
        bias: float32 [classes].
        predictions: p, float32 [n, classes].
    """
    subset, variance = inputs[:IMAGES], (predictions * (1 - predictions))[:IMAGES]
    across = inputs.T.contiguous()  # the images of an input side by side: a round changes few
    columns: Tensor | None = None
    changes, since_fit = CHANGES, REFIT
    for _ in progress(range(ROUNDS), "descent on predictions", "round"):
        if since_fit >= REFIT:
            since_fit = 0
            ternary, bias = _fit_last(inputs, ternary, bias, predictions)
            trits, scales = ternary.trits.float(), ternary.scales()
            logits = F.linear(inputs, trits * scales, bias)
            best = _cross_entropy(logits, predictions)
        slope = (across @ (logits.softmax(1) - predictions)).T / len(inputs)
        if columns is None:
            columns = _promising(subset, variance, trits, scales, slope)
            hessians = _hessians(subset, variance, columns)
        part, sizes, slope = (m.gather(1, columns) for m in (trits, scales, slope))
        promised = torch.zeros(len(trits))
        for _ in range(changes):
            promised += _change_best(part, sizes, slope, hessians)
        changed = trits.scatter(1, columns, part)
        chosen = (changed != trits).any(0)
        moved = across[chosen].T @ ((changed - trits) * scales)[:, chosen].T
        order = promised.argsort(stable=True)
        count = int((promised < 0).sum())
        while count > 0:
            rows = order[:count]
            tried = logits.clone()
            tried[:, rows] += moved[:, rows]
            loss = _cross_entropy(tried, predictions)
            if loss < best:
                break
            count //= 2
        if count > 0:
            trits[rows] = changed[rows]
            ternary = dataclasses.replace(ternary, trits=trits.to(torch.int8))
            logits, best = tried, loss
            since_fit += changes
        elif changes > 1:
            changes //= 2
        elif since_fit > 0:
            since_fit = REFIT
        else:
            break
    return ternary


def _promising(
    inputs: Tensor, variance: Tensor, trits: Tensor, scales: Tensor, slope: Tensor
) -> Tensor:
    """Each class's inputs to change the trits of, [classes, at most in], in ascending order.

    All of them, where the classes' Hessians are then within `HESSIANS` values; else those at which
    one trit more or less promises most.
    """
    classes, width = trits.shape
    count = max(1, isqrt(HESSIANS // classes))
    if count >= width:
        return torch.arange(width).expand(classes, -1)
    curvature = variance.T @ inputs.square() / len(inputs)
    return _gains(curvature, trits, scales, slope).amin(1).topk(count, largest=False)[1].sort()[0]


def _hessians(inputs: Tensor, variance: Tensor, columns: Tensor) -> Tensor:
    """Of the loss for the weights of each class at its columns: [classes, columns, columns]."""
    found = torch.empty(*columns.shape, columns.shape[1])
    for hessian, chosen, share in zip(found, columns, variance.T, strict=True):
        some = inputs[:, chosen]
        torch.mm((some * share[:, None]).T, some, out=hessian)
    return found.div_(len(inputs))


def _gains(curvature: Tensor, trits: Tensor, scales: Tensor, slope: Tensor) -> Tensor:
    """What one trit more, and one less, changes in the loss: [classes, 2, in]."""
    bend = curvature * scales.square() / 2
    gains = torch.stack([bend + slope * scales, bend - slope * scales], 1)
    gains[torch.stack([trits > 0, trits < 0], 1)] = torch.inf
    return gains


def _change_best(trits: Tensor, scales: Tensor, slope: Tensor, hessians: Tensor) -> Tensor:
    """Change in every class the one or two trits that promise most, and `slope` with them.

    Args:
        trits, scales: float32 [classes, in]; the trits change in place.
        slope: of the loss for each weight [classes, in]; changes in place.
        hessians: of the loss for each class's weights [classes, in, in].

    Returns:
        the change of the loss for each class, at most 0.
    """
    classes, width = trits.shape
    every = torch.arange(classes)
    gains = _gains(hessians.diagonal(dim1=1, dim2=2), trits, scales, slope).flatten(1)
    gain, move = gains.topk(min(PAIRED, 2 * width), 1, largest=False)
    column, sign = move % width, torch.where(move < width, 1.0, -1.0)
    step = sign * scales.gather(1, column)
    mixed = hessians[every[:, None, None], column[:, :, None], column[:, None, :]]
    both = gain[:, :, None] + gain[:, None, :] + step[:, :, None] * step[:, None, :] * mixed
    both[column[:, :, None] == column[:, None, :]] = torch.inf
    both.diagonal(dim1=1, dim2=2).copy_(gain)  # a pair of one with itself is the one
    promised, pair = both.flatten(1).min(1)
    first, second = pair // both.shape[2], pair % both.shape[2]
    for chosen, takes_part in ((first, promised < 0), (second, (promised < 0) & (first != second))):
        at = column[every, chosen]
        trits[every, at] += sign[every, chosen] * takes_part
        slope += hessians[every, at] * (step[every, chosen] * takes_part)[:, None]
    return promised.clamp(max=0)


def _fit_last(
    inputs: Tensor, ternary: TernaryWeight, bias: Tensor, predictions: Tensor
) -> tuple[TernaryWeight, Tensor]:
    """Scales and bias of a last linear layer."""
    classes, width = ternary.trits.shape
    layer = Node("logits", "linear", ("x", "weight", "bias"), {}, (-1, classes))
    parameters = {"weight": ternary.dequantize().numpy(), "bias": bias.numpy()}
    graph = Graph({"x": Value((-1, width))}, (layer,), "logits", parameters)
    fitted = match_predictions(
        Quantized(graph, {"weight": ternary}), 0, inputs, predictions, steps=10
    )
    return fitted.ternary["weight"], torch.from_numpy(fitted.graph.parameters["bias"])


def dense_end(graph: Graph) -> int | None:
    """Where the dense layers begin that the network ends in, as the index of a node.

    They take and give [n, features], nothing else leads to the logits, and the last one's weight is
    not another's; None where the network does not end so.
    """
    weights, last, found = graph.weights(), graph.nodes[-1], None
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    if last.op != "linear" or last.name != graph.output or uses[last.inputs[1]] > 1:
        return None
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        if node.op in ("conv1d", "conv2d") or (node.op == "linear" and len(node.shape) > 2):
            break
        if node.op == "linear" and str(node.inputs[1]) in weights:
            found = index if list(section(graph, index).inputs) == [node.inputs[0]] else found
    return found


def match_predictions(
    quantized: Quantized, start: int, inputs: Tensor, predictions: Tensor, steps: int = 25
) -> Quantized:
    """Fit scales, biases and affine parameters to the predictions, by L-BFGS; the trits stay.

    Args:
        quantized: its graph ends in logits.
        start: index of the first node to fit, whose first input is all that it and the later ones
            take from earlier nodes.
        inputs: this input, float32 [n, ...].
        predictions: p, float32 [n, classes].
        steps: of L-BFGS, at most.
    """
    inputs, predictions = inputs[:IMAGES], predictions[:IMAGES]
    end = section(quantized.graph, start)
    weights = {
        name: weight
        for name, weight in quantized.weights.items()
        if name in end.parameters and not isinstance(weight, HalfWeight)
    }
    gains = {name: torch.ones_like(weight.scale) for name, weight in weights.items()}
    kept = {name: torch.tensor(end.parameters[name]) for name in affine_names(end)}
    floats = {n: torch.from_numpy(array) for n, array in end.parameters.items()} | kept
    first = end.nodes[0]
    # What the first weight gives never changes.
    products = [
        execute(first, [batch, floats[str(first.inputs[1])], None], len(batch))
        for batch in inputs.split(BATCH)
    ]
    variables = [v.requires_grad_() for v in (*gains.values(), *kept.values())]
    optimizer = torch.optim.LBFGS(variables, max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        total = 0.0
        parts = zip(inputs.split(BATCH), products, predictions.split(BATCH), strict=True)
        for batch, product, wanted in parts:

            def operation(
                node: Node, taken: Sequence[Tensor | None], size: int, product: Tensor = product
            ) -> Tensor:
                name = str(node.inputs[1]) if len(node.inputs) > 1 else ""
                if name not in weights:
                    return execute(node, taken, size)
                known = product if node is first else None
                return _scaled_output(node, taken, weights[name], gains[name], known)

            with torch.enable_grad():
                logits = run(end, batch, parameters=floats, operation=operation)
                part = F.cross_entropy(logits, wanted, reduction="sum") / len(inputs)
                part.backward()
            total += part.item()
        return total

    optimizer.step(loss)
    fitted = {
        name: dataclasses.replace(weight, scale=(weight.scale * gains[name]).detach())
        for name, weight in weights.items()
    }
    changed = {name: value.detach() for name, value in kept.items()}
    changed |= {name: weight.dequantize() for name, weight in fitted.items()}
    parameters = dict(quantized.graph.parameters) | {n: t.numpy() for n, t in changed.items()}
    graph = dataclasses.replace(quantized.graph, parameters=parameters)
    return Quantized(graph, {**quantized.weights, **fitted})


def affine_names(graph: Graph) -> list[str]:
    """Biases, and the gains and shifts of normalizations."""
    places = {"batch_norm": (1, 3), "layer_norm": (1, 3), "group_norm": (1, 3)}
    places |= {"linear": (2, 3), "conv1d": (2, 3), "conv2d": (2, 3)}
    names = [n for node in graph.nodes for n in node.inputs[slice(*places.get(node.op, (0, 0)))]]
    return [name for name in dict.fromkeys(names) if name is not None and name in graph.parameters]


def _scaled_output(
    node: Node,
    taken: Sequence[Tensor | None],
    weight: TernaryWeight | IntegerWeight,
    gain: Tensor,
    product: Tensor | None,
) -> Tensor:
    """Of a linear or a convolution whose scales are multiplied with `gain`, float32 [rows, groups].

    Where a row has one scale, its gain is one of the output, and the weight needs no gradient.

    Args:
        node: the operation.
        taken: its input, the dequantized weight and the bias or None.
        weight: the quantized one.
        gain: of its scales.
        product: the output for a gain of 1 and without bias, where it is known.
    """
    x, dequantized, bias = taken
    if gain.shape[1] > 1:
        scaled = dataclasses.replace(weight, scale=weight.scale * gain)
        return execute(node, [x, scaled.dequantize(), bias], 1)
    product = execute(node, [x, dequantized, None], 1) if product is None else product
    channels = [-1, *[1] * (0 if node.op == "linear" else product.dim() - 2)]
    product = product * gain.view(channels)
    return product if bias is None else product + bias.view(channels)


def _cross_entropy(logits: Tensor, predictions: Tensor) -> float:
    return float(F.cross_entropy(logits, predictions))
