"""Downloads, bounded in time, speed and size, whatever the other side does or leaves undone."""

import threading
import time
from collections.abc import Iterable
from urllib.request import Request, urlopen

from tqdm import tqdm

PATIENCE = 8.0  # seconds without data, all in all, after which a download is given up
PATIENCE_IN_ALL = 16.0  # the same for all mirrors together; each untried one gets an equal share
SLOWEST = 50_000  # bytes a second that are worth waiting for
_CHUNK = 2**16
_LOOK = 0.1  # seconds


class Mirrors:
    """Mirrors, as base URLs, which share `PATIENCE_IN_ALL`, so that dead ones do not add up."""

    def __init__(self, urls: Iterable[str]) -> None:
        self.untried = list(dict.fromkeys(urls))
        self.patience = PATIENCE_IN_ALL

    def get(self, mirror: str, file: str, limit: int) -> bytes:
        """The content of a file on one of them, which is not to be asked again after a failure.

        Raises:
            OSError: it cannot be had, or not in time.
            http.client.HTTPException: what answers does not speak HTTP.
            ValueError: it has more than `limit` bytes.
        """
        start = time.monotonic()
        try:
            share = self.patience / len(self.untried)
            return _download(f"{mirror.rstrip('/')}/{file}", limit, min(PATIENCE, share))
        except Exception:
            self.patience = max(self.patience - (time.monotonic() - start), 1)
            self.untried.remove(mirror)
            raise


def _download(url: str, limit: int, patience: float) -> bytes:
    """In a thread of its own: a socket's timeout ends neither a name's look-up nor a trickle."""
    content = bytearray()
    failures: list[Exception] = []
    given_up = threading.Event()

    def read() -> None:
        try:
            request = Request(url, headers={"User-Agent": "tritbench"})
            # Later than the caller gives up: it only ends this thread.
            with urlopen(request, timeout=2 * patience) as response:
                while not given_up.is_set() and (chunk := response.read1(_CHUNK)):
                    content.extend(chunk)
                    if len(content) > limit:
                        raise ValueError(f"more than {limit} bytes")
        except Exception as error:  # raised again below
            failures.append(error)

    thread = threading.Thread(target=read, daemon=True)
    start = time.monotonic()
    name = url.rpartition("/")[2]
    with tqdm(desc=name, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        thread.start()
        try:
            while thread.is_alive():
                thread.join(_LOOK)
                bar.update(len(content) - bar.n)
                seconds = time.monotonic() - start
                if seconds > patience + len(content) / SLOWEST and thread.is_alive():
                    raise TimeoutError(f"{len(content)} bytes in {seconds:.0f} s")
        finally:
            given_up.set()
    if failures:
        raise failures[0]
    return bytes(content)
