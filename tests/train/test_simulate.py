from __future__ import annotations

import csv
import json
from dataclasses import fields, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_vae.errors import EdgeVaeError
from edge_vae.sample import FloatArray
from edge_vae_train import cli_data
from edge_vae_train.motion import Conditions, Motion, integrate
from edge_vae_train.recording import CHANNELS, FAULTS, Run, run
from edge_vae_train.rig import (
    Bearing,
    Rig,
    available_npsh_m,
    pump_head_m,
    required_npsh_m,
    shaft_power_w,
    system_resistance,
    vapour_pressure_pa,
)
from edge_vae_train.simulate import simulate
from edge_vae_train.vibration import BLOCK_SAMPLES, Excitation, acceleration, bpfo_hz, excite, rms

NAMES = [channel.name for channel in CHANNELS]
ROWS, RATE_HZ = 3000, 10.0


def record(fault: str = "", *, severity: float | None = None, rig: Rig | None = None, seed: int = 7) -> Run:
    return run(rig or Rig(), rows=ROWS, rate_hz=RATE_HZ, seed=seed, fault=fault, severity=severity)


def with_and_without(fault: str) -> tuple[Run, Run, slice]:
    """The same run with the fault and with a fault of no severity, and the later half of the fault's rows."""
    faulty, twin = record(fault), record(fault, severity=0.0)
    assert faulty.acting
    middle = (faulty.acting.start_row + faulty.acting.stop_row) // 2
    return faulty, twin, slice(middle, faulty.acting.stop_row)


def channel(recorded: Run, name: str) -> FloatArray:
    return recorded.values[:, NAMES.index(name)]


def steady(rig: Rig, *, rows: int = 600, **changes: float) -> Motion:
    """The rig with nothing moving: a half-open valve unless said otherwise."""
    usual = {"valve": 0.75, "supply_hz": rig.supply_hz, "ambient_c": 21.0, "roughness": 1.0} | changes
    conditions = Conditions(**{part.name: np.full(rows, usual.get(part.name, 0.0)) for part in fields(Conditions)})
    return integrate(rig, conditions, rate_hz=RATE_HZ)


def inner_signal(recorded: Run, rig: Rig, rows: slice) -> tuple[FloatArray, Excitation]:
    """(samples,) vertical acceleration inside the rows, and what caused it."""
    generator = np.random.default_rng(0)
    excitation = excite(rig, recorded.motion, recorded.conditions, rate_hz=RATE_HZ, generator=generator)
    return acceleration(rig, excitation, generator, start=rows.start, stop=rows.stop)[1].astype(np.float64), excitation


