"""The files that make the agent a service of a gateway: which ones, with which text, and where they go."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from edge_vae.errors import InstallError

__all__ = [
    "AGENT_TOML",
    "BOARDS",
    "EXAMPLES",
    "KINDS",
    "File",
    "Wish",
    "board_of",
    "credentials_of",
    "everything",
    "kinds_of",
    "next_steps",
    "plan",
    "share",
]

SYSTEM, DROP_INS = "etc/systemd/system", "etc/systemd/system/edge-vae-agent.service.d"
PLACES = {
    "boot": "boot/firmware",
    "drop-ins": DROP_INS,
    "edge-vae": "etc/edge-vae",
    "journald.conf.d": "etc/systemd/journald.conf.d",
    "modules-load.d": "etc/modules-load.d",
    "system.conf.d": "etc/systemd/system.conf.d",
    "systemd": SYSTEM,
    "sysusers.d": "etc/sysusers.d",
    "tmpfiles.d": "etc/tmpfiles.d",
    "udev": "etc/udev/rules.d",
}
"""Where a file goes, by the name of the folder that it ships in."""
AGENT_TOML = PurePosixPath("/etc/edge-vae/agent.toml")
EXAMPLES = {
    AGENT_TOML,
    PurePosixPath("/boot/firmware/edge-vae.txt"),
    PurePosixPath("/etc/udev/rules.d/71-edge-vae-sensors.rules"),
}
"""Files to be filled in: once there they are the user's, and neither overwritten nor removed."""
BASE = (
    "systemd/edge-vae-agent.service",
    "sysusers.d/edge-vae.conf",
    "tmpfiles.d/edge-vae.conf",
    "udev/70-edge-vae.rules",
    "edge-vae/agent.toml",
)
KINDS = {
    "serial": ("systemd/drop-ins/serial.conf", "modules-load.d/edge-vae-serial.conf"),
    "iio": ("systemd/drop-ins/iio.conf", "modules-load.d/edge-vae-iio.conf", "systemd/edge-vae-trigger@.service"),
}
"""What a kind of source needs besides; those that read the network, files or standard input need nothing."""
LOCAL_ONLY = "systemd/drop-ins/local-only.conf"
SHIPPED_PROGRAM = "/opt/edge-vae/bin/edge-vae"
STATE_MOUNT = r"var-lib-private-edge\x2dvae.mount"
CREDENTIALS = PurePosixPath("/", DROP_INS, "credentials.conf")
CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
"""What may stand in a unit as it is: no folder, no blank, none of systemd's signs."""
BOARDS = {
    "raspberry-pi-zero-2-w": "Raspberry Pi Zero 2 W",
    "raspberry-pi-4": "Raspberry Pi 4",
    "raspberry-pi-5": "Raspberry Pi 5",
    "jetson-orin-nano": "Orin Nano",
}
"""Every board with a profile, and what its model is called in the device tree, among other words."""
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 (names that are refused, none is written)
"""Where the unit cannot see a program: ProtectHome= and PrivateTmp=."""


