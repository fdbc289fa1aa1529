"""Which peers are measured, what each needs installed, and what its rows are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

__all__ = ["ALWAYS", "EXPORT", "PEERS", "Environment", "Peer", "chosen", "names"]

TORCH = "torch==2.13.0"


@dataclass(frozen=True)
class Environment:
    """A virtual environment: its name, what pip is asked for, the module that is missing where it is not installed.

    `shown` names the packages whose versions are told.
    """

    name: str
    requirements: tuple[str, ...]
    module: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Peer:
    """One process that is measured.

    Attributes:
        environment: Where it runs.
        module: Of `speed_peers.peers`.
        argument: What the module is to load.
        rows: What a row of the table is called, to the name of the call and of the bulk in the module.
        bulk_only: Whether nothing is scored one by one.
        same: Whether it is our VAE with our weights, whose scores must agree.
        exports: Whether it needs the model as ONNX.
        cores: How many cores it may use.
        settings: Environment variables of its process.
    """

    environment: Environment
    module: str
    argument: str
    rows: dict[str, str]
    bulk_only: bool = False
    same: bool = True
    exports: bool = False
    cores: int = 1
    settings: dict[str, str] = field(default_factory=dict)


LITERT = f"ai-edge-litert=={version('ai-edge-litert')}"
DEVICE = Environment(
    "edge-vae", ("numpy", "click", "paho-mqtt", "msgspec", LITERT), "ai_edge_litert", ("ai-edge-litert",)
)
LITERT_ALONE = Environment("litert", ("numpy", LITERT), "ai_edge_litert", ("ai-edge-litert",))
ONNX = Environment("onnxruntime", ("numpy", "onnxruntime==1.32.0"), "onnxruntime", ("onnxruntime",))
EXPORT = Environment("onnx-export", (TORCH, "numpy", "onnx", "onnxscript", "onnxruntime==1.32.0"), "onnxscript", ())
PYTORCH = Environment("torch", ("numpy", TORCH), "torch", ("torch",))
TENSORFLOW = Environment("tensorflow", (f"tensorflow=={version('tensorflow')}",), "tensorflow", ("tensorflow", "keras"))
# tqdm: PyOD imports it and does not ask for it.
PYOD = Environment("pyod", ("pyod==3.6.7", TORCH, "tqdm"), "pyod", ("pyod", "torch"))
ALIBI = Environment(
    "alibi-detect", ("alibi-detect[tensorflow]==0.13.0",), "alibi_detect", ("alibi-detect", "tensorflow", "tf_keras")
)
# The Keras that alibi-detect brings for itself; with Keras 3 a window takes it twice as long.
OLD_KERAS = {"TF_USE_LEGACY_KERAS": "1"}

PEERS = (
    Peer(DEVICE, "ours", "window", {"our path, VAE of the window": "path", "our stream, VAE of the window": "stream"}),
    Peer(
        DEVICE, "ours", "default", {"our path, default score": "path", "our stream, default score": "stream"},
        same=False,
    ),
    Peer(DEVICE, "ours", "window", {"our bulk on two cores, VAE of the window": "path"}, bulk_only=True, cores=2),
    Peer(
        DEVICE, "ours", "default", {"our bulk on two cores, default score": "path"}, bulk_only=True, same=False,
        cores=2,
    ),
    Peer(
        LITERT_ALONE, "litert", "invoke",
        {
            "bare invoke, int8": "int8",
            "bare invoke, int8, 32 at once": "int8, batches",
            "bare invoke, float32": "float32",
        },
        same=False,
    ),
    Peer(LITERT_ALONE, "litert", "int8", {"LiteRT loop, int8": "int8"}),
    Peer(LITERT_ALONE, "litert", "float32", {"LiteRT loop, float32": "float32"}),
    Peer(ONNX, "onnx_runtime", "int8", {"ONNX Runtime, int8": "int8"}, exports=True),
    Peer(ONNX, "onnx_runtime", "float32", {"ONNX Runtime, float32": "float32"}, exports=True),
    Peer(PYTORCH, "pytorch", "", {"PyTorch": "torch"}),
    Peer(TENSORFLOW, "tensorflow_keras", "", {"tf.function": "tf.function", "Keras predict": "predict"}),
    Peer(PYOD, "pyod_vae", "", {"PyOD VAE": "pyod"}, same=False),
    Peer(ALIBI, "alibi", "1", {"alibi-detect, 1 sample": "1"}, same=False, settings=OLD_KERAS),
    Peer(ALIBI, "alibi", "10", {"alibi-detect, its 10 samples": "10"}, same=False, settings=OLD_KERAS),
)  # fmt: skip
ALWAYS = ("edge-vae", "litert")
"""Without them there is nothing to compare with."""


def names() -> list[str]:
    """What can be chosen."""
    return list(dict.fromkeys(peer.environment.name for peer in PEERS))


def chosen(only: Sequence[str]) -> list[Peer]:
    """The peers of these environments, and those that are always measured."""
    return [peer for peer in PEERS if peer.environment.name in {*only, *ALWAYS}]
