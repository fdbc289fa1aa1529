"""The report of an evaluation: one HTML file for people, with nothing outside it."""

from __future__ import annotations

from edge_vae_train.report.page import build, write

__all__ = ["build", "write"]
