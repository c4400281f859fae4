"""One error type, and how a program reports it: one line, a non-zero exit, no traceback."""

import atexit
import contextlib
import gc
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

EXIT_ERROR = 1
EXIT_NO_SOURCE = 69  # EX_UNAVAILABLE of sysexits.h: no source has the data set
EXIT_INTERRUPTED = 130
# Names a file that gets the exit code of a stage that fails: DVC does not pass it on.
EXIT_CODE_VARIABLE = "TRITBENCH_EXIT_CODE"


class TritbenchError(ValueError):
    """Bad input. The message names the file or key, the value found and what was expected."""

    exit_code = EXIT_ERROR


def printable(text: str) -> str:
    r"""The text without what would steer a terminal; lines stay.

    >>> printable("\x1b[31mred")
    '?[31mred'
    """
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


def reason(error: BaseException) -> str:
    """What an error says, in one line and without the file's name."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return "no such file"
        case OSError(strerror=str(text)):
            return text
        case RecursionError():
            return "nested too deeply"
        case UnicodeDecodeError():
            return f"{error.reason} at byte {error.start}, expected UTF-8"
    return printable(" ".join(str(error).split())) or type(error).__name__


@contextmanager
def reading(name: object) -> Iterator[None]:
    """Whatever is wrong with what the body reads becomes a TritbenchError that begins with `name`.

    For bodies that read input and do nothing else: what fails in the program's own work is a
    programming error, which keeps its traceback.
    """
    try:
        yield
    except TritbenchError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise TritbenchError(f"{name}: {reason(error)}") from None


def last_lines(text: str, count: int) -> str:
    """The last lines that are not empty: where programs say what went wrong."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


@contextmanager
def reported(program: str) -> Iterator[None]:
    """Run a program's body; turn its expected failures into one line on stderr and an exit code.

    A programming error keeps its traceback. What ends a program from outside ends it as Ctrl-C
    does, so that temporary files are removed. Characters that the terminal's encoding lacks are
    written as escape sequences of Python.
    """
    _end_by_signals()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # At its end the interpreter looks for garbage in all that PyTorch brought, which takes up to a
    # second; what is frozen it leaves to the system.
    atexit.register(gc.freeze)
    try:
        yield
        sys.stdout.flush()
    except TritbenchError as error:
        _fail(f"{program}: error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _fail(f"{program}: interrupted; nothing half-written is left", EXIT_INTERRUPTED)
    except BrokenPipeError:  # whoever reads the output had enough, as `head` does
        _fail(None, EXIT_ERROR)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _fail(f"{program}: error: {error.strerror or error}{where}", EXIT_ERROR)


def _end_by_signals() -> None:
    for name in ("SIGTERM", "SIGHUP", "SIGQUIT"):
        number = getattr(signal, name, None)
        # nohup has SIGHUP ignored, and it stays so.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _fail(line: str | None, code: int) -> NoReturn:
    if line is not None:
        print(printable(line), file=sys.stderr)
    if note := os.environ.get(EXIT_CODE_VARIABLE):
        with contextlib.suppress(OSError), open(note, "w") as file:
            file.write(str(code))
    try:
        sys.stdout.flush()
    except OSError:  # Python must not try again at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
