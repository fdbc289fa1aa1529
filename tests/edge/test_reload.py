"""What is different in a new configuration, and what becomes of wishes for one."""

from __future__ import annotations

import threading
from hashlib import sha256
from pathlib import Path

import pytest

from agent_process import pipeline, replay, write_config
from broker import wait_until
from edge_vae.command import Outcome
from edge_vae.config import read_config
from edge_vae.errors import BundleError, ConfigError
from edge_vae.reload import Changes, Reload, changes

# changes


def asset(folder: Path, name: str, *, bundle: str = "a.evb", **more: object) -> str:
    return pipeline(name, folder / bundle, replay(folder / "recording.csv", **more))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.evb").write_bytes(b"a")
    (tmp_path / "b.evb").write_bytes(b"b")
    return tmp_path


def found(folder: Path, before: list[str], after: list[str], *, port: int = 1883) -> Changes:
    """What is different between a file with these tables and one with those, while every bundle is as in the first."""
    old = read_config(write_config(folder, 1883, *before))
    file = write_config(folder, port, *after)
    running = {config.asset: sha256(b"a").hexdigest() for config in old.pipelines}
    return changes(old, read_config(file), running=running, file=file)


def test_pipelines_stay_leave_and_begin_by_what_is_written_of_them(folder: Path) -> None:
    before = [asset(folder, "stays"), asset(folder, "changes"), asset(folder, "leaves")]
    after = [asset(folder, "comes"), asset(folder, "changes", speed=2.0), asset(folder, "stays")]
    different = found(folder, before, after)
    assert (different.stay, different.leave) == (("stays",), ("leaves",))
    assert [config.asset for config in different.begin] == ["comes", "changes"]
    assert different.text == "started comes, changes, ended leaves, 1 went on unchanged"


def test_nothing_changes_in_a_file_that_says_the_same_in_another_way(folder: Path) -> None:
    written = asset(folder, "pump")
    different = found(folder, [written], ["# as it was\n" + written + "[pipeline.drift]\ndetect = true\n"])
    assert different == Changes(stay=("pump",), leave=(), begin=())


def test_pipeline_begins_anew_when_another_bundle_lies_where_its_was(folder: Path) -> None:
    (folder / "a.evb").write_bytes(b"another")
    different = found(folder, [asset(folder, "pump")], [asset(folder, "pump")])
    assert [config.asset for config in different.begin] == ["pump"]


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ("", "[health]\nprometheus = '127.0.0.1:9464'\n", ":10: health.prometheus"),
        ("[outbox]\nmax_bytes = 70000\n", "[outbox]\nmax_bytes = 80000\n", ":10: outbox.max_bytes"),
        ("[outbox]\non_full = 'drop_newest'\n", "", ":1: outbox.on_full"),
    ],
)
def test_tables_of_the_whole_agent_want_a_restart(before: str, after: str, place: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match="expected what it was at the start: restart the agent to change it") as error:
        found(folder, [before + asset(folder, "pump")], [after + asset(folder, "pump"), asset(folder, "fan")])
    assert place in str(error.value)


def test_another_broker_wants_a_restart(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"agent\.toml:7: mqtt\.port: expected what it was at the start"):
        found(folder, [asset(folder, "pump")], [asset(folder, "pump")], port=1884)


def test_standard_input_cannot_begin_anew(folder: Path) -> None:
    reads = pipeline("pump", folder / "a.evb", {"type": "stdin"})
    assert found(folder, [reads], [reads, asset(folder, "fan")]).stay == ("pump",)
    with pytest.raises(ConfigError, match="expected no change where standard input is read"):
        found(folder, [reads], [pipeline("pump", folder / "a.evb", {"type": "stdin", "format": "csv"})])


# Reload


def test_every_wish_is_answered_and_those_that_wait_together_are_one() -> None:
    goes_on, applied, answers = threading.Event(), [], []

    def apply() -> str:
        applied.append(1)
        goes_on.wait()
        return "nothing"

    reload = Reload(apply)
    reload.turn()
    assert not applied
    reload.ask(answers.append)
    reload.turn()
    wait_until(lambda: bool(applied), "the first")
    for _ in range(3):
        reload.ask(answers.append)
        reload.turn()
    assert applied == [1]
    goes_on.set()
    reload.join()
    reload.turn()
    reload.join()
    assert applied == [1, 1]
    assert answers == [Outcome(ok=True, message="configuration in force: nothing")] * 4


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (BundleError("pump.evb: torn", action="Convert again."), "configuration kept: pump.evb: torn. Convert again."),
        (RuntimeError("a fault"), "fault of this program, restart the agent: RuntimeError('a fault')"),
    ],
)
def test_what_fails_is_answered_with_why(error: Exception, message: str) -> None:
    def apply() -> str:
        raise error

    answers: list[Outcome] = []
    reload = Reload(apply)
    reload.ask(answers.append)
    reload.turn()
    reload.join()
    assert answers == [Outcome(ok=False, message=message)]
