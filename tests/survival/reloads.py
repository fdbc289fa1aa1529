"""Configurations that are read anew while alarms are raised: good ones, those that cannot be used, and bad bundles."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

from agent_process import AgentProcess
from broker import DEADLINE_S, Subscriber, program
from damage import DAMAGES
from edge_vae.agent import read_whole
from edge_vae.bundle import Bundle, Channel
from edge_vae.errors import EX_CONFIG, ConfigError
from plain_bundle import plain_bundle, write_plain_bundle
from survival.run import ROWS, Run

__all__ = ["bundle_damaged", "configuration_changed", "configuration_damaged"]

COMMAND = "edge-vae/plant-1/gateway-1/pump-1/cmd/reload"
KEPT = "configuration kept, the new one cannot be used error="
TAKEN = "configuration in force, read anew"
OF_BYTES = [DAMAGES[name] for name in ("flipped", "truncated", "zeroed", "overwritten", "lengthened")]
"""What becomes of a small file."""


def configuration_changed(run: Run) -> None:
    """SIGHUP with another sound configuration or bundle, also right before a kill: machines come, change and go."""
    for life in range(run.chance.randint(2, 4)):
        agent = run.agent()
        agent.wait_told("READY=1")
        if away := run.chance.random() < 0.3:
            run.kill_broker()  # alarms of a machine that has gone wait for it too
        for number in range(run.chance.randint(1, 4)):
            run.some_time(0.5)
            change(run, version=2 + 10 * life + number)
            agent.reload()
        if run.chance.random() < 0.5:
            agent.wait_for_log(TAKEN)
            run.some_time(0.5)
        else:
            run.some_time(0.3)  # the signal is answered within 0.2 s
        run.kill(agent)
        if away:
            run.broker.start()
    run.config = run.configured("pump-1", "pump-2")


def configuration_damaged(run: Run) -> None:
    """SIGHUP or `cmd/reload` with a configuration that cannot be used: all goes on; none starts with it either."""
    while_running(run, lambda: run.chance.choice([damage_configuration, wish_in_vain])(run))
    damage_configuration(run)
    starts_with_none_of_it(run)
    run.config = run.configured("pump-1", "pump-2")


def bundle_damaged(run: Run) -> None:
    """The same with a bundle that is damaged, scores otherwise than it says, or is of another machine's channels."""
    sound = run.bundle.read_bytes()
    while_running(run, lambda: run.chance.choice([damage_bundle, lying_bundle, foreign_bundle])(run.bundle, run.chance))
    run.bundle.write_bytes(sound)
    damage_bundle(run.bundle, run.chance)
    starts_with_none_of_it(run)
    run.bundle.write_bytes(sound)


def while_running(run: Run, harm: Callable[[], object]) -> None:
    """Harm what agents are to read anew, while they raise alarms; their machines go on as if nothing had happened."""
    sound = {file: file.read_bytes() for file in (run.config, run.bundle)}
    replies = run.subscriber(f"{COMMAND}/reply")
    for _ in range(run.chance.randint(1, 3)):
        agent = run.agent()
        agent.wait_told("READY=1")
        agent.wait_for_log("topic=edge-vae/plant-1/gateway-1/+/cmd/+")
        for refused in range(1, run.chance.randint(2, 5)):
            run.some_time(0.3)
            harm()
            ask_in_vain(run, agent, replies, refused)
        if run.chance.random() < 0.5:
            for asset in ("pump-1", "pump-2"):
                agent.wait_for_log(f"source exhausted asset={asset} samples={ROWS} windows={ROWS - 3}")
            agent.process.terminate()
            run.done(agent)
        else:
            run.some_time(0.3)
            run.kill(agent)
        assert TAKEN not in agent.log, agent.log
        assert "pipeline broke" not in agent.log, agent.log
        for file, content in sound.items():
            file.write_bytes(content)


def ask_in_vain(run: Run, agent: AgentProcess, replies: Subscriber, refused: int) -> None:
    """Have an agent read anew what it cannot use; it says so, this being so many times."""
    if run.chance.random() < 0.5:
        agent.reload()
    else:
        answered = len(replies.messages)
        publish(run, COMMAND, json.dumps({"id": str(refused)}))
        reply = json.loads(replies.wait_for_count(answered + 1)[-1].payload)
        assert (reply["id"], reply["ok"]) == (str(refused), False), reply
        assert reply["message"].startswith("configuration kept: "), reply
    agent.wait_told("RELOADING=1", "READY=1")
    agent.wait_for_log(KEPT, count=refused)


def starts_with_none_of_it(run: Run) -> None:
    """A fresh agent says what is wrong and ends, so that systemd does not start it again; what is stored stays."""
    refused = run.agent()
    assert refused.wait() == EX_CONFIG, refused.log
    assert "Traceback" not in refused.log


def change(run: Run, *, version: int) -> None:
    """Other machines, other alarms, or another version of the bundle."""
    assets = run.chance.sample(["pump-1", "pump-2", "pump-3"], run.chance.randint(1, 3))
    run.config = run.configured(*assets, severity=run.chance.choice(["warning", "critical"]))
    if run.chance.random() < 0.5:
        write_plain_bundle(run.bundle, version=version)


def damage_configuration(run: Run) -> None:
    """What is no configuration any more."""
    sound = run.configured("pump-1", "pump-2").read_bytes()
    while True:
        run.config.write_bytes(run.chance.choice(OF_BYTES)(sound, run.chance))
        try:
            read_whole(run.config)
        except ConfigError:
            return


def wish_in_vain(run: Run) -> None:
    """What is a configuration, and not one for a running agent; or none at all."""
    match run.chance.randrange(4):
        case 0:
            run.configured("pump-1", "pump-3", more="[outbox]\nmax_bytes = 70000\n")
        case 1:
            run.configured("pump-1", "pump-3", sources={"pump-3": {"type": "stdin"}})
        case 2:
            run.configured("pump-1", "pump-3", more="[mqtt2]\n")
        case _:
            run.config.unlink(missing_ok=True)


def damage_bundle(bundle: Path, chance: random.Random) -> None:
    """What is no bundle any more, or is away."""
    sound = plain_bundle().pack()
    while (damaged := chance.choice(OF_BYTES)(sound, chance)) == sound:
        pass
    bundle.write_bytes(damaged)
    if chance.random() < 0.1:
        bundle.unlink()


def lying_bundle(bundle: Path, chance: random.Random) -> None:
    """A whole one that does not give its golden scores."""
    sound = plain_bundle()
    golden = sound.golden | {"score": sound.golden["score"] + chance.uniform(0.5, 5.0)}
    Bundle(sound.manifest, sound.models, golden, sound.reference).write(bundle)


def foreign_bundle(bundle: Path, chance: random.Random) -> None:
    """A whole one of channels that this machine has not."""
    write_plain_bundle(bundle, channels=(Channel(chance.choice(["pressure", "flow"]), 0.0, 1.0),))


def publish(run: Run, topic: str, message: str) -> None:
    command = [program("mosquitto_pub", package="mosquitto-clients"), "-h", run.broker.host, "-p", str(run.broker.port)]
    subprocess.run([*command, "-q", "1", "-t", topic, "-m", message], check=True, timeout=DEADLINE_S)
