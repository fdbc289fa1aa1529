"""The way of the demo, every station in order: data, training, int8, bundle, broker, agent, subscriber, verdict."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from edge_vae import describe
from edge_vae.errors import DataError
from edge_vae_converters import conversion, parity
from edge_vae_converters.demo import picture, verdict
from edge_vae_converters.demo.agent import STATUS_TOPIC, agent, agent_config
from edge_vae_converters.demo.broker import Amqtt, Mosquitto, RunningBroker, broker
from edge_vae_converters.demo.folder import MARK
from edge_vae_converters.demo.plan import Plan
from edge_vae_converters.demo.subscriber import Received, Subscriber
from edge_vae_converters.demo.summary import Summary
from edge_vae_converters.demo.timing import scoring_time
from edge_vae_converters.demo.verdict import Verdict, Watched
from edge_vae_train import data as recorded
from edge_vae_train import evaluation as evaluating
from edge_vae_train import scoring, training
from edge_vae_train.cli import columns_of
from edge_vae_train.data import Columns
from edge_vae_train.evaluation import Evaluation
from edge_vae_train.run_folder import Run
from edge_vae_train.training import Progress

__all__ = ["Screen", "walk"]

REPLAY_S = 10.0
"""The longest recording is replayed in so many seconds: samples come one by one, as from a machine, only faster."""


@dataclass(frozen=True, slots=True)
class Screen:
    """Where the demo shows what happens: a line of text, and the epochs of a training."""

    say: Callable[[str], object]
    progress: Callable[[], AbstractContextManager[Progress]]


def walk(
    plan: Plan, folder: Path, *, kind: Mosquitto | Amqtt, port: int | None, screen: Screen, began_s: float
) -> Summary:
    """The whole way, and what it found.

    Args:
        plan: The data.
        folder: Claimed; everything is written below it.
        kind: The broker to start.
        port: For the broker; None: a free one.
        screen: Is told what happens.
        began_s: Monotonic clock when the demo began.
    """
    columns = columns_of(plan.settings)
    _check_labels(plan, columns)
    training_s, run = -time.monotonic(), _train(plan, folder / "run", columns, screen)
    training_s += time.monotonic()
    bundle = _convert(run, folder / f"{plan.name}.evb", screen)
    evaluation = _evaluate(bundle, plan, columns, screen)
    files = verdict.watched(evaluation, plan.watch, columns)
    speed = max(1.0, max(file.seconds for file in files) / REPLAY_S)
    received = _watch(plan, run, bundle, folder, speed=speed, own_broker=broker(kind, folder, port=port), screen=screen)
    verdicts = _judge(files, received.events)
    detector = evaluation.subject.detector
    summary = Summary(
        plan=plan,
        broker=kind.name,
        evaluation=evaluation,
        verdicts=verdicts,
        lost=received.lost,
        checked=received.checks,
        speed=speed,
        microseconds=scoring_time(detector, max(files, key=lambda file: len(file.rows))),
        bundle_bytes=bundle.stat().st_size,
        training_s=training_s,
        files=_write(plan, run, bundle, evaluation, verdicts, received.events, folder),
        total_s=time.monotonic() - began_s,
    )
    (folder / MARK).write_text(json.dumps(summary.document(), indent=1) + "\n", encoding="utf-8")
    return summary


def _check_labels(plan: Plan, columns: Columns) -> None:
    """Before minutes of training: the watched files can be read, and can be judged."""
    sessions = recorded.read(plan.watched_paths, columns).sessions
    if all(session.labels is None for session in sessions):
        raise DataError(
            "no labels in the files to watch",
            file=str(plan.watched_paths[0]),
            expected=f"a 0/1 column {columns.label!r} in at least one of {len(plan.watch)}",
            received="none",
            action="Name the column with --label.",
        )


def _train(plan: Plan, folder: Path, columns: Columns, screen: Screen) -> Run:
    recording = recorded.read(plan.train, columns)
    for note in recording.notes:
        screen.say(note)
    with screen.progress() as progress:
        run, shift = training.train(recording, plan.settings, folder, progress=progress)
    for note in run.record.notes[len(recording.notes) :]:
        screen.say(note)
    screen.say(shift.advice(baseline=plan.settings.baseline.samples))
    told = run.record.training
    fits = ", ".join(f"{name} {fit.epochs} epochs to {fit.held_out_loss:.4f}" for name, fit in told.fits.items())
    screen.say(f"trained on {told.windows} windows; held-out loss: {fits}")
    return run


def _convert(run: Run, output: Path, screen: Screen) -> Path:
    converted = conversion.convert(run, name=output.stem)
    screen.say(f"\nthe bundle, as `edge-vae inspect {output}` shows it:\n{describe.text(converted.bundle)}")
    for line in converted.fallbacks:
        screen.say(line)
    if refused := parity.failures(converted.parity):
        what = f"{run.folder}: the gate refuses the model in every precision"
        raise parity.refusal(what, refused, action="Train with other settings, or more data.")
    conversion.write(converted, output, run)
    return output


def _evaluate(bundle: Path, plan: Plan, columns: Columns, screen: Screen) -> Evaluation:
    evaluation = evaluating.evaluate(scoring.subject(bundle), plan.watched_paths, columns, stride=None)
    screen.say(f"\n{evaluation.table()}")
    return evaluation


def _watch(
    plan: Plan,
    run: Run,
    bundle: Path,
    folder: Path,
    *,
    speed: float,
    own_broker: AbstractContextManager[RunningBroker],
    screen: Screen,
) -> Subscriber:
    """A subscriber, and what it received while the agent replayed the watched files."""
    with (
        own_broker as running,
        Subscriber(running.mqtt, status_topic=STATUS_TOPIC, show=lambda one: screen.say(one.text)) as subscriber,
    ):
        screen.say(_watching(running, folder, speed))
        config = agent_config(folder / "state", running.mqtt, bundle, plan, speed=speed, rate_hz=run.record.rate_hz)
        with agent(config, folder) as watching:
            subscriber.listen(lambda: watching.ended)
    return subscriber


def _watching(running: RunningBroker, folder: Path, speed: float) -> str:
    mqtt = running.mqtt
    return (
        f"\n{running.name} listens on {mqtt.host}:{mqtt.port}, a subscriber on {mqtt.base_topic}/#; the agent starts:\n"
        f"edge-vae run --config {folder / 'agent.toml'} --once\n"
        f"every watched recording at the same time, {speed:.3g} times as fast as it was taken"
    )


def _judge(files: Sequence[Watched], events: Sequence[Received]) -> list[Verdict]:
    alarms = [received for received in events if received.event.event in ("raised", "cleared")]
    return [
        verdict.judge(file, [received for received in alarms if received.event.asset == file.asset]) for file in files
    ]


def _write(
    plan: Plan,
    run: Run,
    bundle: Path,
    evaluation: Evaluation,
    verdicts: Sequence[Verdict],
    events: Sequence[Received],
    folder: Path,
) -> dict[str, Path]:
    """Write events and pictures; everything that lies in the folder now, by what it is."""
    (folder / "events.jsonl").write_bytes(b"".join(received.payload + b"\n" for received in events))
    threshold, title = evaluation.rows[0].threshold, f"What the subscriber received: {plan.name}"
    return {
        "bundle": bundle,
        "run": run.folder,
        "config": folder / "agent.toml",
        "events": folder / "events.jsonl",
        "demo": picture.draw(verdicts, threshold=threshold, title=title, file=folder / "demo.png"),
        "loss": run.folder / "loss.png",
        **{path.stem: path for path in evaluating.draw(evaluation, folder)},
    }
