"""Harmonics of a zonally periodic grid: Fourier in longitude, cosine in latitude."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.fft

from weatherdiff.data.simulator.simulation import ComplexArray, FloatArray

__all__ = ["Harmonics"]


@dataclass(frozen=True)
class Harmonics:
    """Orthonormal harmonics, reflecting at both edges of the latitudes.

    Parameters
    ----------
    shape : (int, int)
        Number of latitudes and of longitudes.
    latitudes : (float, float)
        Southern and northern edge, in degrees.

    Examples
    --------
    >>> harmonics = Harmonics((3, 8), (-90.0, 90.0))
    >>> field = np.arange(24.0).reshape(3, 8)
    >>> np.allclose(harmonics.synthesise(harmonics.analyse(field)), field)
    True
    """

    shape: tuple[int, int]
    latitudes: tuple[float, float]

    @cached_property
    def zonal(self) -> FloatArray:
        """Zonal wavenumber, (k)."""
        return np.arange(self.shape[1] // 2 + 1, dtype=np.float64)

    @cached_property
    def total(self) -> FloatArray:
        """Waves round the globe, (l, k); l half waves of cosine span the latitudes."""
        south, north = self.latitudes
        meridional = np.arange(self.shape[0]) * 180.0 / (north - south)
        return np.hypot(meridional[:, None], self.zonal)

    @property
    def travelling(self) -> np.ndarray:
        """Whether a zonal wave can have any phase, (k).

        The shortest one of an even number of longitudes has no sine.
        """
        return 2 * self.zonal != self.shape[1]

    def analyse(self, fields: FloatArray) -> ComplexArray:
        """Harmonics (..., l, k) of fields (..., latitude, longitude)."""
        cosines = scipy.fft.dct(fields, axis=-2, norm="ortho")
        return scipy.fft.rfft(cosines, axis=-1, norm="ortho")

    def synthesise(self, harmonics: ComplexArray) -> FloatArray:
        """Fields (..., latitude, longitude) of harmonics (..., l, k)."""
        cosines = scipy.fft.irfft(harmonics, n=self.shape[1], axis=-1, norm="ortho")
        return scipy.fft.idct(cosines, axis=-2, norm="ortho")

    def variance(self, spectra: FloatArray) -> FloatArray:
        """Variance (..., latitude) of fields, given that (..., l, k) of independent harmonics."""
        conjugates = np.where(self.zonal == 0, 1.0, 2.0)  # real waves behind a stored one
        cosines = scipy.fft.idct(np.eye(self.shape[0]), axis=0, norm="ortho")
        return (spectra * conjugates).sum(-1) @ (cosines**2).T / self.shape[1]
