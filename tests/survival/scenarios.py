"""What an agent must survive: each scenario does one kind of harm at random moments; then everything is delivered."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from survival.reloads import bundle_damaged, configuration_changed, configuration_damaged
from survival.run import ILL, TURN, WELL, Run

__all__ = ["SCENARIOS", "Scenario"]

Scenario = Callable[[Run], None]
"""Harms the agent, the broker or what is between them; whoever calls it then settles the run and counts."""


def agent_killed(run: Run) -> None:
    """SIGKILL of the agent at random moments, also while it starts."""
    for _ in range(run.chance.randint(3, 6)):
        agent = run.agent()
        run.some_time()
        run.kill(agent)


def broker_killed(run: Run) -> None:
    """SIGKILL of the broker while alarms are on their way; it comes back some time later."""
    agent = run.agent("--once")
    for _ in range(run.chance.randint(3, 5)):
        run.some_time(0.8)
        run.kill_broker()
        run.some_time(0.4)
        run.broker.start()
    run.done(agent)


def both_killed(run: Run) -> None:
    """SIGKILL of the broker and, a moment later, of the agent: alarms that no broker has seen outlive it."""
    for _ in range(run.chance.randint(2, 4)):
        agent = run.agent()
        run.some_time()
        run.kill_broker()
        run.some_time(0.6)
        run.kill(agent)
        run.broker.start()


def broker_frozen(run: Run) -> None:
    """SIGSTOP of the broker: connections stay, and nobody answers; then the agent is killed, or the broker goes on."""
    for _ in range(run.chance.randint(1, 3)):
        agent = run.agent()
        run.some_time()
        run.broker.freeze()
        run.some_time(0.8)
        if run.chance.random() < 0.5:
            run.broker.thaw()
            run.some_time(0.5)
        run.kill(agent)
        run.broker.thaw()


def connection_half_open(run: Run) -> None:
    """The network passes nothing on and keeps connections open; later it resets them, or goes on."""
    agent = run.agent("--once")
    for _ in range(run.chance.randint(1, 3)):
        run.some_time(0.8)
        run.proxy.pause()
        run.some_time(0.6)
        if run.chance.random() < 0.5:
            run.proxy.cut()
        run.proxy.resume()
    run.done(agent)


def connection_reset(run: Run) -> None:
    """Connections are reset again and again, between a message and its acknowledgement too."""
    agent = run.agent("--once")
    for _ in range(run.chance.randint(3, 8)):
        run.some_time(0.4)
        run.proxy.cut()
    run.done(agent)


def clock_set(run: Run) -> None:
    """The system clock jumps by hours, both ways, while the agent runs and between its lives."""
    offset, fresh = run.folder / "offset", run.folder / "offset.new"
    offset.write_text("0")
    run.environment |= {"LD_PRELOAD": str(jumping_clock(run.folder)), "CLOCK_OFFSET": str(offset)}
    for _ in range(run.chance.randint(2, 4)):
        agent = run.agent()
        for _ in range(3):
            run.some_time(0.6)
            fresh.write_text(str(run.chance.randint(-12, 12) * 3600))
            fresh.replace(offset)
        run.kill(agent)


def two_agents_of_one_name(run: Run) -> None:
    """Another agent with the same client id: the broker parts from the one whenever the other comes."""
    folder = run.folder / "other"
    folder.mkdir()
    agents = [run.agent("--once"), run.agent("--once", config=run.configured("pump-3", folder=folder))]
    for agent in agents:
        run.done(agent)


def source_misbehaves(run: Run) -> None:
    """A source floods, stutters, sends NaN and garbage, goes back in time, and ends in the middle of a line."""
    config = run.configured("pump-1", sources={"pump-1": {"type": "stdin", "format": "jsonl"}})
    for _ in range(run.chance.randint(1, 2)):
        agent = run.agent("--once", config=config, stdin=subprocess.PIPE)
        assert agent.process.stdin is not None
        with suppress(BrokenPipeError), agent.process.stdin as writing:
            for piece in bad_lines(run):
                writing.write(piece)
                writing.flush()
        run.done(agent)
    run.config = run.configured("pump-1", "pump-2")


def source_dies(run: Run) -> None:
    """A serial adapter is pulled out and put back while its machine writes; another machine goes on meanwhile."""
    wire = run.wire()
    source = {"type": "serial", "port": str(wire.port), "baudrate": 9600}
    config = run.configured("pump-1", "pump-2", sources={"pump-1": source})
    for _ in range(run.chance.randint(1, 2)):
        agent = run.agent(config=config)
        for plugged in range(1, run.chance.randint(2, 4)):
            agent.wait_for_log("source connected", count=plugged)
            for row in range(run.chance.randint(1, 200)):
                wire.write(b'{"level": %f}\n' % (ILL if row // TURN % 2 else WELL))
                time.sleep(0.004)
            wire.pull()
            run.some_time(0.3)
            wire.plug()
        run.kill(agent)
    run.config = run.configured("pump-1", "pump-2")


def store_damaged(run: Run) -> None:
    """The outbox is torn, zeroed or scrambled while no agent runs; what is whole in it is saved."""
    run.kill_broker()
    agent = run.agent()
    run.some_time()
    run.kill(agent)
    run.given_up = set(run.logged)
    damage(run)
    run.broker.start()


def disk_full(run: Run) -> None:
    """No file can grow for some time, or for good in this life: pipelines wait, and go on when there is room."""
    for _ in range(run.chance.randint(1, 3)):
        agent = run.agent()
        run.some_time(1.2)
        _, most = resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (run.chance.randint(0, 60_000), most))
        run.some_time(0.8)
        if run.chance.random() < 0.7:
            resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (most, most))
            run.some_time()
        run.kill(agent)


def disk_read_only(run: Run) -> None:
    """After a power cut the file system of the state comes back read-only, as that of a failing SD card does."""
    run.mount_state()
    agent = run.agent()
    run.some_time()
    run.kill(agent)
    run.remount_state("ro")
    refused = run.agent()
    assert refused.wait() == 1, refused.log
    assert "Traceback" not in refused.log
    run.remount_state("rw")


def bad_lines(run: Run) -> Iterator[bytes]:
    """Lines of a source, most of them of use."""
    at_s = time.time()
    for row in range(600):
        value: float | str | None = ILL if row // 8 % 2 else WELL
        match run.chance.randrange(40):
            case 0:
                value = None
            case 1:
                value = run.chance.choice(["NaN", "1e999", "full", ""])
            case 2:
                at_s += run.chance.choice([-7200.0, 3600.0, -0.3])
            case 3:
                yield run.chance.choice([b"{\n", b"\xff\xfe\n", b"[1, 2]\n", b'{"time": 1e30, "level": 1}\n', b"\n"])
            case 4:
                run.some_time(0.05)
        at_s += 0.1
        line = json.dumps({"time": at_s, "level": value}).encode() + b"\n"
        yield line[: len(line) // 2]
        yield line[len(line) // 2 :]
    yield b'{"time": 1'


def damage(run: Run) -> None:
    """Harm the database or its journal, if it is there."""
    files = [file for file in run.state_dir.glob("outbox.db*") if file.stat().st_size]
    if not files:
        return
    file = run.chance.choice(files)
    size = file.stat().st_size
    at = run.chance.randrange(size)
    with file.open("r+b") as opened:
        match run.chance.randrange(3):
            case 0:
                opened.truncate(at)
            case 1:
                opened.seek(at)
                opened.write(bytes(min(4096, size - at)))
            case _:
                opened.seek(at)
                opened.write(run.chance.randbytes(min(512, size - at)))


def jumping_clock(folder: Path) -> Path:
    """The shared object that is preloaded to set an agent's clock."""
    made, source = folder / "jumping_clock.so", Path(__file__).with_name("jumping_clock.c")
    if not made.exists():
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    return made


SCENARIOS: Mapping[str, Scenario] = {
    "agent killed": agent_killed,
    "broker killed": broker_killed,
    "broker and agent killed": both_killed,
    "broker frozen": broker_frozen,
    "connection half-open": connection_half_open,
    "connection reset": connection_reset,
    "clock set by hours": clock_set,
    "two agents, one client id": two_agents_of_one_name,
    "source misbehaves": source_misbehaves,
    "source dies": source_dies,
    "store damaged": store_damaged,
    "disk full": disk_full,
    "disk read-only": disk_read_only,
    "configuration changed": configuration_changed,
    "configuration damaged": configuration_damaged,
    "bundle damaged": bundle_damaged,
}
"""Every scenario by name."""
