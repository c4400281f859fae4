"""Property tests draw the same examples at every run, and no test depends on the clock."""

from hypothesis import settings

settings.register_profile("tritbench", deadline=None, derandomize=True)
settings.load_profile("tritbench")
