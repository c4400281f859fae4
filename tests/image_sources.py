"""Where tests get images from: a mirror on this machine, and nothing beyond it."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tritbench.data import Dataset, fetch, load
from tritbench.data.description import ARRAYS
from tritbench.data.sources._torchvision import torchvision_datasets
from tritbench.data.sources.published import SETS
from tritbench.params import DataParams

ROOT = Path(__file__).parents[1]
COMMAND = "dvc exp run -S data.dataset=embedded"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def params(dataset: str = "fashion-mnist", *mirrors: str, **settings: Any) -> DataParams:
    return DataParams(dataset=dataset, mirrors=list(mirrors), validation=30, **settings)


def bring(folder: Path, **settings: Any) -> Dataset:
    return load(fetch(params(f"path:{folder}", **settings), 0), 3, 0)


def be_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory, and neither the environment's sources nor the network's."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("no_proxy", "*")
    for name, published in SETS.items():
        monkeypatch.delenv(f"{name.upper().replace('-', '_')}_DIR", raising=False)
        monkeypatch.setattr(getattr(torchvision_datasets(), published.torchvision), "mirrors", [])


def assert_complete(folder: Path, source: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted([*ARRAYS, "dataset.json"])
    about = json.loads((folder / "dataset.json").read_text())
    assert about["source"] == source
    assert about["sha256"] == {file: digest((folder / file).read_bytes()) for file in ARRAYS}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing temporary


class Mirror:
    """An HTTP server; `files` maps a path to its content, `cut` names files to break off."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.asked.append(self.path)
                content = mirror.files.get(self.path.lstrip("/"))
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                cut = self.path.lstrip("/") in mirror.cut
                self.wfile.write(content[: len(content) // 2] if cut else content)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:  # a client that hangs up early
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
