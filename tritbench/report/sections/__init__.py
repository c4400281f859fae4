"""The sections of the page below its answer, from what was measured."""
