"""`python -m tritbench.runtime` says which engine runs ternary networks here."""

from tritbench import __version__
from tritbench.errors import reported
from tritbench.runtime import NATIVE, NOT_BUILT, available_isas, engine_build

if __name__ == "__main__":
    with reported("tritbench.runtime"):
        isas = ", ".join(available_isas())
        print(f"tritbench {__version__}: engine {isas}; {engine_build()}" if NATIVE else NOT_BUILT)
