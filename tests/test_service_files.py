"""The files of the service: each is parsed by the program it is for, staged as `edge-vae install-service` puts it."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import DEADLINE_S, program
from edge_vae import cli, install, service
from edge_vae.errors import EX_CONFIG, InstallError
from edge_vae.service import BOARDS, KINDS, File, Wish

ROOT = Path(__file__).parents[1]
SHIPS = ROOT / "firmware_config"
UNIT = "etc/systemd/system/edge-vae-agent.service"
PROGRAM = PurePosixPath("/bin/true")
"""A program that is everywhere, for systemd-analyze looks for it."""
MAX_EXPOSURE = {"": 1.5, "serial": 1.7, "iio": 1.7, "serial iio": 1.7, "local-only": 1.3, "serial local-only": 1.6}
"""The most that systemd may find fault with, by what the unit is opened for; docs/boards.md tells the same."""
OFFLINE_SINCE, VERIFY_RULES_SINCE = 250, 254
"""The versions of systemd from which it can judge a unit, and device rules, as files."""


def run(name: str, *words: object, package: str = "systemd") -> subprocess.CompletedProcess[str]:
    command = [program(name, package=package), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def quiet(name: str, *words: object) -> None:
    """A program of systemd's has nothing to say about a file."""
    said = run(name, *words)
    assert (said.returncode, said.stderr, said.stdout) == (0, "", "")


def systemd_version() -> int:
    return int(re.search(r"systemd (\d+)", run("systemd-analyze", "--version").stdout)[1])


def stage(root: Path, **wishes: object) -> Path:
    """A scratch root that holds what a gateway with these wishes should."""
    root.mkdir(exist_ok=True)
    install.write(install.compare(service.plan(SHIPS, Wish(PROGRAM, **wishes)), root), root)
    return root


# each kind of file by its own program


def check_units(path: Path, scratch: Path) -> None:
    name = path.name.replace("@.", "@1000.")  # a template is judged as one of its instances
    shutil.copy(path, scratch / name)
    (scratch / name).write_text(path.read_text().replace(service.SHIPPED_PROGRAM, str(PROGRAM)))
    quiet("systemd-analyze", "verify", scratch / name)


def check_drop_in(path: Path, scratch: Path) -> None:
    (scratch / "some.service.d").mkdir()
    shutil.copy(path, scratch / "some.service.d")
    (scratch / "some.service").write_text(f"[Service]\nExecStart={PROGRAM}\n")
    quiet("systemd-analyze", "verify", scratch / "some.service")


def check_sysusers(path: Path, scratch: Path) -> None:
    (scratch / "etc").mkdir()
    made = run("systemd-sysusers", f"--root={scratch}", path)
    assert made.returncode == 0, made.stderr
    groups = (scratch / "etc" / "group").read_text()
    assert {line.split()[1] for line in path.read_text().splitlines() if line[:2] == "g "} == set(
        re.findall(r"^\w+", groups, re.MULTILINE)
    )


def check_tmpfiles(path: Path, scratch: Path) -> None:
    governor = scratch / "sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.touch()
    text = path.read_text()
    if os.getuid() != 0:  # only root may give files to root
        path = scratch / path.name
        path.write_text(text.replace("root root", "-    -   "))
    quiet("systemd-tmpfiles", f"--root={scratch}", "--create", path)
    for kind, place in re.findall(r"^([dL]) +(\S+)", text, flags=re.MULTILINE):
        assert os.path.lexists(scratch / place[1:]), (kind, place)
    assert governor.read_text() == ("ondemand" if "scaling_governor" in text else "")


RULE = re.compile(
    r'(ACTION|SUBSYSTEM|KERNEL|DRIVERS|ENV\{\w+\}|ATTR\{\w+\}|GROUP|MODE|RUN|SYMLINK)(==|!=|\+=|=)"[^"]*"'
)


def check_udev(path: Path, scratch: Path) -> None:
    for line in path.read_text().splitlines():
        rule = re.sub(r"^#(?=[A-Z]+==)", "", line)  # what is commented out must work once it is not
        if rule and not rule.startswith("#"):
            assert all(RULE.fullmatch(part) for part in rule.split(", ")), rule
            assert set(re.findall(r'GROUP="(\w+)"|chgrp -R (\w+)', rule)) <= {("iio", ""), ("", "iio")}
    if systemd_version() >= VERIFY_RULES_SINCE and shutil.which("udevadm"):
        assert run("udevadm", "verify", path, package="udev").returncode == 0


