"""One file for each family of models, behind one registry."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from edge_vae_train.families import conv, dense, linear, tcn
from edge_vae_train.families.autoencoder import Architecture, VariationalAutoencoder

__all__ = ["FAMILIES"]

FAMILIES = MappingProxyType[str, Callable[[Architecture], VariationalAutoencoder]](
    {"conv": conv.build, "dense": dense.build, "linear": linear.build, "tcn": tcn.build}
)
"""Name of a family -> what builds an untrained model of it; sorted by name."""
