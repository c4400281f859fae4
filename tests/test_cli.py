"""The `tritbench` command as such: its version, its help, and what a shell completes."""

import re
import subprocess
import sys

import shtab

from tritbench import __version__
from tritbench.cli import make_parser


def test_the_version():
    command = [sys.executable, "-m", "tritbench", "--version"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == f"tritbench {__version__}\n"


def test_a_shell_completes_commands_and_options():
    script = shtab.complete(make_parser(), "bash")
    assert re.search(r"subparsers=\(run compare .*sweep", script)
    assert "--preset" in script