def squared_envelope_spectrum(
    signal: FloatArray, rate_hz: float, band: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Frequencies and amplitudes of the envelope in a band around the resonance (Randall and Antoni 2011)."""
    spectrum = np.fft.fft(signal)
    frequency = np.fft.fftfreq(len(signal), 1.0 / rate_hz)
    spectrum[(frequency < band[0]) | (frequency > band[1])] = 0.0
    envelope = np.abs(np.fft.ifft(2.0 * spectrum)) ** 2
    amplitude = np.abs(np.fft.rfft(envelope - envelope.mean()))
    return np.fft.rfftfreq(len(signal), 1.0 / rate_hz), amplitude


# The pump and the loop.


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.2])
def test_head_and_power_follow_the_affinity_laws(factor: float) -> None:
    rig = Rig()
    head, power = pump_head_m(rig, 2900.0, 110.0), shaft_power_w(rig, 2900.0, 110.0)
    assert pump_head_m(rig, factor * 2900.0, factor * 110.0) == pytest.approx(factor**2 * head)
    assert shaft_power_w(rig, factor * 2900.0, factor * 110.0) == pytest.approx(factor**3 * power)


def test_flow_is_proportional_to_speed_where_the_loop_has_no_static_head() -> None:
    rig = replace(Rig(), static_head_m=0.0)
    slow, fast = steady(rig, supply_hz=35.0), steady(rig, supply_hz=50.0)
    speeds = fast.speed_rpm[-1] / slow.speed_rpm[-1]
    assert fast.flow_l_min[-1] / slow.flow_l_min[-1] == pytest.approx(speeds, rel=1e-4)


def test_a_settled_rig_gives_the_head_its_loop_takes() -> None:
    rig = Rig()
    motion = steady(rig)
    flow = motion.flow_l_min[-1]
    taken = rig.static_head_m + (system_resistance(rig, 0.75) + rig.suction_resistance) * flow**2
    assert pump_head_m(rig, motion.speed_rpm[-1], flow) == pytest.approx(taken, rel=1e-5)


def test_more_load_takes_more_current_and_more_slip() -> None:
    closed, open_ = steady(Rig(), valve=0.55), steady(Rig(), valve=1.0)
    assert open_.current_a[-1] > closed.current_a[-1]
    assert open_.speed_rpm[-1] < closed.speed_rpm[-1] < 3000.0


def test_the_motor_warms_towards_its_equilibrium_with_its_time_constant() -> None:
    rig = Rig()
    warmer = Conditions(
        **{
            part.name: np.concatenate([np.full(10, 21.0), np.full(60_000, 31.0)])
            if part.name == "ambient_c"
            else np.full(60_010, {"valve": 0.75, "supply_hz": 50.0, "roughness": 1.0}.get(part.name, 0.0))
            for part in fields(Conditions)
        }
    )
    water = integrate(rig, warmer, rate_hz=RATE_HZ).water_c - steady(rig).water_c[-1]
    tau_s = rig.water_j_k * rig.water_k_w
    assert water[10 + round(tau_s * RATE_HZ)] == pytest.approx(10.0 * (1.0 - np.exp(-1.0)), rel=0.02)


def test_vapour_pressure_is_the_tabulated_one() -> None:
    assert vapour_pressure_pa(20.0) == pytest.approx(2339.0, abs=10.0)


def test_only_a_healthy_suction_keeps_the_pump_from_cavitating() -> None:
    rig = Rig()
    assert available_npsh_m(rig, 120.0, 30.0) > required_npsh_m(rig, 2900.0, 120.0)
    assert available_npsh_m(rig, 120.0, 30.0, 4.0) < required_npsh_m(rig, 2900.0, 120.0)


# Vibration.


def test_the_outer_race_frequency_is_the_published_one_of_this_bearing() -> None:
    assert bpfo_hz(Bearing(), 1.0) == pytest.approx(3.5848, abs=5e-4)


def test_a_contact_angle_raises_the_outer_race_frequency() -> None:
    steep = Bearing(contact_deg=60.0)
    assert bpfo_hz(steep, 10.0) == pytest.approx(9 / 2 * 10.0 * (1.0 - 0.5 * 7.94 / 39.04))


def test_a_bearing_defect_is_a_line_at_its_frequency_in_the_envelope_spectrum() -> None:
    rig = Rig()
    lines = {}
    for name, recorded in zip(("faulty", "healthy"), with_and_without("bearing")[:2], strict=True):
        assert recorded.acting
        rows = slice(recorded.acting.start_row, recorded.acting.start_row + 300)
        signal, excitation = inner_signal(recorded, rig, rows)
        rate_hz = excitation.samples * RATE_HZ
        frequency, amplitude = squared_envelope_spectrum(signal, rate_hz, (700.0, 1600.0))
        inside = (frequency > 60.0) & (frequency < 400.0)
        peak = np.argmax(amplitude[inside])
        lines[name] = frequency[inside][peak], amplitude[inside][peak] / np.median(amplitude[inside])
        expected = bpfo_hz(rig.bearing, float(np.mean(excitation.shaft_hz[rows])))
    assert lines["faulty"][0] == pytest.approx(expected, rel=0.01)
    assert lines["faulty"][1] > 10.0
    assert lines["healthy"][1] < 10.0


@pytest.mark.parametrize("supply_hz", [30.0, 40.0, 50.0])
def test_imbalance_shakes_at_shaft_speed_with_the_square_of_the_speed(supply_hz: float) -> None:
    rig = replace(Rig(), supply_hz=supply_hz)
    recorded = record("imbalance", rig=rig)
    assert recorded.acting
    rows = slice(recorded.acting.start_row, recorded.acting.start_row + 600)
    signal, excitation = inner_signal(recorded, rig, rows)
    inside_s = np.arange(excitation.samples) / (excitation.samples * RATE_HZ)
    turns = excitation.turns[rows][:, None] + excitation.shaft_hz[rows][:, None] * inside_s
    amplitude = 2.0 * np.abs(np.mean(signal * np.exp(-2j * np.pi * turns.ravel())))
    shaft_hz = float(np.mean(excitation.shaft_hz[rows]))
    moment_kg_m = (rig.residual_imbalance_g_mm + FAULTS["imbalance"].severity) * 1e-6
    expected_g = 0.8 * moment_kg_m * (2.0 * np.pi * shaft_hz) ** 2 / rig.machine_kg / 9.80665
    assert amplitude == pytest.approx(expected_g, rel=0.02)


def test_a_signal_made_in_pieces_is_the_signal_made_at_once() -> None:
    rig = replace(Rig(), roughness_g=0.0)
    recorded = record("bearing", rig=rig)
    generator = np.random.default_rng(0)
    excitation = excite(rig, recorded.motion, recorded.conditions, rate_hz=RATE_HZ, generator=generator)
    at_once = acceleration(rig, excitation, generator, start=1480, stop=1520)
    pieces = [acceleration(rig, excitation, generator, start=row, stop=row + 8) for row in range(1480, 1520, 8)]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), at_once)


def test_a_row_holds_the_root_mean_square_of_the_signal_inside_it() -> None:
    rig, recorded = Rig(), record()
    excitation = excite(rig, recorded.motion, recorded.conditions, rate_hz=RATE_HZ, generator=np.random.default_rng(1))
    block = BLOCK_SAMPLES // excitation.samples  # noise is drawn block by block
    inside = acceleration(rig, excitation, np.random.default_rng(2), stop=block).astype(np.float64)
    expected = np.sqrt(np.mean(inside.reshape(2, block, -1) ** 2, axis=2)).T
    np.testing.assert_allclose(rms(rig, excitation, np.random.default_rng(2))[:block], expected, rtol=1e-6)


# Faults.


@pytest.mark.parametrize("fault", FAULTS)
def test_the_label_covers_exactly_the_rows_on_which_the_fault_acts(fault: str) -> None:
    faulty, twin, _ = with_and_without(fault)
    pairs = [
        (getattr(faulty.conditions, part.name), getattr(twin.conditions, part.name)) for part in fields(Conditions)
    ]
    changed = np.any([one != other for one, other in pairs], axis=0)
    np.testing.assert_array_equal(changed, faulty.label == 1.0)
    assert faulty.acting
    assert 0 < faulty.acting.start_row < faulty.acting.stop_row < ROWS
    assert np.flatnonzero(faulty.label).tolist() == list(range(faulty.acting.start_row, faulty.acting.stop_row))


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_shows_before_the_fault_starts(fault: str) -> None:
    faulty, twin, _ = with_and_without(fault)
    before = slice(0, faulty.acting.start_row if faulty.acting else 0)
    for part in fields(Motion):
        np.testing.assert_array_equal(
            getattr(faulty.motion, part.name)[before], getattr(twin.motion, part.name)[before]
        )


def test_a_clogged_filter_lowers_flow_and_raises_pressure() -> None:
    faulty, twin, late = with_and_without("clogged-filter")
    assert np.all(faulty.motion.flow_l_min[late] < twin.motion.flow_l_min[late] - 5.0)
    assert np.all(faulty.motion.pressure_bar[late] > twin.motion.pressure_bar[late] + 0.05)


def test_a_leak_lowers_pressure_and_flow_while_the_pump_moves_more() -> None:
    faulty, twin, late = with_and_without("leak")
    assert np.all(faulty.motion.pressure_bar[late] < twin.motion.pressure_bar[late] - 0.05)
    assert np.all(faulty.motion.flow_l_min[late] < twin.motion.flow_l_min[late])
    assert np.all(faulty.motion.pump_flow_l_min[late] > twin.motion.pump_flow_l_min[late])


def test_cavitation_is_noise_on_both_axes_and_in_pressure_and_costs_head() -> None:
    faulty, twin, _ = with_and_without("cavitation")
    bubbling = faulty.motion.cavitation > 0.3
    assert bubbling.any()
    assert not twin.motion.cavitation.any()
    for axis in ("vibration_x_g", "vibration_y_g"):
        assert channel(faulty, axis)[bubbling].mean() > 1.05 * channel(twin, axis)[bubbling].mean()
    jumps = np.diff(channel(faulty, "pressure_bar"))[bubbling[1:]].std()
    assert jumps > 1.2 * np.diff(channel(twin, "pressure_bar"))[bubbling[1:]].std()
    assert np.all(faulty.motion.pressure_bar[bubbling] < twin.motion.pressure_bar[bubbling])


def test_cavitation_grows_with_flow() -> None:
    opened = [steady(Rig(), valve=valve, suction_loss_m=2.6).cavitation[-1] for valve in (0.55, 0.75, 1.0)]
    assert opened[0] < opened[1] < opened[2]


def test_a_stuck_sensor_repeats_its_last_value_and_nothing_else_changes() -> None:
    faulty, twin, _ = with_and_without("sensor-stuck")
    inside, pressure = faulty.label == 1.0, channel(faulty, "pressure_bar")
    assert set(pressure[inside]) == {pressure[np.flatnonzero(inside)[0] - 1]}
    same = np.delete(faulty.values, NAMES.index("pressure_bar"), axis=1)
    np.testing.assert_array_equal(same, np.delete(twin.values, NAMES.index("pressure_bar"), axis=1))


def test_a_drifting_sensor_grows_an_error_on_top_of_the_truth() -> None:
    faulty, twin, _ = with_and_without("sensor-drift")
    error = (channel(faulty, "temperature_c") - channel(twin, "temperature_c"))[faulty.label == 1.0]
    assert np.all(np.diff(error) > 0.0)
    assert error[-1] == pytest.approx(FAULTS["sensor-drift"].severity)


def windows(recorded: Run, rows: slice, length: int = 64) -> FloatArray:
    """(windows, 2 x channels): mean and log standard deviation of each channel in each window."""
    values = recorded.values[rows]
    cut = values[: len(values) // length * length].reshape(-1, length, values.shape[1])
    return np.hstack([cut.mean(axis=1), np.log(cut.std(axis=1) + 1e-6)])


@pytest.fixture(scope="module")
def normal() -> FloatArray:
    """Windows of three healthy runs of 20 minutes."""
    runs = (run(Rig(), rows=12_000, rate_hz=RATE_HZ, seed=seed) for seed in range(3))
    return np.concatenate([windows(recorded, slice(None)) for recorded in runs])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_default_severity_is_visible_but_not_absurd(fault: str, normal: FloatArray) -> None:
    faulty = run(Rig(), rows=12_000, rate_hz=RATE_HZ, seed=11, fault=fault)
    assert faulty.acting
    late = windows(faulty, slice((faulty.acting.start_row + faulty.acting.stop_row) // 2, faulty.acting.stop_row))
    centre, inverse = normal.mean(axis=0), np.linalg.inv(np.cov(normal.T))
    distance = [np.einsum("wf,fg,wg->w", part - centre, inverse, part - centre) for part in (normal, late)]
    assert np.mean(distance[1] > np.quantile(distance[0], 0.999)) > 0.8
    in_sigmas = np.abs(late.mean(axis=0) - centre)[: len(NAMES)] / normal.std(axis=0)[: len(NAMES)]
    assert in_sigmas.max() < 10.0
    assert in_sigmas.max() > 2.0 or fault == "sensor-stuck"


# Files.


def simulated(folder: Path, **options: object) -> Path:
    chosen: dict[str, object] = {"healthy": 1, "faults": ("leak",), "minutes": 1.0} | options
    return simulate(folder, **chosen).folder  # type: ignore[arg-type] # a table of options has no one type


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    assert contents(simulated(tmp_path / "a", seed=3)) == contents(simulated(tmp_path / "b", seed=3))


def test_another_seed_writes_other_recordings(tmp_path: Path) -> None:
    one, other = contents(simulated(tmp_path / "a", seed=3)), contents(simulated(tmp_path / "b", seed=4))
    assert all(one[file] != other[file] for file in one)


def test_a_run_does_not_depend_on_what_else_is_written(tmp_path: Path) -> None:
    alone = contents(simulated(tmp_path / "a", healthy=0))
    among = contents(simulated(tmp_path / "b", healthy=2, faults=("bearing", "leak", "leak")))
    assert alone["faulty/leak.csv"] == among["faulty/leak.csv"]
    assert among["faulty/leak.csv"] != among["faulty/leak-2.csv"]


def test_files_hold_times_channels_and_labels_as_described(tmp_path: Path) -> None:
    folder = simulated(tmp_path / "rig")
    document = json.loads((folder / "rig.json").read_text())
    healthy = list(csv.reader((folder / "healthy/run-1.csv").read_text().splitlines()))
    faulty = list(csv.reader((folder / "faulty/leak.csv").read_text().splitlines()))
    assert healthy[0] == ["time", *NAMES]
    assert faulty[0] == ["time", *NAMES, "anomaly"]
    assert len(healthy) == len(faulty) == 601
    times = [datetime.fromisoformat(row[0].replace("Z", "+00:00")) for row in faulty[1:]]
    assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(milliseconds=100)}
    assert times[0].utcoffset() == timedelta(0)
    fault = next(entry["fault"] for entry in document["runs"] if entry["file"] == "faulty/leak.csv")
    labelled = [row for row, line in enumerate(faulty[1:]) if line[-1] == "1"]
    assert labelled == list(range(fault["start_row"], fault["stop_row"]))
    assert {line[-1] for line in faulty[1:]} == {"0", "1"}
    assert fault["cause"] == FAULTS["leak"].cause
    assert document["seed"] == 0
    assert document["rig"]["bearing"]["balls"] == 9
    assert [entry["name"] for entry in document["channels"]] == NAMES


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"rate_hz": 60.0}, "rate"), ({"rows": 99}, "100 rows"), ({"fault": "gremlin"}, "gremlin")],
)
def test_a_run_refuses_what_it_cannot_simulate(wrong: dict[str, object], words: str) -> None:
    options: dict[str, object] = {"rows": 200, "rate_hz": 10.0, "seed": 0} | wrong
    with pytest.raises(ValueError, match=words):
        run(Rig(), **options)  # type: ignore[arg-type] # a table of options has no one type


@pytest.mark.parametrize("rate_hz", [0.5, 50.0])
def test_any_rate_in_range_gives_a_vibration_of_the_same_size(rate_hz: float) -> None:
    recorded = run(Rig(), rows=200, rate_hz=rate_hz, seed=0)
    usual = record()
    for axis in ("vibration_x_g", "vibration_y_g"):
        assert channel(recorded, axis).mean() == pytest.approx(channel(usual, axis).mean(), rel=0.1)


# The command.


def command(*words: object) -> Result:
    return CliRunner().invoke(cli_data.simulate, [str(word) for word in words])


def test_the_command_says_what_it_wrote_and_what_to_do_next(tmp_path: Path) -> None:
    result = command("-o", tmp_path / "my rig", "--minutes", 1, "--healthy", 1, "--faulty", 2)
    assert result.exit_code == 0
    assert "faulty/bearing.csv: 600 rows, anomaly from row" in result.stdout
    assert result.stdout.splitlines()[-1] == f"next: edge-vae train '{tmp_path}/my rig/healthy' -o run"
    assert sorted(contents(tmp_path / "my rig")) == [
        "faulty/bearing.csv",
        "faulty/imbalance.csv",
        "healthy/run-1.csv",
        "rig.json",
    ]


def test_json_prints_one_document_and_nothing_else(tmp_path: Path) -> None:
    result = command("-o", tmp_path / "rig", "--minutes", 1, "--healthy", 0, "--fault", "sensor-stuck", "--json")
    document = json.loads(result.stdout)
    assert [entry["file"] for entry in document["runs"]] == ["faulty/sensor-stuck.csv"]
    assert document["folder"] == str(tmp_path / "rig")


def test_a_folder_with_files_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "precious.csv").write_text("1\n")
    result = command("-o", tmp_path, "--minutes", 1)
    assert isinstance(result.exception, EdgeVaeError)
    assert "already holds files" in str(result.exception)
    assert "--force" in str(result.exception)
    assert "\n" not in str(result.exception)
    assert contents(tmp_path) == {"precious.csv": b"1\n"}


def test_force_replaces_the_earlier_simulation_and_leaves_other_files_alone(tmp_path: Path) -> None:
    assert command("-o", tmp_path / "rig", "--minutes", 1, "--healthy", 2, "--faulty", 1).exit_code == 0
    (tmp_path / "rig/healthy/mine.csv").write_text("1\n")
    assert command("-o", tmp_path / "rig", "--minutes", 1, "--healthy", 1, "--fault", "leak", "--force").exit_code == 0
    assert sorted(contents(tmp_path / "rig")) == [
        "faulty/leak.csv",
        "healthy/mine.csv",
        "healthy/run-1.csv",
        "rig.json",
    ]


@pytest.mark.parametrize(
    "words",
    [("--faulty", 1, "--fault", "leak"), ("--fault", "gremlin"), ("--rate", 2000), ("--rate", 0.1, "--minutes", 1)],
)
def test_options_that_contradict_each_other_are_wrong_usage(words: tuple[object, ...], tmp_path: Path) -> None:
    assert command("-o", tmp_path / "rig", *words).exit_code == 2
    assert not (tmp_path / "rig").exists()
