"""The components of a PCA of lag vectors in int8, where that keeps what the PCA leaves over."""

from __future__ import annotations

import dataclasses

import numpy as np

from edge_vae.bundle import PCA_VIEW
from edge_vae.principal import PrincipalRuntime, in_int8
from edge_vae.sample import FloatArray
from edge_vae.score import Term, statistic_of
from edge_vae.view import see
from edge_vae_converters.parity import MAX_NOISE, MIN_SPEARMAN, noise_to_error, rank_correlation
from edge_vae_train.prepare import WindowSet
from edge_vae_train.run_folder import Run

__all__ = ["with_small_components"]


def with_small_components(run: Run, *, normal: WindowSet, stress: WindowSet) -> tuple[Run, tuple[str, ...]]:
    """The run with its components in int8, or the given one and a line that says why.

    Args:
        run: The run; without a PCA of lag vectors it comes back as it is.
        normal: Held-out normal windows, scaled.
        stress: Faulty windows, scaled.
    """
    view = next((view for view in run.record.views if view.name == PCA_VIEW), None)
    if view is None:
        return run, ()
    components, steps = in_int8(run.reference["lag_components"].astype(np.float32))
    small = dataclasses.replace(run, reference=run.reference | {"lag_components": components, "lag_steps": steps})
    seen, statistics = [], list[FloatArray]()
    windows = WindowSet.joined([normal, stress])
    scaled = windows.windows.astype(np.float64)
    for one in (run, small):
        runtimes = {PCA_VIEW: PrincipalRuntime(one.reference)}
        found = see([view], runtimes, scaled, clip=run.record.clip, conditions=windows.conditions)
        statistics.append(statistic_of(Term("pca"), scaled, found))
        seen.append(found[PCA_VIEW][: len(normal)])
    noise, alike = noise_to_error(*seen), rank_correlation(*statistics)
    if noise <= MAX_NOISE and alike >= MIN_SPEARMAN:
        return small, ()
    told = f"quantization noise / normal error {noise:.4g} where <= {MAX_NOISE:g} is expected"
    if noise <= MAX_NOISE:
        told = f"rank correlation {alike:.4g} where >= {MIN_SPEARMAN:g} is expected"
    return run, (f"view {PCA_VIEW}: float16 instead of int8, {told}",)
