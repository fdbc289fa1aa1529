"""Training: KL warm-up, early stopping on held-out blocks, and a second try where the latent collapsed.

And fine-tuning: the same loss from weights that another machine taught, with most of the encoder frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edge_vae.errors import TrainingError
from edge_vae.sample import FloatArray
from edge_vae.view import VARIANCE_FLOOR
from edge_vae_train.elbo import Examples, SigmaVAE
from edge_vae_train.families import linear
from edge_vae_train.interrupt import answer, held
from edge_vae_train.models import Architecture, VariationalAutoencoder, build

__all__ = ["ACTIVE_VARIANCE", "MAX_TRIES", "Fitted", "Progress", "deterministic", "fit", "tune"]

ACTIVE_VARIANCE = 0.05
"""A latent unit whose posterior mean varies by more than this is active (Burda et al. 2016, section 5.2, uses 0.01)."""

MAX_TRIES = 3
"""Each try after a collapse has a quarter of the beta before."""
BETA_FACTOR = 0.25

LEARNING_RATE = 2e-3
TUNING_RATE = 5e-4
"""Minutes of data must not undo what days of another machine's have taught."""
_LAST_RATE = 0.01
_GRADIENT_NORM = 5.0
_STEPS_PER_EPOCH = (15, 25)
"""An epoch is at least and at most so many steps: small data gets enough of them, large data reports often enough."""
_BATCHES, _SMALLEST_BATCH = 8, 32
"""Small data is cut into so many batches, none smaller than this: one that held it all would cost time for nothing."""
_MAX_HELD_OUT = 2048
"""More held-out windows than this, evenly spread over all blocks, would cost time and change no decision."""

Progress = Callable[[int, int, float, float], None]
"""Called after each epoch: epoch, epochs, training loss, held-out loss."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained model.

    Attributes:
        vae: Encoder and decoder.
        variance: (1, channels), or (steps, channels) with a variance for each step: decoder variance, in squared
            sigmas of the scaled samples.
        history: Training and held-out loss of each epoch, nats a sample and channel; of the last try.
        kept_epoch: The epoch whose weights were kept, counted from 1: the best one after the first third.
        active_units: Latent units that carry information.
        beta: Weight of the KL term of the last try.
        retries: Tries before it, each of which ended without an active unit.
    """

    vae: VariationalAutoencoder
    variance: FloatArray
    history: tuple[tuple[float, float], ...]
    kept_epoch: int
    active_units: int
    beta: float
    retries: int

    @property
    def kept_losses(self) -> tuple[float, float]:
        """Training and held-out loss of the epoch that was kept."""
        return self.history[self.kept_epoch - 1]


@held()
def fit(
    architecture: Architecture,
    training: NDArray[np.float32],
    held_out: NDArray[np.float32],
    *,
    conditions: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    beta: float,
    epochs: int,
    batch_size: int,
    seed: int,
    progress: Progress,
    masked: float = 0.0,
    per_step_variance: bool = False,
) -> Fitted:
    """A model trained on clipped windows (windows, length, channels), of the best epoch on `held_out`.

    Where no latent unit carries information in the end, training starts again with a quarter of the beta, at most
    `MAX_TRIES` times in all. The same seed gives the same weights on the same machine.

    Family `linear` is solved, not trained: it has one epoch, and no use for beta, batch size and seed.

    Args:
        architecture: What to build.
        training: Windows to learn from.
        held_out: Windows that choose the epoch.
        conditions: (windows, modes) of the training and the held-out windows, for an architecture with modes.
        beta: Weight of the KL term after warm-up.
        epochs: The most epochs of a try.
        batch_size: Windows of a step.
        seed: Decides weights, order of the windows, noise and masks.
        progress: Called after each epoch of each try.
        masked: Share of points that are set to 0 and left out of the loss while training, in [0, 1).
        per_step_variance: Whether each step has a decoder variance of its own: where steps are different features.

    Raises:
        ValueError: The arguments do not fit together.
        TrainingError: The loss is not a number.
    """
    sets = _examples(architecture, (training, held_out), conditions)
    if not 0.0 <= masked < 1.0:
        msg = f"masked: expected a share in [0, 1), received {masked}"
        raise ValueError(msg)
    if architecture.family == "linear":
        if masked:
            raise ValueError("masked: expected 0 for family linear, which has no steps to mask points in")
        return _solved(architecture, *sets, beta=beta, per_step_variance=per_step_variance, progress=progress)
    for retries in range(MAX_TRIES):
        keras.utils.set_random_seed(seed)
        vae = build(architecture)
        model = SigmaVAE(vae, per_step_variance=per_step_variance)
        tried = beta * BETA_FACTOR**retries
        steps = _Steps(model, sets[0], batch_size=batch_size, epochs=epochs, masked=masked, seed=seed)
        history, kept_epoch = _train(model, steps, sets[1], beta=tried, epochs=epochs, progress=progress)
        fitted = _fitted(vae, model, sets[1], history, kept_epoch, beta=tried, retries=retries)
        if fitted.active_units:
            break
    return fitted