def check_modules(path: Path, scratch: Path) -> None:
    names = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert names
    assert all(re.fullmatch(r"[a-z0-9_-]+", name) for name in names)


def check_manager(path: Path, scratch: Path) -> None:
    settings = settings_of(path)
    assert set(settings) == {"RuntimeWatchdogSec", "RebootWatchdogSec"}
    for span in settings.values():
        microseconds = int(re.search(r"[μu]s: (\d+)", run("systemd-analyze", "timespan", span).stdout)[1])
        assert microseconds <= 255e6  # what a Tegra takes; the driver of a Raspberry Pi takes any


def check_journald(path: Path, scratch: Path) -> None:
    assert settings_of(path) == {"Storage": "volatile", "RuntimeMaxUse": "16M"}


OVERLAYS = {
    "ads1115": {"addr", "cha_enable", "cha_cfg", "cha_datarate", "cha_gain"},
    "disable-bt": set(),
    "i2c-rtc": {"ds3231"},
    "i2c-sensor": {"addr", "bme280", "mpu6050", "int_pin"},
    "mcp3008": {"spi0-0-present", "spi0-0-speed"},
    "uart0-pi5": set(),
}
PARAMETERS = {"i2c_arm", "i2c_arm_baudrate", "rtc_bbat_vchg", "watchdog"}
"""Names and parameters as in the README of the firmware's overlays, kernel 6.12."""
CONFIG_TXT_WIDTH = 98
"""The firmware reads no more of a line."""


def check_config_txt(path: Path, scratch: Path) -> None:
    for line in path.read_text().splitlines():
        assert len(line) <= CONFIG_TXT_WIDTH, line
        key, _, value = re.sub(r"^#(?=\w)", "", line).partition("=")
        names = [part.partition("=")[0] for part in value.split(",")]
        if key == "dtoverlay":
            assert set(names[1:]) <= OVERLAYS[names[0]], line
        elif key == "dtparam":
            assert set(names) <= PARAMETERS, line
        else:
            assert line == "" or line.startswith("# ") or line == "#enable_uart=1", line


CHECKS: dict[str, Callable[[Path, Path], None]] = {
    "boot": check_config_txt,
    "drop-ins": check_drop_in,
    "journald.conf.d": check_journald,
    "modules-load.d": check_modules,
    "system.conf.d": check_manager,
    "systemd": check_units,
    "sysusers.d": check_sysusers,
    "tmpfiles.d": check_tmpfiles,
    "udev": check_udev,
}
FILES = sorted(path for path in SHIPS.rglob("*") if path.is_file() and path.parent.name in CHECKS)


def settings_of(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(path)
    (section,) = parser.sections()
    return dict(parser[section])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SHIPS)))
def test_its_program_takes_the_file(path: Path, tmp_path: Path) -> None:
    CHECKS[path.parent.name](path, tmp_path)


def test_a_folder_has_a_check_and_a_place() -> None:
    assert set(service.PLACES) == set(CHECKS) | {"edge-vae"}


def test_a_misspelt_setting_would_be_noticed(tmp_path: Path) -> None:
    path = tmp_path / "wrong.conf"
    path.write_text("[Service]\nLoadCredentials=x\n")
    with pytest.raises(AssertionError, match="LoadCredentials"):
        check_drop_in(path, tmp_path)


# the unit as a whole


