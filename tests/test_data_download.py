"""Downloads, from a server on this machine: complete and right, or a clear message and no file."""

import hashlib
import multiprocessing
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from drawnet.data import DataError, download
from drawnet.data.download import Remote, fetch
from drawnet.data.store import Store, cache

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        match self.path:
            case "/cut":
                self._answer(CONTENT[:-5], len(CONTENT))
            case "/long":
                self._answer(CONTENT + bytes(100_000), len(CONTENT) + 100_000)
            case "/silent":
                self.server.stop.wait(5)  # type: ignore[attr-defined]
            case "/together":
                self.server.together.wait(60)  # type: ignore[attr-defined]
                self._answer(CONTENT, len(CONTENT))
            case "/file.gz":
                self._answer(CONTENT, len(CONTENT))
            case _:
                self.send_error(404)

    def _answer(self, content: bytes, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.stop = threading.Event()  # type: ignore[attr-defined]
        server.together = threading.Barrier(2)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.stop.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DRAWNET_DATA", raising=False)


def test_a_whole_file_with_progress(server: str, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    target = tmp_path / "new" / "folder" / "file"
    fetch(
        Remote(f"{server}/file.gz", SHA256, len(CONTENT)), target, lambda *step: seen.append(step)
    )
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == ["file"]
    assert seen[-1] == ("downloading file.gz", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})


@pytest.mark.parametrize(
    ("path", "sha256", "message"),
    [
        ("/file.gz", "0" * 64, f"expected sha256 {'0' * 64}, got {SHA256}"),
        ("/cut", SHA256, f"expected {len(CONTENT)} bytes, got {len(CONTENT) - 5}"),
        ("/long", SHA256, f"expected {len(CONTENT)} bytes, got more"),
        ("/nothing", SHA256, "404"),
        ("/silent", SHA256, "timed out"),
    ],
)
def test_failures_leave_what_was_there(
    server: str,
    tmp_path: Path,
    path: str,
    sha256: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    target = tmp_path / "file"
    target.write_bytes(b"before")
    with pytest.raises(DataError, match=message) as error:
        fetch(Remote(server + path, sha256, len(CONTENT)), target)
    assert f"{server}{path}: could not be downloaded" in str(error.value)
    assert f"save it as {target}" in str(error.value)
    assert os.listdir(tmp_path) == ["file"]
    assert target.read_bytes() == b"before"


def test_no_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DataError, match="By hand: fetch it with a browser and save it as"):
        fetch(Remote(f"http://127.0.0.1:{port}/x", SHA256, 3), tmp_path / "x")
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_to(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"not a folder")
    with pytest.raises(DataError, match="file: cannot be written to"):
        fetch(Remote(f"{server}/file.gz", SHA256, len(CONTENT)), tmp_path / "file" / "x")


def test_two_processes_fill_one_cache(server: str, tmp_path: Path) -> None:
    remote = Remote(f"{server}/together", SHA256, len(CONTENT))
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=fetch, args=(remote, tmp_path / "file")) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_store_downloads_once_into_the_cache(server: str) -> None:
    remote = Remote(f"{server}/file.gz", SHA256, len(CONTENT))
    path = Store().find("set", "file", remote)
    assert path == cache() / "set" / "file.gz"
    away = Remote("http://127.0.0.1:1/file.gz", SHA256, len(CONTENT))
    assert Store().find("set", "file", away) == path


def test_store_looks_in_the_given_folder_alone(server: str, tmp_path: Path) -> None:
    remote = Remote(f"{server}/file.gz", SHA256, len(CONTENT))
    Store().find("set", "file", remote)
    with pytest.raises(DataError, match="set: expected file, found in none of: "):
        Store(tmp_path / "mine").find("set", "file", remote)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_bytes(b"")
    assert Store(tmp_path / "mine").find("set", "file", remote) == tmp_path / "mine" / "file"
    (tmp_path / "mine" / "set").mkdir()
    (tmp_path / "mine" / "set" / "file.gz").write_bytes(b"")
    assert Store(tmp_path / "mine").locate("set", "file") == tmp_path / "mine" / "set" / "file.gz"


def test_store_prefers_the_folder_of_the_environment(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Remote(f"{server}/file.gz", SHA256, len(CONTENT))
    cached = Store().find("set", "file", remote)
    monkeypatch.setenv("DRAWNET_DATA", str(tmp_path))
    assert Store().find("set", "file", remote) == cached
    (tmp_path / "file").write_bytes(b"")
    assert Store().find("set", "file", remote) == tmp_path / "file"
