r"""Linear stochastic dynamics of a few components, fitted to a record with gaps.

.. math:: y_{t+1} = \sum_{h<H} G_h\,y_{t-h} + \varepsilon_t,
          \qquad \varepsilon_t\sim\mathcal N(0, Q)

for the leading components, and :math:`y_{t+1} = \rho\,y_t + \sqrt{1-\rho^2}\,\sigma\,\varepsilon_t`
for each of the others by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weatherdiff.errors import InputError
from weatherdiff.evaluation.baselines.reference import Index

__all__ = ["LinearDynamics"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinearDynamics:
    """Dynamics of ``K`` coupled components and ``R`` that are red noise.

    Parameters
    ----------
    propagator : (K, history * K)
        Onto the next components, from the last ones, latest first.
    noise_covariance : (K, K)
        Positive semidefinite.
    memory, spread : (R,)
        Lag-1 correlation and standard deviation of the red noise.
    history : int
        Number of times the coupled components depend on.
    """

    propagator: FloatArray
    noise_covariance: FloatArray
    memory: FloatArray
    spread: FloatArray
    history: int

    @classmethod
    def fit(
        cls, components: FloatArray, sequences: Index, coupled: int, history: int
    ) -> LinearDynamics:
        r"""Least squares over the sequences of ``history + 1`` times.

        :math:`G = C_1 C_0^{-1}`, and :math:`Q` is the covariance of the residuals, which over the
        same pairs is :math:`C_0 - G C_0 G^\top`: positive semidefinite by construction, with
        nothing to clip. It is divided by the degrees of freedom left. Dynamics that would grow
        are shrunk until they decay over the length of the record.

        Parameters
        ----------
        components : (time, K + R)
            Without NaN where ``sequences`` points.
        sequences : (sequence, history + 1)
            Positions in time, earliest first.
        coupled, history : int
            ``K``, and the number of times it depends on.

        Raises
        ------
        InputError
            There are not more sequences than coefficients of a component.
        """
        count = len(sequences)
        free = count - coupled * history
        if free <= 0:
            raise InputError(
                f"{coupled} components with a history of {history} need more than "
                f"{coupled * history} sequences of training analyses, there are {count}; "
                "lower the truncation."
            )
        past = components[sequences[:, -2::-1], :coupled].reshape(count, -1)
        future = components[sequences[:, -1], :coupled]
        propagator = np.linalg.lstsq(past, future, rcond=None)[0].T.astype(np.float64)
        growth = np.abs(np.linalg.eigvals(_companion(propagator))).max()
        if growth >= 1:
            factor = (1 - 1 / count) / growth
            propagator = propagator * np.repeat(factor ** np.arange(1, history + 1), coupled)
        residual = future - past @ propagator.T
        before, after = (components[sequences[:, i], coupled:] for i in (-2, -1))
        squares = np.sqrt((before**2).sum(axis=0) * (after**2).sum(axis=0))
        products = (before * after).sum(axis=0)
        return cls(
            propagator=propagator,
            noise_covariance=residual.T @ residual / free,
            memory=np.divide(products, squares, where=squares > 0, out=np.zeros_like(squares)),
            spread=np.sqrt((after**2).mean(axis=0)),
            history=history,
        )

    def paths(self, past: FloatArray, noise: FloatArray) -> FloatArray:
        """Follow the components step by step.

        Parameters
        ----------
        past : (..., history, K + R)
            Last components, latest first.
        noise : (..., step, K + R)
            Standard normal; zero gives the mean.

        Returns
        -------
        (..., step, K + R)
        """
        coupled = len(self.propagator)
        factor, kick = _root(self.noise_covariance), self.spread * np.sqrt(1 - self.memory**2)
        leading = np.broadcast_to(
            past[..., :coupled], (*noise.shape[:-2], self.history, coupled)
        ).reshape(*noise.shape[:-2], -1)
        red = past[..., 0, coupled:]
        result = np.empty(noise.shape)
        for step in range(noise.shape[-2]):
            drawn = noise[..., step, :]
            new = leading @ self.propagator.T + drawn[..., :coupled] @ factor
            red = self.memory * red + kick * drawn[..., coupled:]
            result[..., step, :coupled], result[..., step, coupled:] = new, red
            leading = np.concatenate([new, leading[..., :-coupled]], axis=-1)
        return result

    def covariances(self, steps: int) -> FloatArray:
        """Predictive covariances after 1 to ``steps`` steps, (step, K + R, K + R)."""
        coupled, size = len(self.propagator), len(self.propagator) + len(self.memory)
        companion = _companion(self.propagator)
        forcing = np.zeros_like(companion)
        forcing[:coupled, :coupled] = self.noise_covariance
        current = np.zeros_like(companion)
        result = np.zeros((steps, size, size))
        red = np.arange(coupled, size)
        for step in range(steps):
            current = companion @ current @ companion.T + forcing
            result[step, :coupled, :coupled] = current[:coupled, :coupled]
            result[step, red, red] = self.spread**2 * (1 - self.memory ** (2 * (step + 1)))
        return result


def _companion(propagator: FloatArray) -> FloatArray:
    """Matrix that advances all the times of a history by one."""
    coupled, size = propagator.shape
    shift = np.eye(size - coupled, size)
    return np.concatenate([propagator, shift])


def _root(covariance: FloatArray) -> FloatArray:
    """Symmetric square root."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