@pytest.mark.parametrize("opened", MAX_EXPOSURE, ids=lambda opened: opened or "unit")
def test_unit_is_hardened(opened: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = set(opened.split())
    root = stage(
        tmp_path, kinds=frozenset(words & set(KINDS)), local_only="local-only" in words, board="raspberry-pi-4"
    )
    quiet("systemd-analyze", "verify", root / UNIT)
    if systemd_version() < OFFLINE_SINCE:
        pytest.skip(f"systemd cannot judge a file, {OFFLINE_SINCE} and later can")
    judged = run("systemd-analyze", "security", "--offline=true", "--no-pager", root / UNIT).stdout
    exposure = float(re.search(r"Overall exposure level for .*: ([\d.]+)", judged)[1])
    with capsys.disabled():
        print(f"\nsystemd-analyze security: exposure {exposure} {opened}")  # noqa: T201 (a figure to see)
    assert exposure <= MAX_EXPOSURE[opened], judged


def test_unit_never_restarts_on_a_wrong_configuration() -> None:
    settings = dict(
        re.findall(r"^(\w+)=(.*)$", (SHIPS / "systemd/edge-vae-agent.service").read_text(), flags=re.MULTILINE)
    )
    assert settings["RestartPreventExitStatus"] == str(EX_CONFIG)
    assert (settings["Restart"], settings["Type"]) == ("always", "notify")
    assert settings["ExecReload"] == "/bin/kill -HUP $MAINPID"


# what is chosen


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ({"type": "serial", "port": "/dev/ttyUSB0"}, "serial"),
        ({"type": "modbus", "port": "/dev/ttyAMA0"}, "serial"),
        ({"type": "modbus", "host": "10.0.0.2", "port": 502}, None),
        ({"type": "iio", "device": "iio:device0"}, "iio"),
        ({"type": "mqtt", "topic": "x"}, None),
        ({"type": "opcua", "url": "opc.tcp://plc"}, None),
        ({}, None),
    ],
)
def test_sources_decide_which_devices_are_opened(source: dict[str, object], kind: str | None) -> None:
    expected = frozenset({kind} if kind else ())
    assert service.kinds_of({"pipeline": [{"source": source}, {}, 3]}) == expected
    assert service.kinds_of({"pipeline": [{"source": [source, {"type": "stdin"}]}]}) == expected
    assert service.kinds_of({"pipeline": source}) == frozenset()


