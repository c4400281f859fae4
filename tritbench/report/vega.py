"""The script that draws the page's charts: Vega, Vega-Lite and vega-embed in one.

vl-convert bundles it in about a second, holding Python's lock. In a process of its own it does so
while this one draws the figures.
"""

import subprocess
import sys
from functools import cache

from tritbench.report.figures import VEGALITE

_BUNDLE = """
import sys, vl_convert
script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", sys.argv[1])
sys.stdout.buffer.write(script.encode())
"""


@cache
def start_bundling() -> "subprocess.Popen[bytes]":
    """Begin, where nothing has begun yet; `vega_script` waits for the end."""
    return subprocess.Popen([sys.executable, "-c", _BUNDLE, VEGALITE], stdout=subprocess.PIPE)


@cache
def vega_script() -> str:
    """JavaScript that defines `vegaEmbed`, of the version that Altair writes for."""
    process = start_bundling()
    script, _ = process.communicate()
    if process.returncode:
        raise RuntimeError("vl-convert could not bundle Vega; what it said stands above")
    return script.decode()
