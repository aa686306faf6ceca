"""Real sample data that comes with the package, for first steps, demos and tests.

``uk-2018`` is the WFDE5 near-surface meteorology (ERA5 corrected to station climatologies) of
Britain and Ireland in the hot summer of 2018, hourly on half a degree: 1464 times x 22 latitudes
x 28 longitudes, over land only. Licence and credit: ``sample/LICENSE.md``. The file was made by
``scripts/pack_sample.py``, which packs each variable to 16 bits with the error bound of
:data:`PRECISION`.

References
----------
Cucchi et al. (2020), WFDE5: bias-adjusted ERA5 reanalysis data for impact studies, Earth Syst.
Sci. Data, doi:10.5194/essd-12-2097-2020.
"""

from pathlib import Path
from types import MappingProxyType

import xarray as xr

from weatherdiff.errors import ConfigError

__all__ = ["PRECISION", "SAMPLES", "open_sample", "sample_path"]

_FOLDER = Path(__file__).parent / "sample"

#: File of each sample by the name that ``sample:NAME`` refers to.
SAMPLES = MappingProxyType({"uk-2018": _FOLDER / "wfde5_uk_2018_june_july.nc"})

#: Largest packing error of each variable of ``uk-2018``, in its unit: half a packing step.
#: An hour differs from the interpolation between its neighbours by 0.25 K, 1.2e-4 kg/kg, 11 Pa
#: and 25 W/m2 (root mean square of second differences over sqrt 6): the error is a fifth of that
#: for pressure and less than a tenth for the others, below what the fields resolve. Zero is a
#: packing step, so that the sun is exactly 0 at night.
PRECISION = MappingProxyType({"Tair": 0.02, "Qair": 5e-6, "PSurf": 2.0, "SWdown": 0.2})


def sample_path(name: str) -> Path:
    """Path of a sample data set.

    Parameters
    ----------
    name : str
        A key of :data:`SAMPLES`.

    Returns
    -------
    pathlib.Path
        A netCDF-4 file inside the installed package.

    Raises
    ------
    ConfigError
        No sample has this name.

    Examples
    --------
    >>> sample_path("uk-2018").name
    'wfde5_uk_2018_june_july.nc'
    """
    if name not in SAMPLES:
        raise ConfigError(f"no sample is named {name!r}; there is {', '.join(sorted(SAMPLES))}.")
    return SAMPLES[name]


def open_sample(name: str) -> xr.Dataset:
    """Open a sample data set as its makers named it, lazily.

    Parameters
    ----------
    name : str
        A key of :data:`SAMPLES`.

    Returns
    -------
    xr.Dataset
        For ``uk-2018``: 2 m air temperature ``Tair`` [K], specific humidity ``Qair`` [kg kg-1],
        surface pressure ``PSurf`` [Pa] and downward shortwave radiation ``SWdown`` [W m-2],
        each (time, lat, lon) in float32, NaN over sea; dask-backed, CF attributes.

    Raises
    ------
    ConfigError
        No sample has this name.

    Examples
    --------
    >>> with open_sample("uk-2018") as ds:
    ...     print(dict(ds.sizes), ds["Tair"].units, ds["Tair"].chunks is not None)
    {'time': 1464, 'lat': 22, 'lon': 28} K True
    """
    return xr.open_dataset(sample_path(name), engine="netcdf4", chunks={})
