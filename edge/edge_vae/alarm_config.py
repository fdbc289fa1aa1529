"""The parts of `agent.toml` that say when there is an alarm, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from edge_vae.annunciator import Annunciation, below
from edge_vae.event import Severity
from edge_vae.limits import Limit, LimitKind
from edge_vae.toml_table import Mistake, Table

__all__ = ["AlarmConfig", "LimitConfig", "limit_mistakes", "limits_of"]

MAX_DELAY_WINDOWS = 1000
MAX_DELAY_SAMPLES = 1_000_000
MAX_SPAN_SAMPLES = 10_000
MAX_ALARM_S = 7 * 86400.0
EXPECTED_DELAY = f"[k, n] with 1 <= k <= n <= {MAX_DELAY_WINDOWS}, for k of the last n windows"

Windows = Annotated[int, Meta(ge=1, le=MAX_DELAY_WINDOWS)]
Delay = Annotated[tuple[Windows, Windows], Meta(extra={"expected": EXPECTED_DELAY})]


class AlarmConfig(Table, frozen=True, kw_only=True):
    """When scores become an alarm, where what is not set is as the bundle says, and what is told of it.

    Ratios are the alarm's peak score over the threshold. An alarm below `min_severity` stands in the state of the asset
    alone. See `Annunciation`.
    """

    on_delay: Delay | None = None
    off_delay: Delay | None = None
    deadband: Annotated[float, Meta(ge=0, lt=1)] | None = None
    severity: Severity | None = None
    warning_ratio: Annotated[float, Meta(gt=1)] | None = None
    critical_ratio: Annotated[float, Meta(gt=1)] | None = None
    min_severity: Severity | None = None
    realarm_s: Annotated[float, Meta(ge=1, le=MAX_ALARM_S)] | None = None
    update_s: Annotated[float, Meta(ge=1, le=MAX_ALARM_S)] | None = None
    flood_raises: Annotated[int, Meta(ge=1, le=1000)] | None = None
    flood_s: Annotated[float, Meta(ge=1, le=MAX_ALARM_S)] | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """No more windows can be beyond the threshold than are looked at, and some alarm must be told."""
        for name, delay in (("on_delay", self.on_delay), ("off_delay", self.off_delay)):
            if delay is not None and delay[0] > delay[1]:
                yield (name,), f"expected {EXPECTED_DELAY}, received {list(delay)}"
        yield from _severity_mistakes(self.severity, self.warning_ratio, self.critical_ratio, self.min_severity)
        if self.flood_s is not None and self.flood_raises is None:
            yield ("flood_s",), "expected flood_raises beside flood_s, received nothing"


class LimitConfig(Table, frozen=True, kw_only=True):
    """What one channel must not be, or how fast it must not change, whatever the model says; see `Limit`.

    Attributes:
        low, high: In the channel's unit.
        rate: In units a second, up or down, over `span` sample periods.
        on_delay, off_delay: In samples.
        deadband: In the unit of the limits, for each of them.
    """

    channel: Annotated[str, Meta(min_length=1, extra={"expected": "the name of a channel"})]
    low: float | None = None
    high: float | None = None
    rate: Annotated[float, Meta(gt=0)] | None = None
    span: Annotated[int, Meta(ge=1, le=MAX_SPAN_SAMPLES)] = 1
    on_delay: Annotated[int, Meta(ge=1, le=MAX_DELAY_SAMPLES)] = 1
    off_delay: Annotated[int, Meta(ge=1, le=MAX_DELAY_SAMPLES)] = 1
    deadband: Annotated[float, Meta(ge=0)] = 0.0
    severity: Severity = "warning"

    def mistakes(self) -> Iterator[Mistake]:
        """There is a limit, and a value that every one of them lets through and that clears its alarm."""
        if self.low is None and self.high is None and self.rate is None:
            yield ("channel",), "expected low, high or rate beside it, received none of them"
        if self.low is not None and self.high is not None and self.low + self.deadband > self.high - self.deadband:
            yield ("high",), f"expected at least low + 2 * deadband = {self.low + 2 * self.deadband:g}"
        if self.rate is not None and self.deadband > self.rate:
            yield ("rate",), f"expected at least the deadband of {self.deadband:g}, received {self.rate:g}"
        if self.rate is None and self.span != 1:
            yield ("span",), "expected a rate beside span, received nothing"


def limits_of(config: LimitConfig) -> tuple[Limit, ...]:
    """Those that a table sets."""
    named: tuple[tuple[LimitKind, float | None], ...]
    named = (("low", config.low), ("high", config.high), ("rate", config.rate))
    return tuple(
        Limit(
            kind, config.channel, value, on_delay=config.on_delay, off_delay=config.off_delay,
            deadband=config.deadband, span=config.span, severity=config.severity,
        )
        for kind, value in named if value is not None
    )  # fmt: skip


def limit_mistakes(limits: tuple[LimitConfig, ...], least: Severity | None) -> Iterator[Mistake]:
    """Each limit is set once, and its alarm can be told."""
    seen: set[str] = set()
    for number, config in enumerate(limits):
        for limit in limits_of(config):
            if limit.key in seen:
                yield (
                    ("limit", number, limit.kind),
                    "expected a limit that is not set in another table, received the same",
                )
            seen.add(limit.key)
        if least is not None and below(config.severity, least):
            yield (
                ("limit", number, "severity"),
                f'expected at least min_severity = "{least}", or none is ever published',
            )


def _severity_mistakes(
    given: Severity | None, warning: float | None, critical: float | None, least: Severity | None
) -> Iterator[Mistake]:
    """Ratios lead upwards, and what is published can be reached."""
    severity = given or Annunciation().severity
    if warning is not None and severity != "info":
        yield ("warning_ratio",), f'expected severity = "info" beside it, received "{severity}"'
    if critical is not None and severity == "critical":
        yield ("critical_ratio",), 'expected a lower severity beside it, received "critical"'
    if warning is not None and critical is not None and critical <= warning:
        yield ("critical_ratio",), f"expected more than warning_ratio = {warning:g}, received {critical:g}"
    highest: Severity = "critical" if critical is not None else "warning" if warning is not None else severity
    if least is not None and below(highest, least):
        yield ("min_severity",), f'expected at most "{highest}", the highest that an alarm can have, received "{least}"'
