"""The VAE of the window, built again in PyTorch, with the weights that Keras trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from speed_peers.loaded import Floats

__all__ = ["WindowVae"]


class WindowVae(nn.Module):  # type: ignore[misc]  # torch is not where types are checked
    """Windows (windows, length, channels), scaled, to their reconstruction, posterior means and log variances."""

    def __init__(self, numbers: Mapping[str, Floats]) -> None:
        super().__init__()
        self.down1, self.down2 = _conv(numbers, "down1", stride=2), _conv(numbers, "down2", stride=2)
        self.narrow, self.seed = _conv(numbers, "narrow"), _linear(numbers, "seed")
        self.mean, self.log_variance = _linear(numbers, "posterior_mean"), _linear(numbers, "posterior_log_variance")
        self.up1, self.up2, self.samples = (_conv(numbers, name) for name in ("up1", "up2", "samples"))

    def forward(self, windows: Any) -> tuple[Any, Any, Any]:
        """Reconstruction, posterior mean and log variance."""
        x = windows.transpose(1, 2)
        for strided in (self.down1, self.down2):  # as Keras pads for strides of 2: one before, two behind
            x = functional.relu(strided(functional.pad(x, (1, 2))))
        x = functional.relu(self.narrow(functional.pad(x, (1, 1))))
        steps = x.shape[2]
        flat = x.transpose(1, 2).flatten(1)
        mean = self.mean(flat)
        x = functional.relu(self.seed(mean)).unflatten(1, (steps, -1)).transpose(1, 2)
        for twice in (self.up1, self.up2):
            x = functional.relu(twice(functional.pad(x, (1, 1)))).transpose(1, 2)
            x = x.reshape(-1, 2 * x.shape[1], x.shape[2] // 2).transpose(1, 2)
        x = self.samples(functional.pad(x, (1, 1)))
        return x.transpose(1, 2), mean, self.log_variance(flat)


def _conv(numbers: Mapping[str, Floats], name: str, *, stride: int = 1) -> Any:
    kernel, bias = numbers[f"{name}/0"], numbers[f"{name}/1"]
    layer = nn.Conv1d(kernel.shape[1], kernel.shape[2], kernel.shape[0], stride)
    layer.weight.data, layer.bias.data = torch.tensor(kernel.transpose(2, 1, 0).copy()), torch.tensor(bias)
    return layer


def _linear(numbers: Mapping[str, Floats], name: str) -> Any:
    kernel, bias = numbers[f"{name}/0"], numbers[f"{name}/1"]
    layer = nn.Linear(*kernel.shape)
    layer.weight.data, layer.bias.data = torch.tensor(kernel.T.copy()), torch.tensor(bias)
    return layer
