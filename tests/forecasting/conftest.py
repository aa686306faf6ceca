"""Forecasts that are about to be made in units."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from weatherdiff.forecasting.forecaster import Forecaster
from weatherdiff.forecasting.work import Work

INIT = np.datetime64("2020-01-30T06")


@pytest.fixture
def announce(forecaster: Forecaster, tmp_path: Path) -> Callable[..., Work]:
    """Announce so many members and frames, two members together."""

    def make(
        folder: str, attributes: dict[str, Any], *, members: int, frames: int, **options: Any
    ) -> Work:
        mask = xr.DataArray(forecaster.mask, dims=("channel", "latitude", "longitude"))
        valid = forecaster.channels.unstack(mask)
        leads = forecaster.spec.step * np.arange(1, frames + 1)
        return Work(
            folder=tmp_path / folder,
            example=forecaster.layout(INIT, members),
            lead_times=leads.astype("timedelta64[s]").astype("timedelta64[ns]"),
            block=(forecaster.spec.frames, 2),
            attributes=attributes,
            valid={str(n): v.to_numpy() for n, v in valid.data_vars.items()},
            **options,
        )

    return make
