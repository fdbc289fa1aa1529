from __future__ import annotations

import math
import subprocess

import pytest

from broker import DEADLINE_S, program
from edge_vae.event import AgentCounters, AssetCounters
from edge_vae.metrics import exposition

AGENT = AgentCounters(
    uptime_s=60.5, cpu_s=0.5, rss_bytes=60_000_000, open_files=20, disk_written_bytes=4096, outbox_messages=1,
    outbox_bytes=700, outbox_dropped=0, published=12, acknowledged=11, refused=2, connects=3, reconnects=2, assets=(),
)  # fmt: skip


def asset(name: str = "pump", score: float | None = 1.5) -> AssetCounters:
    return AssetCounters(
        asset=name, state="alarm", samples=10**12, windows=1493, dropped=3, malformed=1, removed=2, raised=1,
        cleared=0, sensor_faults=2, failures=1, last_sample_age_s=1e-7, score=score, threshold=1.0,
    )  # fmt: skip


def page(*assets: AssetCounters, agent: AgentCounters = AGENT) -> str:
    counters = AgentCounters(**{name: getattr(agent, name) for name in agent.__struct_fields__} | {"assets": assets})
    return exposition(counters, version="0.1.0", connected=True, quiet_s={"delivery": 0.25})


def values(text: str) -> dict[str, str]:
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))


@pytest.mark.parametrize(
    "assets",
    [(), (asset(), asset("fan")), (asset('a"b\\c\nd{}='), asset("größe 😀")), (asset(score=math.nan),)],
    ids=["none", "two", "names", "not a number"],
)
def test_promtool_finds_nothing_wrong(assets: tuple[AssetCounters, ...]) -> None:
    command = [program("promtool", package="prometheus"), "check", "metrics"]
    found = subprocess.run(command, input=page(*assets).encode(), capture_output=True, check=False, timeout=DEADLINE_S)
    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")


def test_counters_stand_by_agent_asset_and_stage() -> None:
    found = values(page(asset(), asset("fan", score=None)))
    assert found["edge_vae_outbox_bytes"] == "700"
    assert found["edge_vae_reconnects_total"] == "2"
    assert found["process_resident_memory_bytes"] == "60000000"
    assert found['edge_vae_samples_total{asset="fan"}'] == "1000000000000"
    assert found['edge_vae_alarms_raised_total{asset="pump"}'] == "1"
    assert found['edge_vae_stage_quiet_seconds{stage="delivery"}'] == "0.25"
    assert found["edge_vae_connected"] == "1"


def test_what_is_not_known_is_left_out() -> None:
    assert 'edge_vae_score{asset="fan"}' not in values(page(asset(), asset("fan", score=None)))
    assert "# TYPE edge_vae_score gauge" not in page(asset(score=None))


def test_one_state_of_an_asset_is_1_and_the_others_are_0() -> None:
    states = {name: value for name, value in values(page(asset())).items() if name.startswith("edge_vae_state{")}
    assert states.pop('edge_vae_state{asset="pump",state="alarm"}') == "1"
    assert set(states.values()) == {"0"}
    assert len(states) >= 3