VALUES = st.recursive(
    st.none() | st.integers() | st.sampled_from(["serial", "/dev/ttyS0", "modbus", ""]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["pipeline", "source", "type", "mqtt", "tls", "key_file"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(raw=st.dictionaries(st.sampled_from(["pipeline", "mqtt"]), VALUES))
def test_any_configuration_can_be_looked_at(raw: dict[str, object]) -> None:
    assert service.kinds_of(raw) <= set(KINDS)
    assert all("/" not in name for name in service.credentials_of(raw))


def test_secrets_without_a_folder_are_handed_over(tmp_path: Path) -> None:
    mqtt = {"password_file": "mqtt.pass", "tls": {"ca_file": "/etc/ssl/ca.pem", "key_file": "agent.key"}}
    source = {"type": "mqtt", "password_file": "other.pass", "tls": {"key_file": "x\nExecStart=/bin/sh"}}
    names = service.credentials_of({"mqtt": mqtt, "pipeline": [{"source": source}]})
    assert names == ("agent.key", "mqtt.pass", "other.pass")
    root = stage(tmp_path, credentials=names)
    quiet("systemd-analyze", "verify", root / UNIT)
    assert "LoadCredential=mqtt.pass:/etc/edge-vae/mqtt.pass" in (root / f"{UNIT}.d" / "credentials.conf").read_text()


@pytest.mark.parametrize(
    ("model", "board"),
    [
        ("Raspberry Pi Zero 2 W Rev 1.0\0", "raspberry-pi-zero-2-w"),
        ("Raspberry Pi 4 Model B Rev 1.5\0", "raspberry-pi-4"),
        ("Raspberry Pi 5 Model B Rev 1.0\0", "raspberry-pi-5"),
        ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0", "jetson-orin-nano"),
        ("NVIDIA Orin Nano Developer Kit\0", "jetson-orin-nano"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3\0", None),
        ("", None),
    ],
)
def test_board_is_recognised_by_its_model(model: str, board: str | None) -> None:
    assert service.board_of(model) == board


def test_every_board_has_a_profile_and_its_reasons() -> None:
    assert {path.name for path in (SHIPS / "boards").iterdir()} == set(BOARDS)
    reasons = (ROOT / "docs" / "boards.md").read_text()
    assert all(f"| {words} |" in reasons for words in BOARDS.values())
    assert all(str(exposure) in reasons for opened, exposure in MAX_EXPOSURE.items() if opened)


@pytest.mark.parametrize("board", BOARDS)
def test_no_two_files_of_a_plan_have_one_place(board: str) -> None:
    wish = Wish(PROGRAM, frozenset(KINDS), board, ("x",), local_only=True, read_only_root=True)
    places = [file.path for file in service.plan(SHIPS, wish)]
    assert len(set(places)) == len(places)
    assert set(places) <= set(service.everything(SHIPS)) | service.EXAMPLES


@pytest.mark.parametrize("place", ["/home/pi/venv", "/root/venv", "/tmp/venv", "venv", "/opt/edge vae", "/opt/50%"])
def test_a_program_that_the_unit_cannot_run_is_refused(place: str) -> None:
    with pytest.raises(InstallError, match="the program of the service"):
        service.plan(SHIPS, Wish(PurePosixPath(place, "bin", "edge-vae")))


# the command


Install = Callable[..., "tuple[int, str]"]


@pytest.fixture
def install_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Install]:
    """Runs the command on a scratch root; its status, and what it said."""

    def command(*words: str) -> tuple[int, str]:
        status = cli.run(["install-service", "--root", str(tmp_path), "--prefix", "/opt/gateway", *words])
        said = capsys.readouterr()
        return status, said.out + said.err

    before = os.umask(0o077)
    yield command
    os.umask(before)


def contents(root: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in root.rglob("*") if path.is_file()}


def test_installing_twice_changes_nothing(tmp_path: Path, install_service: Install) -> None:
    assert install_service("--source", "serial", "--board", "raspberry-pi-5", "--read-only-root")[0] == 0
    once = contents(tmp_path)
    assert "ExecStart=/opt/gateway/bin/edge-vae run" in once[tmp_path / UNIT]
    assert tmp_path / "boot/firmware/edge-vae.txt" in once
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in once)
    status, said = install_service("--source", "serial", "--board", "raspberry-pi-5", "--read-only-root")
    assert (status, contents(tmp_path)) == (0, once)
    assert "new " not in said


def test_a_changed_file_is_overwritten_by_force_alone(tmp_path: Path, install_service: Install) -> None:
    install_service()
    unit = tmp_path / UNIT
    shipped = unit.read_text()
    unit.write_text(shipped.replace("WatchdogSec=30", "WatchdogSec=300"))
    unit.with_name("gone").touch()
    (tmp_path / "etc/udev/rules.d/70-edge-vae.rules").unlink()
    before = contents(tmp_path)
    status, said = install_service()
    assert (status, contents(tmp_path)) == (1, before)
    assert "-WatchdogSec=300\n+WatchdogSec=30\n" in said
    assert "Nothing was written" in said
    assert install_service("--force")[0] == 0
    assert unit.read_text() == shipped


def test_the_configuration_decides_and_is_never_overwritten(tmp_path: Path, install_service: Install) -> None:
    install_service()
    agent_toml = tmp_path / "etc/edge-vae/agent.toml"
    ours = '[mqtt]\npassword_file = "mqtt.pass"\n[[pipeline]]\nsource = { type = "iio" }\n'
    agent_toml.write_text(ours)
    status, said = install_service("--force")
    assert (status, agent_toml.read_text()) == (0, ours)
    assert {path.name for path in (tmp_path / f"{UNIT}.d").iterdir()} == {"credentials.conf", "iio.conf"}
    assert "put the secret mqtt.pass into" in said
    assert "edge-vae-trigger@1000" in said


def test_what_another_choice_has_left_is_told(tmp_path: Path, install_service: Install) -> None:
    install_service("--source", "serial")
    assert f"left     {tmp_path / UNIT}.d/serial.conf" in install_service()[1]


def test_a_dry_run_writes_nothing(tmp_path: Path, install_service: Install) -> None:
    assert install_service("--dry-run")[0] == 0
    assert contents(tmp_path) == {}
    install_service()
    before = contents(tmp_path)
    assert install_service("--uninstall", "--dry-run")[0] == 0
    assert contents(tmp_path) == before


def test_uninstalling_leaves_the_configuration(tmp_path: Path, install_service: Install) -> None:
    install_service("--source", "iio", "--board", "jetson-orin-nano", "--read-only-root", "--local-only")
    assert install_service("--uninstall")[0] == 0
    assert set(contents(tmp_path)) == {
        tmp_path / "etc/edge-vae/agent.toml", tmp_path / "etc/udev/rules.d/71-edge-vae-sensors.rules",
    }  # fmt: skip


def test_a_configuration_that_is_no_toml_is_told_with_its_line(tmp_path: Path, install_service: Install) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("[node]\nsite =\n")
    status, said = install_service("--config", str(file))
    assert status == EX_CONFIG
    assert f"{file}:2:" in said


def test_files_are_written_whole(tmp_path: Path) -> None:
    file = File(PurePosixPath("/etc/x.conf"), "text\n")
    install.write(install.compare([file], tmp_path), tmp_path)
    assert [path.name for path in (tmp_path / "etc").iterdir()] == ["x.conf"]
