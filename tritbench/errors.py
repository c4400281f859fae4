"""One error type, and how a program reports it: one line, a non-zero exit, no traceback."""

import atexit
import errno
import gc
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


class TritbenchError(ValueError):
    """Bad input. The message names the file or key, the value found and what was expected."""

    exit_code = EXIT_ERROR


def printable(text: str) -> str:
    r"""The text without what would steer a terminal; lines stay.

    >>> printable("\x1b[31mred")
    '?[31mred'
    """
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def last_lines(text: str, count: int) -> str:
    """The last lines that are not empty: where programs say what went wrong."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


@contextmanager
def reported(program: str) -> Iterator[None]:
    """Run a program's body; turn its expected failures into one line on stderr and an exit code.

    A programming error keeps its traceback. SIGTERM ends a program as Ctrl-C does, so that
    temporary files are removed in both cases.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # At its end the interpreter looks for garbage in all that PyTorch brought, which takes up to a
    # second; what is frozen it leaves to the system.
    atexit.register(gc.freeze)
    try:
        yield
    except TritbenchError as error:
        print(f"{program}: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(f"{program}: interrupted; nothing half-written is left", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever reads the output had enough, as `head` does; Python must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_ERROR)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.ENOENT):
            raise
        print(f"{program}: error: {error.strerror}: {error.filename or error}", file=sys.stderr)
        sys.exit(EXIT_ERROR)