@held()
def tune(
    vae: VariationalAutoencoder,
    training: NDArray[np.float32],
    held_out: NDArray[np.float32],
    *,
    conditions: tuple[NDArray[np.float32], NDArray[np.float32]],
    beta: float,
    epochs: int,
    batch_size: int,
    seed: int,
    progress: Progress,
    masked: float = 0.0,
    per_step_variance: bool = False,
) -> tuple[Fitted, float]:
    """The same model fine-tuned on clipped windows of another machine, and its held-out loss after all epochs.

    What the encoder sees in a window stays: its convolutions are frozen, or in a family without any its dense layers up
    to the two heads of the posterior. There is neither warm-up nor early stopping: the held-out windows choose nothing,
    so the losses before and after tell what new windows will have. Both are of posterior means, with the decoder
    variance that the weights have on the training windows. Where nothing is gained the old weights are put back: the
    history begins with them, as epoch 1, and that is then the epoch that is kept.

    Args:
        vae: The trained model; its weights change.
        training: Windows to learn from.
        held_out: Windows that both losses are of.
        conditions: (windows, modes) of the training and the held-out windows.
        beta: Weight of the KL term.
        epochs: How many, all of which are run.
        batch_size: Windows of a step.
        seed: Decides order of the windows, noise and masks.
        progress: Called after each epoch.
        masked: As in `fit`.
        per_step_variance: As in `fit`.

    Raises:
        ValueError: The arguments do not fit together.
        TrainingError: The loss is not a number.
    """
    sets = _examples(vae.architecture, (training, held_out), conditions)
    keras.utils.set_random_seed(seed)
    _freeze(vae)
    model = SigmaVAE(vae, per_step_variance=per_step_variance)
    before, kept = _refitted(model, *sets, beta=beta), [w.numpy() for w in model.state]
    steps = _Steps(model, sets[0], batch_size=batch_size, epochs=epochs, masked=masked, seed=seed, rate=TUNING_RATE)
    watched = sets[1].spread(_MAX_HELD_OUT)
    history = [before]
    for epoch in range(1, epochs + 1):
        answer()
        history.append((steps.epoch(beta), model.losses(watched, kl_weight=beta)[0]))
        progress(epoch, epochs, *history[-1])
    history[-1] = after = _refitted(model, *sets, beta=beta)
    if not np.isfinite([before, after]).all():
        raise _not_finite(after[1])
    gained = after[1] < before[1]
    if not gained:
        for w, value in zip(model.state, kept, strict=True):
            w.assign(value)
    kept_epoch = len(history) if gained else 1
    return _fitted(vae, model, sets[1], tuple(history), kept_epoch, beta=beta), after[1]


def _freeze(vae: VariationalAutoencoder) -> None:
    convolutions = [layer for layer in vae.encoder.layers if isinstance(layer, keras.layers.Conv1D)]
    dense = [layer for layer in vae.encoder.layers if isinstance(layer, keras.layers.Dense)]
    for layer in convolutions or [layer for layer in dense if not layer.name.startswith("posterior_")]:
        layer.trainable = False


def _refitted(model: SigmaVAE, training: Examples, held_out: Examples, *, beta: float) -> tuple[float, float]:
    """Training and held-out loss, after the variance became the mean squared error on the training windows."""
    model.variance.assign(model.losses(training, kl_weight=0.0)[1])
    return model.losses(training, kl_weight=beta)[0], model.losses(held_out, kl_weight=beta)[0]


