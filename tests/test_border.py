"""Where programs end and where input comes in: one line and an exit code, never a hang."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tritbench.commands.images import read_images
from tritbench.errors import EXIT_CODE_VARIABLE, TritbenchError, reading
from tritbench.files import read_text, read_yaml, sha256
from tritbench.idx import read_idx
from tritbench.models import load_checkpoint
from tritbench.packing import load_trit

ROOT = Path(__file__).parents[1]


def program(body, **options):
    """A program with this body under `reported`, started."""
    code = "import os, signal, sys, tempfile, time\nfrom tritbench.errors import *\n"
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return subprocess.Popen(
        [sys.executable, "-c", f"{code}with reported('it'):\n{lines}"],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | options.pop("env", {}),
        text=True,
        **options,
    )


def ended(body, **options):
    """The exit code of such a program, what it printed and its lines on stderr."""
    process = program(body, **options)
    out, err = process.communicate()
    return process.returncode, out, err.splitlines()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGQUIT", "SIGINT"])
def test_a_signal_from_outside_leaves_no_temporary_folder(name, tmp_path):
    folder = f"with tempfile.TemporaryDirectory(dir={str(tmp_path)!r}):\n"
    process = program(folder + "    print('ready', flush=True)\n    time.sleep(60)")
    assert process.stdout.readline() == "ready\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(getattr(signal, name))
    _, err = process.communicate()
    assert process.returncode == 130
    assert err == "it: interrupted; nothing half-written is left\n"
    assert list(tmp_path.iterdir()) == []


def test_under_nohup_the_end_of_the_session_is_ignored():
    body = "os.kill(os.getpid(), signal.SIGHUP)\nprint('went on')"
    ignored = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    assert ended(body, preexec_fn=ignored) == (0, "went on\n", [])


def test_what_a_terminal_cannot_show_is_escaped():
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    assert ended("print('2 × 3')", env=ascii_only) == (0, "2 \\xd7 3\n", [])
    code, _, lines = ended("raise TritbenchError('4 × 5')", env=ascii_only)
    assert (code, lines) == (1, ["it: error: 4 \\xd7 5"])
    assert ended("raise TritbenchError('\\x1b[31mred')")[2] == ["it: error: ?[31mred"]


def test_what_the_system_refuses_is_a_line_and_a_programming_error_a_traceback():
    code, _, lines = ended("raise OSError(40, 'Too many levels', '/loop')")
    assert (code, lines) == (1, ["it: error: Too many levels: /loop"])
    code, _, lines = ended("int('x')")
    assert code == 1
    assert lines[0].startswith("Traceback")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is absent")
def test_output_that_does_not_fit_is_said():
    with open("/dev/full", "w") as full:
        code, _, lines = ended("print('x')", stdout=full)
    assert (code, lines) == (1, ["it: error: No space left on device"])


def test_a_reader_that_had_enough_is_no_error():
    process = program("for _ in range(100_000): print('line')")
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 1


def test_the_exit_code_is_left_where_it_was_asked_for(tmp_path):
    note = tmp_path / "note"
    code, _, _ = ended(
        "class Missing(TritbenchError): exit_code = 69\nraise Missing('x')",
        env={EXIT_CODE_VARIABLE: str(note)},
    )
    assert (code, note.read_text()) == (69, "69")


READERS = {
    "trit": load_trit,
    "checkpoint": load_checkpoint,
    "idx": lambda path: read_idx(path, [1]),
    "picture": lambda path: list(read_images(path, (1, 8, 8))),
    "yaml": read_yaml,
    "text": read_text,
    "hash": sha256,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_what_is_no_regular_file_is_refused_at_once(reader, tmp_path):
    path = tmp_path / "it.png"
    os.mkfifo(path)
    with pytest.raises(TritbenchError, match=r"it.*: is no regular file, expected a file"):
        reader(path)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_folders_and_loops_are_named(reader, tmp_path):
    folder, loop = tmp_path / "it.png", tmp_path / "loop.png"
    folder.mkdir()
    loop.symlink_to(loop)
    with pytest.raises(TritbenchError, match=r"it.*: is a folder, expected a file"):
        reader(folder)
    with pytest.raises(TritbenchError, match=r"loop.*: Too many levels of symbolic links"):
        reader(loop)


def test_errors_of_input_carry_its_name():
    for error in (ValueError("odd\nline"), RecursionError(), OSError(5, "Input/output error")):
        expected = pytest.raises(TritbenchError, match=r"^the key: (odd line|nested|Input/output)")
        with expected, reading("the key"):
            raise error
    with pytest.raises(TypeError), reading("the key"):
        raise TypeError
