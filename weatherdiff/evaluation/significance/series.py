r"""Is the mean of an autocorrelated series zero? Tests whose false positives were counted.

A plain t-test takes successive score differences for independent and rejects far too often: 40% at
a nominal 5% if their autocorrelation is 0.7. What is needed is the variance of the *mean*,
:math:`\omega/n` with :math:`\omega` the long-run variance. All tests here build on the cosine
transform of the n deviations from the mean,

.. math::
    \Lambda_j = \sqrt{2/n} \sum_{t=0}^{n-1} u_t \cos(\pi j (t + \tfrac12) / n),

whose first few coefficients are nearly independent, with a variance near :math:`\omega`. The
equal-weighted cosine estimator takes the mean of the first :math:`\nu` squares, and the t
distribution with :math:`\nu` degrees of freedom (Lazarus et al. 2018). It is biased low if the
spectrum is steep, that is for persistent series.

The ``"adaptive"`` test removes that bias. For a model of the autocorrelations :math:`r_k`, the
ratio :math:`g_j` of the expected square of :math:`\Lambda_j` to n times the variance of the mean is
known exactly, so that

.. math:: \hat\omega_m = \frac1\nu \sum_{j=1}^{\nu} \Lambda_j^2 / g_{jm}

is unbiased under model m: a prewhitening that loses no value. The models are

- first-order autoregressions, :math:`r_k = \rho^k`;
- the same with white noise added, :math:`r_k = s\rho^k` for :math:`k > 0`, such as a slow change of
  weather regimes of which the day-to-day differences show little;
- smooth ones, second-order autoregressions with a double root,
  :math:`r_k = (1 + k\frac{1-\rho^2}{1+\rho^2})\rho^k`, close to what overlapping forecasts have.

As the data cannot tell which holds, the t distributions of all of them are averaged with their
posterior probability, from the likelihood of all :math:`\Lambda_j` with the scale integrated out.
The prior is 0.7, 0.1 and 0.2 for the three families, and within them the reference prior of the
autoregression, :math:`\pi(\rho) \propto (1-\rho^2)^{-1/2}` (Berger and Yang 1994, Econometric
Theory 10, 461-482). A series that follows no such model is still judged by its own lowest
frequencies. ``scripts/benchmarks/significance.py`` counts the false positives.

References
----------
Lazarus, Lewis, Stock and Watson (2018), doi:10.1080/07350015.2018.1506926.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.fft import dct, rfft
from scipy.special import gammaln, stdtr, stdtrit

__all__ = ["MINIMUM_LENGTH", "TESTS", "MeanDistribution", "mean_distribution"]

FloatArray = npt.NDArray[np.float64]

TESTS = ("adaptive", "ewc", "independent")
# A shorter series says nothing of its own autocorrelation.
MINIMUM_LENGTH = 8
# Degrees of freedom are this times n^(2/3), the rate of Lazarus et al. (2018): 0.4 is theirs, for
# an estimate that is still biased. Without the bias a few more cost little size and give power.
_EWC_FACTOR, _ADAPTIVE_FACTOR = 0.4, 0.6
# Models: rho equally spaced in atanh(rho), from -0.83 to 0.997; from 0 if it is hidden under noise,
# of which the persistent part is a share; from 0.05 to 0.989 if smooth, which persists longer.
_FAMILIES = {"autoregressive": 0.7, "hidden": 0.1, "smooth": 0.2}
_SHARES = (0.7, 0.45, 0.25, 0.12)
_RHO = np.tanh(np.linspace(-1.2, 3.2, 34))
_HIDDEN_RHO = _RHO[_RHO > 0]
_SMOOTH_RHO = np.tanh(np.linspace(0.05, 2.6, 20))


@dataclass(frozen=True)
class MeanDistribution:
    """How far the means of some series may be from the truth: a mixture of t distributions.

    Parameters
    ----------
    weight : (series, model)
        Probabilities of the models, adding to one.
    standard_error : (series, model)
        Standard error of the mean under each.
    freedom : int
        Degrees of freedom of all of them.
    effective_size : (series,)
        Number of independent values that would fix the mean as well.
    """

    weight: FloatArray
    standard_error: FloatArray
    freedom: int
    effective_size: FloatArray

    def p_value(self, distance: npt.ArrayLike) -> FloatArray:
        """Probability of a mean at least this far from the truth, on either side.

        Parameters
        ----------
        distance : (series,)
            Difference of the mean from the hypothesis.
        """
        t = np.abs(np.asarray(distance))[:, np.newaxis] / self.standard_error
        return (self.weight * 2 * stdtr(self.freedom, -t)).sum(axis=-1).clip(max=1.0)

    def half_width(self, level: float) -> FloatArray:
        """Give the distance whose p-value is ``1 - level``: half the confidence interval.

        Parameters
        ----------
        level : float
            Confidence, between 0 and 1.

        Returns
        -------
        (series,)
            In the unit of the series.
        """
        nu = self.freedom
        log_scale = gammaln((nu + 1) / 2) - gammaln(nu / 2) - np.log(nu * np.pi) / 2
        # The p-value is convex and falls, so that Newton's steps from below never pass the root.
        h = stdtrit(nu, (1 + level) / 2) * self.standard_error.min(axis=-1)
        for _ in range(100):
            t = h[:, np.newaxis] / self.standard_error
            density = np.exp(log_scale - (nu + 1) / 2 * np.log1p(t**2 / nu))
            slope = (2 * self.weight * density / self.standard_error).sum(axis=-1)
            step = (self.p_value(h) - (1 - level)) / slope
            h = h + step
            if not (np.abs(step) > 1e-12 * h).any():  # NaN ends as well
                break
        return h


def mean_distribution(deviations: FloatArray, *, test: str = "adaptive") -> MeanDistribution:
    """Estimate how far the means of series may be from the truth.

    Parameters
    ----------
    deviations : (series, n)
        Values minus their mean, equally spaced or taken as if they were, not all zero.
    test : {"adaptive", "ewc", "independent"}
        The test of this module, the equal-weighted cosine estimator, or the t-test of independent
        values.

    Returns
    -------
    MeanDistribution
        For each series; NaN if it has one.

    Raises
    ------
    ValueError
        Another test, or fewer than :data:`MINIMUM_LENGTH` values.

    Examples
    --------
    >>> x = np.random.default_rng(1).normal(0.5, 1.0, size=(1, 100))
    >>> mean = x.mean(axis=1)
    >>> found = mean_distribution(x - mean[:, np.newaxis])
    >>> bool(found.p_value(mean)[0] < 0.01)
    True
    >>> found.p_value(found.half_width(0.95)).round(6)
    array([0.05])
    """
    if test not in TESTS:
        raise ValueError(f"test is {test!r}, expected one of {', '.join(TESTS)}.")
    n = deviations.shape[-1]
    if n < MINIMUM_LENGTH:
        raise ValueError(f"a series has {n} values, expected at least {MINIMUM_LENGTH}.")
    variance = deviations.var(axis=-1, ddof=1)
    if test == "independent":
        one = np.ones((len(deviations), 1))
        error = np.sqrt(variance / n)[:, np.newaxis]
        return MeanDistribution(one, error, n - 1, np.full(len(deviations), float(n)))
    # In units of its deviation, no series over- or underflows; its square only weighs the models.
    scale = np.sqrt(variance)[:, np.newaxis]
    power = dct(deviations / scale, norm="ortho", axis=-1)[:, 1:] ** 2
    if test == "ewc":
        nu = max(1, round(_EWC_FACTOR * n ** (2 / 3)))
        weight, ratio = np.ones((len(power), 1)), np.ones((1, n - 1))
    else:
        nu = round(_ADAPTIVE_FACTOR * n ** (2 / 3))
        ratio, log_prior = _models(n)
        weight = _posterior(power, ratio, log_prior)
    long_run = power[:, :nu] @ (1 / ratio[:, :nu]).T / nu
    effective = (weight * n / long_run).sum(axis=-1)
    return MeanDistribution(weight, scale * np.sqrt(long_run / n), nu, effective)


def _posterior(power: FloatArray, ratio: FloatArray, log_prior: FloatArray) -> FloatArray:
    """Probability of each model given all cosine coefficients, with any scale."""
    count = power.shape[-1]
    log = log_prior - count / 2 * np.log(power @ (1 / ratio).T)
    weight = np.exp(log - log.max(axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True)


@lru_cache(maxsize=32)
def _models(n: int) -> tuple[FloatArray, FloatArray]:
    """Give power over n times the variance of the mean, (model, n - 1), and log weights."""
    k = np.arange(n)
    families = {
        "autoregressive": [(rho, rho**k) for rho in _RHO],
        "hidden": [
            (rho, np.where(k == 0, 1.0, share * rho**k)) for rho in _HIDDEN_RHO for share in _SHARES
        ],
        "smooth": [(rho, (1 + k * (1 - rho**2) / (1 + rho**2)) * rho**k) for rho in _SMOOTH_RHO],
    }
    correlation, log_prior = [], []
    for name, models in families.items():
        # Equal steps of atanh(rho) have the density (1 - rho^2) times that of rho.
        prior = np.array([np.sqrt(1 - rho**2) for rho, _ in models])
        log_prior.append(np.log(_FAMILIES[name] * prior / prior.sum()))
        correlation += [r for _, r in models]
    power, of_mean = _expected_power(np.array(correlation))
    ratio = power / of_mean[:, np.newaxis]
    return ratio, np.concatenate(log_prior) - np.log(ratio).sum(axis=-1) / 2


def _expected_power(correlation: FloatArray) -> tuple[FloatArray, FloatArray]:
    r"""Give the expected squares of the cosine coefficients, and n times the variance of the mean.

    With :math:`w = \pi j/n`, the autocovariance of the j-th cosine at lag k is
    :math:`\frac1n[(n-k)\cos wk - \sin wk / \sin w]`: the sums over k are Fourier transforms.

    Parameters
    ----------
    correlation : (model, n)
        Autocorrelations from lag 0 on.

    Returns
    -------
    (model, n - 1), (model,)
        For j from 1 to n - 1, and for the mean.
    """
    n = correlation.shape[-1]
    w = np.pi * np.arange(1, n) / n
    later = correlation.copy()
    later[:, 0] = 0
    falling = later * (n - np.arange(n))
    cosines = rfft(falling, 2 * n, axis=-1)[:, 1:n].real
    sines = -rfft(later, 2 * n, axis=-1)[:, 1:n].imag
    return 1 + 2 / n * (cosines - sines / np.sin(w)), 1 + 2 / n * falling.sum(axis=-1)
