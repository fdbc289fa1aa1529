from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_vae.errors import EdgeVaeError, MissingExtraError
from edge_vae_train import cli_data, datasets

KEPT = Path(os.environ.get("EDGE_VAE_DATA") or Path(__file__).parents[3] / "shared" / "data")


@pytest.fixture(scope="session")
def skab() -> Path:
    folder = KEPT / "skab"
    if not (folder / "valve1").is_dir():
        pytest.skip(f"needs the SKAB files in {folder}; set EDGE_VAE_DATA to the folder of data sets")
    return folder


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No data on this machine, and a cache of its own, which is returned."""
    monkeypatch.setenv("EDGE_VAE_DATA", str(tmp_path / "no-data"))
    monkeypatch.setenv("EDGE_VAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@dataclass
class Mirror:
    """A web server on this machine that serves a folder, damages one file, and remembers what was asked for."""

    url: str
    damaged: str = ""
    asked: list[str] = field(default_factory=list)


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args: object, mirror: Mirror, directory: str) -> None:
        self.mirror = mirror
        super().__init__(*args, directory=directory)  # type: ignore[arg-type] # the server passes them through

    def do_GET(self) -> None:
        self.mirror.asked.append(self.path.lstrip("/"))
        if self.path.lstrip("/") != self.mirror.damaged:
            super().do_GET()
            return
        content = bytearray(Path(self.translate_path(self.path)).read_bytes())
        content[len(content) // 2] ^= 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def mirror(skab: Path) -> Iterator[Mirror]:
    mirror = Mirror("")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, mirror=mirror, directory=str(skab))) as server:
        mirror.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield mirror
        server.shutdown()
        thread.join()


@pytest.fixture
def dead_url() -> Iterator[str]:
    """An address at which nobody listens, and nobody can start to while the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def command(*words: object) -> Result:
    return CliRunner().invoke(cli_data.data, [str(word) for word in words])


def test_the_checksums_name_the_34_experiments_and_the_healthy_run() -> None:
    names = datasets.checksums("skab")
    counts = {folder: sum(name.startswith(folder + "/") for name in names) for folder in ("valve1", "valve2", "other")}
    assert counts == {"valve1": 16, "valve2": 4, "other": 14}
    assert "anomaly-free/anomaly-free.csv" in names
    assert len(names) == 35
    assert all(len(digest) == 64 and int(digest, 16) for digest in names.values())


def test_a_download_brings_every_file_byte_for_byte(mirror: Mirror, skab: Path, bare_machine: Path) -> None:
    done: list[str] = []
    folder = datasets.fetch("skab", mirror.url, advance=done.append)
    assert folder == bare_machine / "skab"
    assert files_in(bare_machine) == {f"skab/{name}" for name in datasets.checksums("skab")}
    assert all((folder / name).read_bytes() == (skab / name).read_bytes() for name in done)
    assert done == mirror.asked == list(datasets.checksums("skab"))
    assert datasets.locate("skab") == folder


def test_a_set_in_the_cache_is_not_downloaded_again(mirror: Mirror) -> None:
    datasets.fetch("skab", mirror.url)
    mirror.asked.clear()
    datasets.fetch("skab", mirror.url)
    assert mirror.asked == []


def test_only_damaged_files_of_the_cache_are_downloaded_again(mirror: Mirror, skab: Path) -> None:
    folder = datasets.fetch("skab", mirror.url)
    mirror.asked.clear()
    (folder / "valve1/3.csv").write_bytes(b"not the published bytes")
    assert datasets.locate("skab") is None
    datasets.fetch("skab", mirror.url)
    assert mirror.asked == ["valve1/3.csv"]
    assert (folder / "valve1/3.csv").read_bytes() == (skab / "valve1/3.csv").read_bytes()


