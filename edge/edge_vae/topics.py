"""The MQTT topics of one agent."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Topics", "topic_level"]

_LEVEL_BYTES = 255
_COMMAND, _REPLY = "cmd", "reply"


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

    def command(self, asset: str, command: str) -> str:
        """Where an asset is told to do something."""
        return self._of(asset, f"{_COMMAND}/{topic_level(command, what='command')}")

    def reply(self, asset: str, command: str) -> str:
        """Where a command of an asset is answered."""
        return f"{self.command(asset, command)}/{_REPLY}"

    @property
    def commands(self) -> str:
        """The filter of all commands to this agent; it lets no reply through."""
        return f"{self.base}/{self.site}/{self.node}/+/{_COMMAND}/+"

    def commanded(self, topic: str) -> tuple[str, str] | None:
        """Asset and command of a topic that passed the filter; None if it did not, or names nothing that can be."""
        levels = topic.split("/")
        if levels[:3] != [self.base, self.site, self.node] or len(levels) != 6 or levels[4] != _COMMAND:
            return None
        try:
            return topic_level(levels[3], what="asset"), topic_level(levels[5], what="command")
        except ValueError:
            return None

    def _of(self, asset: str, leaf: str) -> str:
        return f"{self.base}/{self.site}/{self.node}/{topic_level(asset, what='asset')}/{leaf}"