@dataclass(frozen=True, slots=True)
class File:
    """A file as it should be, readable for everybody: its absolute path on the gateway, and its text."""

    path: PurePosixPath
    text: str

    def under(self, root: Path) -> Path:
        """Where it lies when the gateway's `/` is at `root`."""
        return root / self.path.relative_to("/")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a gateway is for.

    Attributes:
        program: The installed command `edge-vae`, an absolute path on the gateway.
        kinds: Kinds of sources that need a device: names in `KINDS`.
        board: A name in `BOARDS`; None for a machine without profile.
        credentials: Names of secrets that lie in /etc/edge-vae and that systemd hands to the agent.
        local_only: Whether the agent may reach nothing but this machine.
        read_only_root: Whether the root is never written, and state has a partition of its own.
    """

    program: PurePosixPath
    kinds: frozenset[str] = frozenset()
    board: str | None = None
    credentials: tuple[str, ...] = ()
    local_only: bool = False
    read_only_root: bool = False


def share() -> Path:
    """The folder of the files that are installed: in a checkout, else where the wheel put it.

    Raises:
        InstallError: There is none.
    """
    import sysconfig

    checkout = Path(__file__).resolve().parents[2] / "firmware_config"
    wheel = Path(sysconfig.get_path("data"), "share", "edge-vae")
    for place in (checkout, wheel):
        if (place / BASE[0]).is_file():
            return place
    raise InstallError("the files of the service", expected=f"a folder {wheel}", action="Install edge-vae with pip.")


def kinds_of(raw: Mapping[str, Any]) -> frozenset[str]:
    """The kinds of devices that the sources of a parsed agent.toml read; Modbus RTU is a serial line.

    Everything that is not understood is left alone: whether the file is right is for `check-config` to say.
    """
    return frozenset(kind for source in _sources(raw) if (kind := _kind(source)))


def credentials_of(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """The secrets of a parsed agent.toml that are named without a folder, as credentials of systemd are."""
    tables = [raw.get("mqtt"), *_sources(raw)]
    tables += [table.get("tls") for table in tables if isinstance(table, dict)]
    named = {
        value
        for table in tables
        if isinstance(table, dict)
        for key, value in table.items()
        if key.endswith("_file") and isinstance(value, str) and CREDENTIAL_NAME.fullmatch(value)
    }
    return tuple(sorted(named))


def board_of(model: str) -> str | None:
    """The profile for a board, by the model in its device tree; None if there is none."""
    return next((board for board, words in BOARDS.items() if words in model), None)


def plan(ships: Path, wish: Wish) -> list[File]:
    """Every file that a gateway should hold.

    Args:
        ships: The folder that `share` found.
        wish: What the gateway is for.

    Raises:
        InstallError: The program lies where the hardened unit cannot run it.
    """
    _check_program(wish.program)
    chosen = [ships / name for name in (*BASE, *(name for kind in sorted(wish.kinds) for name in KINDS[kind]))]
    chosen += [ships / LOCAL_ONLY] if wish.local_only else []
    chosen += _below(ships / "boards" / wish.board) if wish.board else []
    chosen += _below(ships / "read-only-root") if wish.read_only_root else []
    files = [_file(path) for path in chosen]
    files[0] = replace(files[0], text=files[0].text.replace(SHIPPED_PROGRAM, str(wish.program)))
    return files + ([_credentials(wish.credentials)] if wish.credentials else [])


def everything(ships: Path) -> list[PurePosixPath]:
    """The paths of all files that any wish could have put on a gateway, but for the examples."""
    shipped = [ships / name for name in (*BASE, *(name for kind in KINDS.values() for name in kind), LOCAL_ONLY)]
    shipped += [path for folder in ("boards", "read-only-root") for path in _below(ships / folder)]
    return sorted({_file(path).path for path in shipped} - EXAMPLES | {CREDENTIALS})


def next_steps(wish: Wish, root: Path) -> Iterator[str]:
    """What is left for a person to do once the files are there, in order, one line each."""
    here = root == Path("/")
    systemctl = "systemctl" if here else f"systemctl --root={root}"
    yield f"put bundles beside {AGENT_TOML}, edit that, and try it: {wish.program} check-config {AGENT_TOML} --online"
    yield from (f"put the secret {name} into /etc/edge-vae/{name}, mode 0600" for name in wish.credentials)
    if here:
        yield "systemd-sysusers && systemd-tmpfiles --create && udevadm control --reload && udevadm trigger"
        yield "systemctl daemon-reload"
    if "iio" in wish.kinds:
        yield f"{systemctl} enable edge-vae-trigger@1000, for a sensor that a timer shall read, 1000 times a second"
    if wish.read_only_root:
        yield "make the partition of the state: mkfs.ext4 -L edge-vae /dev/...; the rest is in docs/boards.md"
        yield f"{systemctl} enable '{STATE_MOUNT}'"
    if (wish.board or "").startswith("raspberry-pi"):
        yield "add the line `include edge-vae.txt` to /boot/firmware/config.txt"
        yield "add cgroup_enable=memory to /boot/firmware/cmdline.txt: without it MemoryMax= has no effect there"
    yield f"{systemctl} enable {'--now ' if here else ''}edge-vae-agent"


def _sources(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    pipelines = raw.get("pipeline")
    tables = [table for table in pipelines if isinstance(table, dict)] if isinstance(pipelines, list) else []
    sources = [source for table in tables for source in _listed(table.get("source"))]
    return [source for source in sources if isinstance(source, dict)]


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _kind(source: Mapping[str, Any]) -> str | None:
    match source.get("type"):
        case ("serial" | "iio") as kind:
            return str(kind)
        case "modbus" if any(isinstance(value, str) and value.startswith("/dev/") for value in source.values()):
            return "serial"
    return None


def _check_program(program: PurePosixPath) -> None:
    text = str(program)
    if not program.is_absolute() or any(character.isspace() or character in "%$\\\"';" for character in text):
        raise InstallError(
            "the program of the service",
            expected="an absolute path without blanks, quotes, % and $",
            received=text,
            action="Install it into /opt/edge-vae, and name that with --prefix.",
        )
    if any(program.is_relative_to(hidden) for hidden in HIDDEN):
        raise InstallError(
            "the program of the service",
            expected="a place that the hardened unit can see, such as /opt/edge-vae",
            received=text,
            action="Install it there, and name that with --prefix.",
        )


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _file(shipped: Path) -> File:
    return File(PurePosixPath("/", PLACES[shipped.parent.name], shipped.name), shipped.read_text("utf-8"))


def _credentials(names: Iterable[str]) -> File:
    lines = [f"LoadCredential={name}:/etc/edge-vae/{name}" for name in names]
    about = "# The secrets that agent.toml names: root's alone (mode 0600), read by systemd and handed to the agent."
    return File(CREDENTIALS, "\n".join([about, "[Service]", *lines, ""]))
