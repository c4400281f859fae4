"""From float weights to trits and scales: PTQ methods and QAT parametrizations."""

from tritbench.optional import explained

with explained():
    from tritbench.quantize.ptq import quantize_graph, quantize_ptq
    from tritbench.quantize.qat import check_schedule, train_qat, train_ternary
    from tritbench.quantize.ternary import Quantized, QuantizedChain, TernaryWeight
    from tritbench.quantize.trits import quantize_to_trits

__all__ = [
    "Quantized",
    "QuantizedChain",
    "TernaryWeight",
    "check_schedule",
    "quantize_graph",
    "quantize_ptq",
    "quantize_to_trits",
    "train_qat",
    "train_ternary",
]
