"""The reference benchmark for ternary neural networks."""

__version__ = "0.1.0"
