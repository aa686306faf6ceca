r"""Noise of a prescribed spectrum: isotropic on the sphere, correlated over the frames of a block.

White noise on a latitude-longitude grid has its finest scales at the poles and is nowhere
isotropic. An isotropic Gaussian field of unit variance is

.. math:: x = \sum_{l,m} \sqrt{C_l}\, w_{lm} Y_{lm}, \qquad w_{lm} \sim N(0, 1), \qquad
          \operatorname{cov}(x, x') = \sum_l \frac{2l+1}{4\pi} C_l P_l(\cos\gamma)

with the angular distance :math:`\gamma` (Lang & Schwab 2015, arXiv:1305.1170, section 2). Here it
is a linear map of white noise, so that keyed noise stays keyed. A regional grid gets the same
covariance by its matrix square root, which is exact and fit for some thousand cells.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Colour", "SpectralNoise", "correlate_frames", "isotropic", "power_law"]

Colour = Callable[[Tensor], Tensor]
"""Maps white noise (..., lat, lon) to noise of another spectrum, of the same shape and variance."""

MAX_CELLS = 6000


def power_law(degrees: int, *, wavenumber: float = 10.0, slope: float = 3.0) -> Tensor:
    r"""Give the power :math:`C_l \propto (1 + (l/l_0)^2)^{-(s+1)/2}` of degrees 0, 1, ...

    The variance in a degree, :math:`(2l+1) C_l`, falls with :math:`l^{-s}` beyond :math:`l_0`.

    Parameters
    ----------
    degrees : int
        The highest one.
    wavenumber, slope : float
        :math:`l_0` and :math:`s`.
    """
    degree = torch.arange(degrees + 1, dtype=torch.float64)
    return (1 + (degree / wavenumber).square()) ** (-(slope + 1) / 2)


def isotropic(latitude: Tensor, longitude: Tensor, power: Callable[[int], Tensor]) -> Colour:
    """Build isotropic noise of unit variance on a grid.

    Parameters
    ----------
    latitude, longitude : (lat,), (lon,)
        In degrees. Longitudes that close are global; all others a region.
    power : callable
        ``power(degrees)`` gives the power of each degree up to the highest, which is what the grid
        resolves.

    Returns
    -------
    callable
        White noise (..., lat, lon) to isotropic noise.

    Raises
    ------
    ValueError
        A region of too many cells.
    """
    latitude, longitude = latitude.double(), longitude.double()
    step = float(longitude[1] - longitude[0])
    if math.isclose(step * len(longitude), 360, rel_tol=1e-3):
        degrees = min(len(latitude) - 1, (len(longitude) - 1) // 2)
        return _global(latitude, longitude, _normalised(power(degrees)))
    cells = len(latitude) * len(longitude)
    if cells > MAX_CELLS:
        raise ValueError(f"isotropic noise on a region is for {MAX_CELLS} cells, not {cells}")
    return _regional(latitude, longitude, _normalised(power(math.ceil(180 / abs(step)))))


def correlate_frames(
    noise: Float[Tensor, "*batch time channel lat lon"], correlation: float
) -> Float[Tensor, "*batch time channel lat lon"]:
    """Correlate successive frames of white noise: each keeps its variance.

    Parameters
    ----------
    noise : (..., time, channel, lat, lon)
    correlation : float
        Between neighbouring frames, in [0, 1); it falls geometrically with their distance.
    """
    lag = torch.arange(noise.shape[-4], dtype=torch.float64)
    covariance = correlation ** (lag[:, None] - lag).abs()
    factor = torch.linalg.cholesky(covariance).to(noise)
    return torch.einsum("st,...tcyx->...scyx", factor, noise)


@dataclass(frozen=True)
class SpectralNoise:
    """Isotropic noise on one grid, correlated over the frames: a map of white noise.

    Parameters
    ----------
    latitude, longitude : tuple of float
        In degrees; see :func:`isotropic`.
    wavenumber : float
        Degree up to which the spectrum is flat; see :func:`power_law`.
    frame_correlation : float
        See :func:`correlate_frames`.
    """

    latitude: tuple[float, ...]
    longitude: tuple[float, ...]
    wavenumber: float = 10.0
    frame_correlation: float = 0.0

    def __call__(
        self, white: Float[Tensor, "*batch time channel lat lon"]
    ) -> Float[Tensor, "*batch time channel lat lon"]:
        """Colour white noise."""
        return correlate_frames(self._colour(white), self.frame_correlation)

    @cached_property
    def _colour(self) -> Colour:
        axes = [torch.tensor(a, dtype=torch.float64) for a in (self.latitude, self.longitude)]
        return isotropic(axes[0], axes[1], partial(power_law, wavenumber=self.wavenumber))


def _normalised(power: Tensor) -> Tensor:
    """To unit variance."""
    degree = torch.arange(len(power), dtype=torch.float64)
    return power / ((2 * degree + 1) / (4 * math.pi) * power).sum()


def _global(latitude: Tensor, longitude: Tensor, power: Tensor) -> Colour:
    count = len(power)
    legendre = power.sqrt()[:, None, None] * _legendre(count - 1, torch.deg2rad(latitude).sin())
    order = torch.arange(count)
    angle = order[:, None] * torch.deg2rad(longitude)
    double = torch.where(order > 0, math.sqrt(2), 1.0)[:, None]
    waves = torch.stack([double * angle.cos(), double * angle.sin()])
    # Each coefficient takes one value of the white noise: cosines m <= l, then sines 0 < m <= l.
    cosine = torch.tril(torch.ones(count, count, dtype=torch.bool))
    place = torch.stack([cosine, cosine & (order > 0)])

    def colour(white: Tensor) -> Tensor:
        values = white.flatten(-2)[..., : int(place.sum())]
        spectral = white.new_zeros(*white.shape[:-2], 2, count, count)
        spectral[..., place.to(white.device)] = values
        rows = torch.einsum("...klm,lmy->...kmy", spectral, legendre.to(white))
        return torch.einsum("...kmy,kmx->...yx", rows, waves.to(white))

    return colour


def _regional(latitude: Tensor, longitude: Tensor, power: Tensor) -> Colour:
    cells = torch.meshgrid(latitude, longitude, indexing="ij")
    lat, lon = (torch.deg2rad(a.flatten()) for a in cells)
    point = torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)
    degree = torch.arange(len(power), dtype=torch.float64)
    series = ((2 * degree + 1) / (4 * math.pi) * power).numpy()
    cosine = (point @ point.T).clamp(-1, 1).numpy()
    covariance = torch.from_numpy(np.polynomial.legendre.legval(cosine, series))
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T

    def colour(white: Tensor) -> Tensor:
        return (white.flatten(-2) @ root.to(white)).reshape(white.shape)

    return colour


def _legendre(degrees: int, sine: Tensor) -> Tensor:
    """Associated Legendre functions, orthonormal on the sphere, (degree, order, lat).

    By the standard forward column recursion over the degree (Holmes & Featherstone 2002,
    doi:10.1007/s00190-002-0216-2), with another normalisation.
    """
    out = torch.zeros(degrees + 1, degrees + 1, len(sine), dtype=torch.float64)
    cosine = torch.sqrt(1 - sine.square())
    out[0, 0] = math.sqrt(1 / (4 * math.pi))
    for m in range(1, degrees + 1):
        out[m, m] = math.sqrt((2 * m + 1) / (2 * m)) * cosine * out[m - 1, m - 1]
    for n in range(1, degrees + 1):
        order = torch.arange(n, dtype=torch.float64)[:, None].square()
        gain = torch.sqrt((4 * n**2 - 1) / (n**2 - order))
        lag = torch.sqrt(((n - 1) ** 2 - order).clamp(min=0) / (4 * (n - 1) ** 2 - 1))
        before = out[max(n - 2, 0), :n]  # for the first degree its factor is zero
        out[n, :n] = gain * (sine * out[n - 1, :n] - lag * before)
    return out
