"""Names, units and plausible values of the variables and dimensions.

One table, :data:`VARIABLES`, holds what is known of each variable; a variable that is not in it
keeps the name and the units it has. Canonical names are those of WeatherBench 2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import cf_xarray  # noqa: F401  (registers the accessor ds.cf)
import cftime
import numpy as np
import xarray as xr
from dask.local import get_sync

from weatherdiff.errors import DimensionError, InputError, UnitsError
from weatherdiff.units import likely_units, unit_conversion

__all__ = [
    "DIMENSIONS",
    "VARIABLES",
    "Variable",
    "canonical_names",
    "check_plausible",
    "convert_units",
    "validate",
]


@dataclass(frozen=True)
class Variable:
    """What is known of one variable, in its canonical units.

    Parameters
    ----------
    name, units : str
        WeatherBench 2's name and the canonical units.
    low, high : float
        Range in which the mean of a field must lie to be plausible.
    standard_names : str
        CF standard names, separated by spaces.
    aliases : str
        Names in common data sets, separated by spaces, compared without regard to case.
    place : {"surface", "2 m", "10 m", "level", "static"}
        Where it is given; the same alias or standard name may mean another variable elsewhere.
    lower, upper : float, optional
        Bounds no value can physically exceed.
    """

    name: str
    units: str
    low: float
    high: float
    standard_names: str
    aliases: str
    place: str = "surface"
    lower: float | None = None
    upper: float | None = None


# fmt: off
_TABLE = (
    Variable("2m_temperature", "K", 170, 340, "air_temperature", "t2m 2t tas tair", "2 m"),
    Variable("2m_dewpoint_temperature", "K", 150, 320, "dew_point_temperature", "d2m 2d tdps",
             "2 m"),
    Variable("2m_specific_humidity", "kg kg**-1", 0, .05, "specific_humidity",
             "qair huss q2m sh2 2sh", "2 m", 0, 1),
    Variable("2m_relative_humidity", "1", 0, 1.2, "relative_humidity", "hurs r2 2r rh2m", "2 m", 0),
    Variable("10m_u_component_of_wind", "m s**-1", -100, 100, "eastward_wind", "u10 10u uas",
             "10 m"),
    Variable("10m_v_component_of_wind", "m s**-1", -100, 100, "northward_wind", "v10 10v vas",
             "10 m"),
    Variable("10m_wind_speed", "m s**-1", 0, 120, "wind_speed", "si10 10si sfcwind wind", "10 m",
             0),
    Variable("surface_pressure", "Pa", 3e4, 1.1e5, "surface_air_pressure", "sp ps psurf",
             lower=0),
    Variable("mean_sea_level_pressure", "Pa", 8.5e4, 1.1e5,
             "air_pressure_at_mean_sea_level air_pressure_at_sea_level",
             "msl slp psl prmsl mslp mslet", lower=0),
    Variable("sea_surface_temperature", "K", 260, 320, "sea_surface_temperature", "sst tos"),
    Variable("skin_temperature", "K", 170, 350, "", "skt ts"),
    Variable("total_cloud_cover", "1", 0, 1, "cloud_area_fraction", "tcc clt", lower=0, upper=1),
    Variable("sea_ice_cover", "1", 0, 1, "sea_ice_area_fraction", "siconc ci icec",
             lower=0, upper=1),
    Variable("total_column_water_vapour", "kg m**-2", 0, 120,
             "atmosphere_mass_content_of_water_vapor", "tcwv prw", lower=0),
    Variable("total_precipitation", "m", 0, 1, "lwe_thickness_of_precipitation_amount", "tp",
             lower=0),
    Variable("total_precipitation_6hr", "m", 0, 1, "", "", lower=0),
    Variable("total_precipitation_24hr", "m", 0, 2, "", "", lower=0),
    Variable("precipitation_flux", "kg m**-2 s**-1", 0, .1, "precipitation_flux", "pr prate",
             lower=0),
    Variable("rainfall_flux", "kg m**-2 s**-1", 0, .1, "rainfall_flux", "rainf", lower=0),
    Variable("snowfall_flux", "kg m**-2 s**-1", 0, .1, "snowfall_flux", "snowf prsn", lower=0),
    Variable("surface_downwelling_shortwave_flux", "W m**-2", 0, 1500,
             "surface_downwelling_shortwave_flux_in_air",
             "swdown rsds ssrd msdwswrf dswrf avg_sdswrf", lower=0),
    Variable("surface_downwelling_longwave_flux", "W m**-2", 0, 800,
             "surface_downwelling_longwave_flux_in_air",
             "lwdown rlds strd msdwlwrf dlwrf avg_sdlwrf", lower=0),
    Variable("temperature", "K", 140, 350, "air_temperature", "t ta air temp", "level"),
    Variable("geopotential", "m**2 s**-2", -1e4, 8e5, "geopotential", "z phi", "level"),
    Variable("geopotential_height", "m", -1e3, 8e4, "geopotential_height", "zg gh hgt", "level"),
    Variable("specific_humidity", "kg kg**-1", -1e-5, .05, "specific_humidity", "q hus shum",
             "level", 0, 1),
    Variable("relative_humidity", "1", 0, 1.6, "relative_humidity", "r hur rhum rh", "level", 0),
    Variable("u_component_of_wind", "m s**-1", -200, 200, "eastward_wind", "u ua uwnd", "level"),
    Variable("v_component_of_wind", "m s**-1", -200, 200, "northward_wind", "v va vwnd", "level"),
    Variable("vertical_velocity", "Pa s**-1", -20, 20, "lagrangian_tendency_of_air_pressure",
             "w wap omega", "level"),
    Variable("geopotential_at_surface", "m**2 s**-2", -1e4, 1e5, "surface_geopotential", "z phis",
             "static"),
    Variable("orography", "m", -1e3, 1e4, "surface_altitude", "orog", "static"),
    Variable("land_sea_mask", "1", 0, 1, "land_area_fraction", "lsm sftlf land_binary_mask",
             "static", 0, 1),
)
# fmt: on

#: The known variables by canonical name.
VARIABLES: Mapping[str, Variable] = {variable.name: variable for variable in _TABLE}

#: Aliases of the dimensions by canonical name. Whether ``time`` is that of the start or the valid
#: time of a forecast cannot be told from its name: with a lead time it is refused.
DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    "time": ("valid_time", "date", "datetime"),
    "init_time": ("forecast_reference_time", "initial_time", "reference_time"),
    "lead_time": ("step", "prediction_timedelta", "forecast_period", "leadtime"),
    "number": ("realization", "member", "ens", "ensemble", "ensemble_member"),
    "level": ("isobaricinhpa", "isobaricinpa", "plev", "pressure_level", "pressure", "lev"),
    "latitude": ("lat",),
    "longitude": ("lon", "long"),
}


def canonical_names(ds: xr.Dataset, rename: Mapping[str, str] | None = None) -> dict[str, str]:
    """Canonical name of each dimension, coordinate and variable that has another one.

    Dimensions are known by :data:`DIMENSIONS` or their CF attributes, variables by an alias in
    :data:`VARIABLES`, else by their CF standard name where that is unambiguous: near-surface
    variables share theirs with those on levels, so a scalar ``height`` coordinate must tell.

    Parameters
    ----------
    ds : xr.Dataset
        Any data set.
    rename : mapping, optional
        Names given by the user, which take precedence: ``{"their_name": "canonical_name"}``.

    Returns
    -------
    dict
        From the data set's names to canonical ones, for ``ds.rename``.

    Raises
    ------
    InputError
        Two variables have the same canonical name.

    Examples
    --------
    >>> ds = xr.Dataset({"slp": (("lat", "lon"), [[1.0e5]])})
    >>> canonical_names(ds)
    {'lat': 'latitude', 'lon': 'longitude', 'slp': 'mean_sea_level_pressure'}
    """
    present = {str(name) for name in (*ds.variables, *ds.dims)}
    names = {old: new for old, new in (rename or {}).items() if old in present}
    for name in DIMENSIONS:
        if name not in (present - names.keys()) | set(names.values()):
            alias = _find_dimension(ds, name)
            if alias is not None:
                names.setdefault(alias, name)
    level = next((old for old, new in names.items() if new == "level"), "level")
    fields = {str(name): field for name, field in ds.data_vars.items()}
    for name, field in fields.items():
        variable = _find_variable(name, field, level)
        if variable is not None:
            names.setdefault(name, variable.name)
    sources: dict[str, str] = {}
    for name in fields:
        first = sources.setdefault(names.get(name, name), name)
        if first != name:
            raise InputError(
                f"{first} and {name} are both {names.get(name, name)}; drop one, or name one "
                f"yourself with rename={{{name!r}: 'another_name'}}."
            )
    return {old: new for old, new in names.items() if old != new}


def _find_dimension(ds: xr.Dataset, name: str) -> str | None:
    """Name under which a data set has a dimension, or else a coordinate."""
    for candidate in (*ds.dims, *ds.coords):
        if str(candidate).lower() in DIMENSIONS[name]:
            return str(candidate)
    if name in ("latitude", "longitude", "time"):
        found = ds.cf.coordinates.get(name, [])
        return str(found[0]) if len(found) == 1 and ds[found[0]].ndim == 1 else None
    return None


def _find_variable(name: str, field: xr.DataArray, level: str) -> Variable | None:
    if name in VARIABLES:
        return VARIABLES[name]
    on_levels = level in field.dims or level in field.coords
    heights = [float(c) for k, c in field.coords.items() if "height" in str(k) and c.ndim == 0]
    for variable in _TABLE:
        if name.lower() in variable.aliases.split() and on_levels == (variable.place == "level"):
            return variable
    if re.search("maximum|minimum", str(field.attrs.get("cell_methods"))):
        return None  # a daily maximum has the standard name of what it is the maximum of
    for variable in _TABLE:
        fits = on_levels == (variable.place == "level")
        if variable.place in ("2 m", "10 m"):
            fits = fits and heights == [float(variable.place.split()[0])]
        if fits and field.attrs.get("standard_name") in variable.standard_names.split():
            return variable
    return None


def convert_units(
    ds: xr.Dataset, units: Mapping[str, str] | None = None
) -> tuple[xr.Dataset, dict[str, str]]:
    """Bring known variables, and ``level`` if there is one, into canonical units; all to float32.

    Parameters
    ----------
    ds : xr.Dataset
        With canonical names.
    units : mapping, optional
        Units by canonical name, for where the data set has none or wrong ones.

    Returns
    -------
    xr.Dataset
        The same, lazy if ``ds`` is; a variable that is not in the table keeps its units.
    dict
        The units each variable had.

    Raises
    ------
    UnitsError
        Units are absent, unknown, or of another quantity.
    """
    names = [str(name) for name in (*ds.data_vars, "level") if name in ds]
    had = {name: (units or {}).get(name) or _stated_units(ds[name]) for name in names}
    converted = {}
    for name in names:
        canonical = "hPa" if name == "level" else had[name]
        if name in VARIABLES:
            canonical = VARIABLES[name].units
        values = ds[name].variable.astype(np.float64 if name == "level" else np.float32)
        if name == "level" or name in VARIABLES:
            try:
                factor, offset = unit_conversion(had[name], canonical)
            except UnitsError as error:
                raise UnitsError(f"{name}: {error}") from error
            if (factor, offset) != (1, 0):
                values = values * factor + offset
        values.attrs = {**ds[name].attrs, "units": canonical}
        converted[name] = values
    return ds.assign(converted), had


# The levels of ERA5: a `level` of these without units, as in WeatherBench 2, is a pressure.
_PRESSURE_LEVELS = (
    *(1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 125, 150, 175, 200, 225, 250, 300, 350, 400, 450),
    *(500, 550, 600, 650, 700, 750, 775, 800, 825, 850, 875, 900, 925, 950, 975, 1000),
)


def _stated_units(field: xr.DataArray) -> str:
    stated = field.attrs.get("units")
    if stated is not None:
        return str(stated)
    if field.name == "level" and field.max() >= 100 and field.isin(_PRESSURE_LEVELS).all():
        return "hPa"
    raise UnitsError(
        f"{field.name} has no units; pass them as units={{{field.name!r}: '...'}}, "
        "or choose the variables you need with variables=[...]."
    )


def check_plausible(ds: xr.Dataset) -> None:
    """Refuse a variable whose first field shows that its units are not what they say.

    Reads one time of each known variable; one with infinite values is not judged.

    Raises
    ------
    UnitsError
        The mean of the first field is out of the plausible range.
    """
    known = ds[[name for name in ds.data_vars if name in VARIABLES]]
    first = known.isel({"time": 0}, missing_dims="ignore")
    mean_of = first.astype(np.float64).mean()
    # (not by its name, for which dask would import distributed)
    for name, field in mean_of.compute(scheduler=get_sync).items():
        variable, mean = VARIABLES[str(name)], float(field)
        # what is missing or infinite tells nothing of units, and is looked for when it is read
        if not np.isfinite(mean) or variable.low <= mean <= variable.high:
            continue
        guess = likely_units(mean, variable.units, variable.low, variable.high)
        raise UnitsError(
            f"{name} is labelled {variable.units} but its first field has mean {mean:g}, expected "
            f"{variable.low:g} to {variable.high:g}: "
            f"{f'it looks like {guess}' if guess else 'the units or the name are wrong'}; pass the "
            f"true units as units={{{name!r}: {guess or '...'!r}}}."
        )


_ORDERS = (
    ("time", "latitude", "longitude"),
    ("time", "level", "latitude", "longitude"),
    ("latitude", "longitude"),
)


def validate(ds: xr.Dataset) -> None:
    """Check that a data set is a canonical analysis, as ``open_fields`` returns.

    Parameters
    ----------
    ds : xr.Dataset
        Variables (time[, level], latitude, longitude) or (latitude, longitude).

    Raises
    ------
    DimensionError
        A dimension or a coordinate is missing, unexpected or out of order, or ``time`` no time.
    InputError
        There is no variable, a coordinate does not increase, or values are not floating point.
    UnitsError
        Units are absent, not canonical, or implausible for the values.
    """
    if not ds.data_vars:
        raise InputError("the data set holds no variable.")
    for name, field in ds.data_vars.items():
        if field.dims not in _ORDERS:
            raise DimensionError(
                f"{name} has dimensions {field.dims}, expected one of {_ORDERS}; "
                "open it with open_fields, or transpose and select."
            )
        if not np.issubdtype(field.dtype, np.floating):
            raise InputError(f"{name} is of type {field.dtype}, expected floating point.")
        units = field.attrs.get("units")
        if units is None:
            raise UnitsError(f"{name} has no units.")
        if str(name) in VARIABLES and units != VARIABLES[str(name)].units:
            raise UnitsError(f"{name} is in {units!r}, expected {VARIABLES[str(name)].units!r}.")
    for name in ds.dims:
        if name not in ds.indexes:
            raise DimensionError(f"dimension {name} has no coordinate.")
        index = ds.indexes[name]
        if name == "time" and not (
            np.issubdtype(ds["time"].dtype, np.datetime64) or isinstance(index[0], cftime.datetime)
        ):
            raise DimensionError(f"time is of type {ds['time'].dtype}, expected dates.")
        increasing = name == "level" or index.is_monotonic_increasing
        if not (index.is_unique and increasing):
            raise InputError(f"{name} is not strictly increasing or holds a value twice.")
    check_plausible(ds)