def test_the_local_folder_comes_before_cache_and_download(
    mirror: Mirror, skab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.fetch("skab", mirror.url)
    mirror.asked.clear()
    monkeypatch.setenv("EDGE_VAE_DATA", str(skab.parent))
    assert datasets.locate("skab") == skab
    assert datasets.fetch("skab", mirror.url) == skab
    assert mirror.asked == []


def test_a_local_folder_that_misses_a_file_is_not_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_VAE_DATA", str(tmp_path))
    (tmp_path / "milling").mkdir()
    (tmp_path / "milling/labels.csv").touch()
    assert datasets.locate("milling") is None
    (tmp_path / "milling/milling_5ch_int16.npz").touch()
    assert datasets.locate("milling") == tmp_path / "milling"


def test_a_file_with_a_wrong_checksum_is_refused_and_leaves_nothing(mirror: Mirror, bare_machine: Path) -> None:
    mirror.damaged = "valve2/1.csv"
    result = command("get", "skab", "--mirror", mirror.url)
    assert isinstance(result.exception, EdgeVaeError)
    assert result.exception.exit_status == 1
    assert f"{mirror.url}/valve2/1.csv is not the published file" in str(result.exception)
    assert datasets.checksums("skab")["valve2/1.csv"] in str(result.exception)
    assert "\n" not in str(result.exception)
    assert list(bare_machine.iterdir()) == []


def test_without_network_there_is_one_clear_line(dead_url: str, bare_machine: Path) -> None:
    with pytest.raises(EdgeVaeError, match="no connection") as failure:
        datasets.fetch("skab", dead_url)
    assert dead_url in str(failure.value)
    assert "EDGE_VAE_DATA" in str(failure.value)
    assert "\n" not in str(failure.value)
    assert list(bare_machine.iterdir()) == []


def test_a_file_the_server_does_not_have_is_named_with_its_status(mirror: Mirror, bare_machine: Path) -> None:
    with pytest.raises(EdgeVaeError, match="HTTP status 404"):
        datasets.fetch("skab", mirror.url + "/elsewhere")
    assert list(bare_machine.iterdir()) == []


@pytest.mark.parametrize("name", [name for name, data_set in datasets.SETS.items() if not data_set.base_url])
def test_a_set_without_verified_download_says_where_to_get_it(name: str) -> None:
    with pytest.raises(EdgeVaeError, match="no download that a checksum verifies") as failure:
        datasets.fetch(name)
    assert datasets.SETS[name].source in str(failure.value)
    assert datasets.SETS[name].licence in str(failure.value)


def test_a_missing_pooch_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtraError, match=r"edge-vae\[train\]"):
        datasets.fetch("skab", cache=tmp_path)


def test_get_shows_folder_and_licence(mirror: Mirror, tmp_path: Path) -> None:
    first = command("get", "skab", "--mirror", mirror.url, "--cache", tmp_path / "other-cache")
    again = command("get", "skab", "--cache", tmp_path / "other-cache")
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "downloaded and verified" in first.stdout
    assert "already on this machine (cache), nothing downloaded" in again.stdout
    for result in (first, again):
        assert str(tmp_path / "other-cache/skab") in result.stdout
        assert "GPL-3.0" in result.stdout


def test_get_as_json_is_one_document(skab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_VAE_DATA", str(skab.parent))
    document = json.loads(command("get", "skab", "--json").stdout)
    assert document["folder"] == str(skab)
    assert document["place"] == "local"
    assert document["downloaded"] is False


def test_get_of_an_unknown_set_is_wrong_usage() -> None:
    assert command("get", "iris").exit_code == 2


def test_list_shows_what_is_here_and_how_to_get_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_VAE_DATA", str(tmp_path))
    (tmp_path / "tep").mkdir()
    (tmp_path / "tep/tep.npz").touch()
    text, sets = command("list").stdout, json.loads(command("list", "--json").stdout)["sets"]
    assert "edge-vae data get skab" in text
    assert f"in {tmp_path / 'tep'}" in text
    assert {entry["name"]: entry["place"] for entry in sets} == {
        name: "local" if name == "tep" else None for name in datasets.SETS
    }
    for data_set in datasets.SETS.values():
        assert data_set.licence in text
        assert data_set.source in text
