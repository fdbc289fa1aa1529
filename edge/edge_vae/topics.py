"""The MQTT topics of one agent."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Topics", "topic_level"]

_LEVEL_BYTES = 255


def topic_level(name: str, *, what: str) -> str:
    """The name itself, if it can stand as one level of an MQTT topic.

    Args:
        name: Of a site, node or asset, or the base of all topics.
        what: How to call it in the error.

    Raises:
        ValueError: It is empty, longer than 255 bytes, starts with `$`, or holds `+`, `#`, `/` or a control character.
    """
    good = name.isprintable() and not set(name) & set("+#/") and not name.startswith("$")
    if not good or not 1 <= len(name.encode(errors="replace")) <= _LEVEL_BYTES:
        msg = f"expected {what} of 1 to {_LEVEL_BYTES} bytes, without + # / $ or control characters, received {name!r}"
        raise ValueError(msg)
    return name


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one agent: `<base>/<site>/<node>/...`.

    Raises:
        ValueError: One of the names cannot be a level of a topic.
    """

    base: str
    site: str
    node: str

    def __post_init__(self) -> None:
        for what in ("base", "site", "node"):
            topic_level(getattr(self, what), what=what)

    @property
    def status(self) -> str:
        """Where birth and last will go."""
        return f"{self.base}/{self.site}/{self.node}/status"

    def state(self, asset: str) -> str:
        """Where the present state of an asset goes."""
        return self._of(asset, "state")

    def event(self, asset: str) -> str:
        """Where the events of an asset go."""
        return self._of(asset, "event")

    def _of(self, asset: str, leaf: str) -> str:
        return f"{self.base}/{self.site}/{self.node}/{topic_level(asset, what='asset')}/{leaf}"