def deterministic(seed: int) -> None:
    """Make everything that TensorFlow draws or adds up follow from `seed`."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def _examples(
    a: Architecture,
    windows: tuple[NDArray[np.float32], NDArray[np.float32]],
    conditions: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
) -> tuple[Examples, Examples]:
    """Training and held-out examples, with conditions of no column where there are no modes."""
    given = tuple(np.empty((len(w), 0), np.float32) for w in windows) if conditions is None else conditions
    for w, c in zip(windows, given, strict=True):
        if c.shape != (len(w), a.modes):
            msg = f"conditions: expected shape {(len(w), a.modes)}, received {c.shape}"
            raise ValueError(msg)
    return Examples(windows[0], given[0]), Examples(windows[1], given[1])


class _Steps:
    """The steps of an epoch, run without leaving TensorFlow; the examples stay in memory and are gathered by index."""

    def __init__(
        self,
        model: SigmaVAE,
        examples: Examples,
        *,
        batch_size: int,
        epochs: int,
        masked: float,
        seed: int,
        rate: float = LEARNING_RATE,
    ) -> None:
        total = len(examples.windows)
        self._model, self._masked, self._seed, self._total = model, masked, seed, total
        self._windows, self._conditions = tf.constant(examples.windows), tf.constant(examples.conditions)
        self._batch = min(batch_size, max(total // _BATCHES, _SMALLEST_BATCH), total)
        self._count = min(max(-(-total // self._batch), _STEPS_PER_EPOCH[0]), _STEPS_PER_EPOCH[1])
        falling = keras.optimizers.schedules.CosineDecay(rate, self._count * epochs, alpha=_LAST_RATE)
        self._optimizer = keras.optimizers.Adam(falling, global_clipnorm=_GRADIENT_NORM)
        self._optimizer.build(model.weights)
        self._order = np.random.default_rng(seed)
        self._waiting = np.empty(0, np.int64)
        self._run = tf.function(self._steps)

    def epoch(self, kl_weight: float) -> float:
        """The mean loss over one epoch's steps."""
        needed = self._count * self._batch
        while len(self._waiting) < needed:
            self._waiting = np.concatenate([self._waiting, self._order.permutation(self._total)])
        now, self._waiting = self._waiting[:needed], self._waiting[needed:]
        return float(self._run(tf.constant(now.reshape(self._count, self._batch)), tf.constant(kl_weight, tf.float32)))

    def _steps(self, order: Any, kl_weight: Any) -> Any:
        total = tf.constant(0.0)
        for i in tf.range(self._count):
            total += self._step(tf.gather(self._windows, order[i]), tf.gather(self._conditions, order[i]), kl_weight)
        return total / self._count

    def _step(self, windows: Any, conditions: Any, kl_weight: Any) -> Any:
        draw = 2 * tf.cast(self._optimizer.iterations, tf.int64)
        noise = tf.random.stateless_normal((self._batch, self._model.latent), (self._seed, draw))
        kept = None
        if self._masked:
            kept = tf.random.stateless_uniform(tf.shape(windows), (self._seed, draw + 1)) >= self._masked
            kept = tf.cast(kept, tf.float32)
        with tf.GradientTape() as tape:
            loss, error = self._model.negative_elbo(windows, conditions, kl_weight=kl_weight, noise=noise, kept=kept)
        weights = self._model.weights
        self._optimizer.apply(tape.gradient(loss, weights), weights)
        self._model.remember(error)
        return loss


def _train(
    model: SigmaVAE, steps: _Steps, held_out: Examples, *, beta: float, epochs: int, progress: Progress
) -> tuple[tuple[tuple[float, float], ...], int]:
    """History and kept epoch; `model` has the weights of that epoch.

    The KL weight rises linearly to beta over the first third of the epochs, and only what comes after is kept. The
    held-out loss has the full weight from the start, so that all epochs compare. A fifth of the epochs without a better
    one ends the training.
    """
    watched = held_out.spread(_MAX_HELD_OUT)
    warm, patience = max(1, epochs // 3), max(5, epochs // 5)
    history: list[tuple[float, float]] = []
    best, kept_epoch, kept = np.inf, 0, []
    for epoch in range(1, epochs + 1):
        answer()
        loss = steps.epoch(beta * min(1.0, epoch / warm))
        held_out_loss, _ = model.losses(watched, kl_weight=beta)
        history.append((loss, held_out_loss))
        progress(epoch, epochs, loss, held_out_loss)
        if epoch >= warm and held_out_loss < best:
            best, kept_epoch, kept = held_out_loss, epoch, [w.numpy() for w in model.state]
        if epoch >= warm + patience and epoch - kept_epoch >= patience:
            break
    if not kept:
        raise _not_finite(history[-1][1])
    for w, value in zip(model.state, kept, strict=True):
        w.assign(value)
    return tuple(history), kept_epoch


def _not_finite(loss: float) -> TrainingError:
    return TrainingError(
        "the training loss",
        expected="a finite number",
        received=f"{loss}",
        action="Look for NaN or infinite values in the data.",
    )


def _fitted(
    vae: VariationalAutoencoder,
    model: SigmaVAE,
    held_out: Examples,
    history: tuple[tuple[float, float], ...],
    kept_epoch: int,
    *,
    beta: float,
    retries: int = 0,
) -> Fitted:
    variance = np.maximum(model.variance.numpy().astype(np.float64), VARIANCE_FLOOR)
    active = int((model.posterior_means(held_out).var(axis=0) > ACTIVE_VARIANCE).sum())
    return Fitted(vae, variance, history, kept_epoch, active, beta, retries)


def _solved(
    architecture: Architecture,
    training: Examples,
    held_out: Examples,
    *,
    beta: float,
    per_step_variance: bool,
    progress: Progress,
) -> Fitted:
    """Principal components; both losses are those of the squared error alone, with the variance it has in training."""
    vae = linear.solve(architecture, training.windows, training.conditions if architecture.modes else None)
    model = SigmaVAE(vae, per_step_variance=per_step_variance)
    model.variance.assign(model.losses(training, kl_weight=0.0)[1])
    losses = (model.losses(training, kl_weight=0.0)[0], model.losses(held_out, kl_weight=0.0)[0])
    progress(1, 1, *losses)
    return _fitted(vae, model, held_out, (losses,), 1, beta=beta)
