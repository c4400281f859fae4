"""Many experiments from one file: planned here, run by DVC's queue or by Ray, and put together."""
