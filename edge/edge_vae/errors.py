"""What can go wrong outside this program, as one tree.

EdgeVaeError                 exit status 1
├── DataError                recorded data: file, column, row
├── TrainingError            data and settings that no model can be fitted on
├── ModelError               somebody's model that cannot be taken
├── GateError                a converted model that is not the trained one any more
├── SourceError              a sensor source that cannot be read
├── BrokerError              the MQTT broker
├── OutboxError              the store of undelivered messages
├── InferenceError           the TFLite runtime
├── InstallError             files of the service that cannot be put in place
├── MissingExtraError        an optional part that is not installed
└── SetupError               exit status 78: systemd does not restart on it
    ├── ConfigError          a configuration file: file, line, key
    └── BundleError          a bundle that is truncated, changed or not one of ours

Every error says in one line what was expected, what was received, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "EX_CONFIG",
    "BrokerError",
    "BundleError",
    "ConfigError",
    "DataError",
    "EdgeVaeError",
    "GateError",
    "InferenceError",
    "InstallError",
    "MissingExtraError",
    "ModelError",
    "OutboxError",
    "Problem",
    "SetupError",
    "SourceError",
    "TrainingError",
]

EX_CONFIG = 78
"""Exit status of a wrong configuration or bundle (`EX_CONFIG` of BSD's sysexits.h)."""


class EdgeVaeError(Exception):
    """Something outside this program is not as it must be.

    Args:
        what: The thing that is wrong, starting with where it is.
        expected: What would have been right.
        received: What was found instead.
        action: What the user can do about it.
    """

    exit_status = 1

    def __init__(self, what: str, *, expected: str = "", received: str = "", action: str = "") -> None:
        self.what, self.expected, self.received, self.action = what, expected, received, action
        facts = [f"expected {expected}"] if expected else []
        facts += [f"received {received}"] if received else []
        line = f"{what}: {', '.join(facts)}" if facts else what
        super().__init__(" ".join(f"{line}. {action}".split()) if action else " ".join(line.split()))


class DataError(EdgeVaeError):
    """Recorded data that cannot be read as sessions of numbers.

    Args:
        what: The thing that is wrong.
        file: Path of the file, as the user gave it.
        column: Name of the column, where one is to blame.
        row: 1-based line of the file (the header is line 1) or, for arrays, 0-based sample index.
        expected: What would have been right.
        received: What was found instead.
        action: What the user can do about it.
    """

    def __init__(
        self,
        what: str,
        *,
        file: str,
        column: str = "",
        row: int | None = None,
        expected: str = "",
        received: str = "",
        action: str = "",
    ) -> None:
        self.file, self.column, self.row = file, column, row
        place = file + (f", column {column!r}" if column else "") + (f", row {row}" if row is not None else "")
        super().__init__(f"{place}: {what}", expected=expected, received=received, action=action)


class TrainingError(EdgeVaeError):
    """Data and settings that no model can be fitted on."""


class ModelError(EdgeVaeError):
    """A model that was made elsewhere, and that no bundle can be made of."""


class GateError(EdgeVaeError):
    """A converted model whose scores or decisions differ from the trained model's by more than the gate allows."""


class SourceError(EdgeVaeError):
    """A sensor source that cannot be opened or read."""


class BrokerError(EdgeVaeError):
    """An MQTT broker that cannot be started or reached."""


class OutboxError(EdgeVaeError):
    """A store of undelivered messages that cannot be opened or written."""


class InferenceError(EdgeVaeError):
    """No TFLite runtime, or one that refuses the model."""


class InstallError(EdgeVaeError):
    """Files of the service that cannot be put in place."""


class MissingExtraError(EdgeVaeError):
    """A part of the package that is not installed here.

    Args:
        what: The command or option that needs it.
        module: The module that could not be imported.
        extra: The extra of this distribution that installs it.
    """

    def __init__(self, what: str, *, module: str, extra: str) -> None:
        self.module, self.extra = module, extra
        super().__init__(
            what,
            expected=f"the Python package {module!r}",
            received="none installed",
            action=f"Install it with: pip install 'edge-vae[{extra}]'",
        )


class SetupError(EdgeVaeError):
    """A configuration or bundle that must be changed by a person before a restart can help."""

    exit_status = EX_CONFIG


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration file, with the line and the dotted key it stands at."""

    line: int
    key: str
    message: str


class ConfigError(SetupError):
    """A configuration file that cannot be used; holds every problem found in it.

    Args:
        file: Path of the file.
        problems: At least one problem, in the order of the file.
    """

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        if not problems:
            msg = "a ConfigError needs at least one problem"
            raise ValueError(msg)
        self.file, self.problems = file, tuple(problems)
        first = self.problems[0]
        more = len(self.problems) - 1
        rest = f"; {more} more, see: edge-vae check-config {file}" if more else ""
        super().__init__(f"{file}:{first.line}: {first.key}: {first.message}{rest}")


class BundleError(SetupError):
    """A bundle that is truncated, changed, or not one of ours."""
