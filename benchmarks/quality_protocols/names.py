"""Names of methods and rows, apart from the libraries that give them."""

from __future__ import annotations

from edge_vae_train.baselines import BASELINES

__all__ = ["FUSED_FLOAT", "FUSED_INT8", "METHODS", "OURS", "TERM_ROW"]

OURS = "ours"
"""The method that gives several rows."""

METHODS = (*BASELINES, OURS)

FUSED_INT8, FUSED_FLOAT = "fused, int8", "fused, float"

TERM_ROW = "{}, int8"
"""Row of a single term of our score, alone."""
