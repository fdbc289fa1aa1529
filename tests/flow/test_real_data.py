"""Recordings of a real pump rig (SKAB): trained, converted, scored, watched, with the figures that are promised."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from agent_process import AgentProcess, events, pipeline, replay, until_goodbye, write_config
from broker import Mosquitto, Subscriber
from edge_vae import schema
from edge_vae.bundle import Bundle
from edge_vae.sources.decode import parse_time

pytestmark = pytest.mark.keras

COLUMNS = ("--label", "anomaly", "--ignore", "changepoint")
LEAST_AUC = 0.92
LEAST_SPEARMAN = 0.999
LEAST_AGREEMENT = 0.99
MOST_BYTES = 128 * 1024
SPEARMAN, AGREEMENT = "score Spearman, stress and normal windows", "decisions that agree"
NOISE = "window: quantization noise / normal error"


@pytest.fixture(scope="module")
def conversions(
    skab_run: Path, skab_bundle: Path, skab_wish: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """The same run converted again, and with `normal` calibration, side by side: what each prints, and its status."""
    running = {}
    for calibration in ("stress", "normal"):
        folder = tmp_path_factory.mktemp(calibration)
        words = [
            "convert",
            skab_run,
            "-o",
            folder / skab_bundle.name,
            *skab_wish,
            "--calibration",
            calibration,
            "--strict",
            "--json",
        ]
        command = [sys.executable, "-c", "from edge_vae.cli import main; main()", *map(str, words)]
        running[calibration] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    printed = {calibration: process.communicate(timeout=240)[0] for calibration, process in running.items()}
    return {name: {"status": running[name].returncode, **json.loads(text)} for name, text in printed.items()}


def measures(conversion: dict[str, Any]) -> dict[str, float]:
    return {row["measure"]: row["value"] for row in conversion["parity"]}


# conversion


def test_int8_model_passes_the_gate(conversions: dict[str, dict[str, Any]]) -> None:
    found = conversions["stress"]
    assert (found["status"], found["passed"]) == (0, True)
    assert measures(found)[SPEARMAN] >= LEAST_SPEARMAN
    assert measures(found)[AGREEMENT] >= LEAST_AGREEMENT


def test_calibration_with_normal_windows_alone_loses_what_stress_calibration_keeps(
    conversions: dict[str, dict[str, Any]],
) -> None:
    stress, normal = measures(conversions["stress"]), measures(conversions["normal"])
    assert normal[SPEARMAN] < stress[SPEARMAN]
    assert normal[NOISE] > 1.3 * stress[NOISE]
    assert (conversions["normal"]["status"], conversions["normal"]["passed"]) == (1, False)


def test_converting_twice_gives_the_same_bytes(conversions: dict[str, dict[str, Any]], skab_bundle: Path) -> None:
    again = Path(conversions["stress"]["bundle"])
    assert again != skab_bundle
    assert again.read_bytes() == skab_bundle.read_bytes()


def test_bundle_is_small_and_its_model_holds_integers_only(skab_bundle: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    assert skab_bundle.stat().st_size <= MOST_BYTES
    (model,) = Bundle.read(skab_bundle).models.values()
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    of_model = [tensor for tensor in interpreter.get_tensor_details() if tensor["name"].startswith("window/")]
    kinds = {np.dtype(tensor["dtype"]) for tensor in of_model}
    assert kinds <= {np.dtype(np.int8), np.dtype(np.int32)}
    assert np.dtype(np.int8) in kinds


# recorded data


def test_int8_bundle_tells_faulty_rows_of_files_that_it_never_saw(
    edge_vae: Callable[..., Any], skab: Path, skab_bundle: Path
) -> None:
    found = json.loads(edge_vae("evaluate", skab_bundle, skab / "valve2", *COLUMNS, "--json").stdout)
    assert found["roc_auc"] >= LEAST_AUC


def test_scores_that_are_written_rank_as_the_evaluation_says(
    edge_vae: Callable[..., Any], skab: Path, skab_bundle: Path, tmp_path: Path
) -> None:
    edge_vae("score", skab_bundle, skab / "valve2", *COLUMNS, "-o", tmp_path / "s.csv")
    with (tmp_path / "s.csv").open() as file:
        scored = [(row["session"], int(row["row"]), float(row["score"])) for row in csv.DictReader(file)]
    labels = {path.name: labelled(path) for path in (skab / "valve2").glob("*.csv")}
    faulty = np.array([labels[session][row] for session, row, _ in scored])
    scores = np.array([score for _, _, score in scored])
    wins = (scores[faulty][:, None] > scores[~faulty]) + 0.5 * (scores[faulty][:, None] == scores[~faulty])
    assert wins.mean() >= LEAST_AUC  # the probability that a faulty window outscores a sound one, which is the ROC-AUC


def labelled(file: Path) -> list[bool]:
    return [row["anomaly"] == "1.0" for row in rows(file)]


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as opened:
        return list(csv.DictReader(opened, delimiter=";"))


# the agent


@pytest.mark.broker
def test_first_alarm_lies_inside_the_labelled_interval_in_most_files(
    skab: Path, skab_bundle: Path, tmp_path: Path, broker: Mosquitto
) -> None:
    files = sorted((skab / "valve1").glob("*.csv"))
    config = write_config(
        tmp_path, broker.port, *(pipeline(f"valve-{file.stem}", skab_bundle, replay(file)) for file in files)
    )
    with Subscriber(broker, "#") as subscriber, AgentProcess(config, "--once") as agent:
        assert agent.wait() == 0
        found = events(until_goodbye(subscriber))
    inside = [first_alarm_is_inside(file, [e for e in found if e["asset"] == f"valve-{file.stem}"]) for file in files]
    assert sum(inside) > len(files) / 2
    validator = jsonschema.Draft202012Validator(json.loads(schema.text("event")))
    for event in found:
        validator.validate(event)
    assert {event["event"] for event in found} == {"raised", "cleared", "sensor_fault"}
    assert {event["cause"]["kind"] for event in found if event["event"] == "sensor_fault"} == {"gap"}


def first_alarm_is_inside(file: Path, found: list[dict[str, Any]]) -> bool:
    raised = [parse_time(event["time"]) for event in found if event["event"] == "raised"]
    faulty = [parse_time(row["datetime"]) for row in rows(file) if row["anomaly"] == "1.0"]
    return bool(raised) and min(faulty) <= raised[0] <= max(faulty)
