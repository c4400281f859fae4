"""Accuracy with intervals, latency, storage and the machine's fingerprint.

Empty on purpose: `machine` and `rows` must be importable without PyTorch.
"""
