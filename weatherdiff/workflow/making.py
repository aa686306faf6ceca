"""One forecast, from the model and the input to a published folder: for ``forecast`` and ``batch``.

The members are drawn unit by unit, see :mod:`weatherdiff.forecasting.work`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from weatherdiff.config import Config
from weatherdiff.data.soundness import require_sound
from weatherdiff.data.windows import seconds
from weatherdiff.errors import ConfigError, LockedError
from weatherdiff.forecasting.manifest import entry_of
from weatherdiff.forecasting.work import Work
from weatherdiff.layout import LAYOUT
from weatherdiff.signals import stop_if_asked
from weatherdiff.staging import remove_leftovers
from weatherdiff.workflow.fields import open_source
from weatherdiff.workflow.record import digest, set_threads, versions

__all__ = ["MADE_WITH", "Sampler", "Share", "make_forecast"]

logger = logging.getLogger(__name__)

MADE_WITH = "weatherdiff_made_with"
PATIENCE = 30  # seconds that a share waits for another to publish


@dataclass(frozen=True)
class Share:
    """Which units are ours when several processes make the same forecasts.

    Parameters
    ----------
    index, count : int
        We are the ``index``-th, from 1, of ``count``.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read "3/8".

        Raises
        ------
        ConfigError
            Not such a share.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(
                f'Not a share: {text!r}; write for example "3/8", the third of eight.'
            )
        return cls(int(found[1]), int(found[2]))

    def has(self, ordinal: int) -> bool:
        """Tell whether a unit is ours, by its position among all there will ever be."""
        return ordinal % self.count == self.index - 1


class Sampler:
    """The model and how a configuration draws from it.

    Parameters
    ----------
    config : Config
    analyses : Dataset, optional
        The configured source, if it is open already.
    """

    def __init__(self, config: Config, analyses: xr.Dataset | None = None) -> None:
        from weatherdiff.forecasting.assimilation import require_posterior
        from weatherdiff.forecasting.forecaster import Forecaster, Sampling
        from weatherdiff.forecasting.observations import open_observations

        set_threads(config)
        options = config.forecast
        self.config = config
        self._forecaster = Forecaster.load(config.model_folder)
        self._options = options
        self._sampling = Sampling(
            sampler=options.sampler,
            steps=options.steps,
            member_block=options.member_block,
            precision=options.precision,
            noise=options.noise,
            grid=options.grid,
            guidance=options.guidance,
            guidance_method=options.guidance_method,
        )
        # Refuses what has no meaning for the model.
        made_by = asdict(self._forecaster.schedule(self._sampling))
        made_by["precision"] = self._sampling.arithmetic
        self._observations: pd.DataFrame | None = None
        if options.observations is not None:
            require_posterior(self._forecaster.objective, self._sampling)
            self._observations = open_observations(options.observations)
            made_by["observations_sha256"] = digest(
                self._observations.to_json(date_format="iso", double_precision=15)
            )
        self.analyses = ds = open_source(config) if analyses is None else analyses
        self.frames = self._forecaster.frames_until(options.lead_time)
        self.attributes = {
            "title": "weatherdiff ensemble forecast",
            "history": f"weatherdiff {versions()['weatherdiff']}",
            "seed": options.seed,
            "model": str(config.model_folder),
            "licence_of_source": str(ds.attrs.get("licence", ds.attrs.get("license", ""))),
            LAYOUT: ds.attrs[LAYOUT],
            MADE_WITH: _forecast_settings(config, made_by),
        }
        if options.observations is not None:
            self.attributes["observations"] = options.observations

    @property
    def lead_times(self) -> npt.NDArray[np.timedelta64]:
        """Of all frames."""
        step = self._forecaster.spec.step
        leads = step * np.arange(1, self.frames + 1)
        return leads.astype("timedelta64[s]").astype("timedelta64[ns]")

    @property
    def block(self) -> tuple[int, int]:
        """Frames and members drawn together."""
        return self._forecaster.spec.frames, self._options.member_block

    @property
    def valid(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Where each variable has values."""
        mask = xr.DataArray(self._forecaster.mask, dims=("channel", "latitude", "longitude"))
        parts = self._forecaster.channels.unstack(mask)
        return {str(name): part.to_numpy() for name, part in parts.data_vars.items()}

    def blocks(
        self,
        init_time: np.datetime64,
        numbers: range | None = None,
        analyses: xr.Dataset | None = None,
    ) -> Iterator[xr.Dataset]:
        """Draw the members of an initial time, a block of frames at a time."""
        return self._forecaster.rollout(
            self.analyses if analyses is None else analyses,
            init_time=init_time,
            frames=self.frames,
            members=numbers or self._options.members,
            seed=self._options.seed,
            sampling=self._sampling,
            observations=self._observed(init_time),
        )

    def require_observed(self, init_times: Iterable[np.datetime64]) -> None:
        """Refuse observations of which no forecast can make use.

        Raises
        ------
        ConfigError
            There are some, and none is at a frame of a forecast.
        """
        if self._observations is None:
            return
        observed = [self._observed(init_time) is not None for init_time in init_times]
        if not any(observed):
            times = self._observations["valid_time"]
            raise ConfigError(
                f"forecast.observations: {self._options.observations} ({times.min()} to "
                f"{times.max()}) has no observation at a frame of any of the forecasts."
            )
        logger.info("%d of %d forecasts have observations.", sum(observed), len(observed))

    def _observed(self, init_time: np.datetime64) -> pd.DataFrame | None:
        """Give the observations at the frames of a forecast, if there are any."""
        if self._observations is None:
            return None
        spec = self._forecaster.spec
        frames = -(-self.frames // spec.frames) * spec.frames  # of whole blocks
        times = int(seconds([init_time])[0]) + spec.step * np.arange(1, frames + 1)
        found = np.isin(seconds(self._observations["valid_time"].to_numpy()), times)
        return self._observations[found] if found.any() else None

    def example(self, init_time: np.datetime64) -> xr.Dataset:
        """Give a block as :meth:`blocks` gives it, without drawing: for its layout alone."""
        return self._forecaster.layout(init_time, self._options.members).assign_attrs(
            self.attributes
        )

    def history(self, init_time: np.datetime64) -> xr.Dataset:
        """Read the frames that a forecast starts from into memory."""
        from weatherdiff.data.formats import load
        from weatherdiff.forecasting.initial_state import history_places

        ds, model = self.analyses, self._forecaster
        places = history_places(ds, int(seconds([init_time])[0]), model.spec)
        names = [name for name in dict.fromkeys(model.channels.variables) if name in ds]
        return load(ds[names].isel(time=places).copy())


def make_forecast(
    sampler: Sampler,
    init_time: np.datetime64,
    *,
    overwrite: bool = False,
    share: Share | None = None,
    ordinal: int = 0,
    unattended: bool = False,
    report: Callable[..., None] = lambda **_: None,
) -> Path | None:
    """Make and publish one forecast; units that an earlier run has finished are taken over.

    Parameters
    ----------
    sampler : Sampler
    init_time : datetime64
    overwrite : bool
        Replace a forecast that is there.
    share : Share, optional
        Make only its units. Whoever finds all units done publishes.
    ordinal : int
        Position of the initial time among all there will ever be.
    unattended : bool
        Look at every value of the input, see :func:`weatherdiff.data.soundness.require_sound`.
    report : callable, optional
        Called with keywords ``unit``, ``of`` and ``members`` after each unit.

    Returns
    -------
    Path or None
        None if others have published it or will.

    Raises
    ------
    LockedError
        Another process makes it.
    MissingInputError, InputError, StorageError
        Nothing is published then; units that are done stay for the next run.
    """
    started = datetime.now(UTC)
    analyses = sampler.history(init_time)
    if unattended:  # cells that miss values are looked at by the model, which knows the sea
        require_sound(analyses, missing=analyses.isnull().any("time"))
    fingerprint = _fingerprint(analyses)
    work = Work(
        folder=sampler.config.forecasts,
        example=sampler.example(init_time),
        lead_times=sampler.lead_times,
        block=sampler.block,
        attributes={**sampler.attributes, "input_sha256": fingerprint},
        valid=sampler.valid,
    )
    # Refuses input that is absent or unfit before anything is written.
    sampler.blocks(init_time, work.units[0], analyses)
    made = []
    with work.locked() if share is None else _sharing(work):
        if share is None:
            remove_leftovers(work.folder, of=work.path.name)
        if work.path.exists() and not overwrite:
            return None
        work.begin()
        for unit in work.due():
            stop_if_asked()
            numbers = work.units[unit]
            if share is None or share.has(ordinal * len(work.units) + unit):
                work.put(unit, sampler.blocks(init_time, numbers, analyses))
                made.append(unit)
                report(unit=unit, of=len(work.units), members=len(numbers))
        stop_if_asked()
        record = _record(sampler, init_time, analyses, fingerprint, started, made)
        if share is None:
            return work.publish(record, overwrite=overwrite)
    for _ in range(PATIENCE):
        try:
            with work.locked():
                if work.path.exists() or work.due():
                    return None
                return work.publish(record)
        except LockedError:
            if work.path.exists() or work.due():  # one that is still at a unit comes here after
                return None
            time.sleep(1)  # another publishes, or cleans up
    return None


@contextmanager
def _sharing(work: Work) -> Iterator[None]:
    """Share the units; if one of those that share is just publishing, wait for it."""
    with ExitStack() as stack:
        for attempt in range(PATIENCE):
            try:
                stack.enter_context(work.locked(shared=True))
                break
            except LockedError:
                if attempt == PATIENCE - 1:
                    raise
                time.sleep(1)
        yield


def _record(
    sampler: Sampler,
    init_time: np.datetime64,
    analyses: xr.Dataset,
    fingerprint: str,
    started: datetime,
    made: list[int],
) -> dict[str, Any]:
    """Tell in plain types how a forecast was made."""
    config = sampler.config
    settings = config.model_dump(mode="json")
    return {
        "run": {
            "format": "weatherdiff run",
            "version": 1,
            "init_time": f"{init_time.astype('datetime64[s]')}Z",
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": config.forecast.seed,
            "members": config.forecast.members,
            "units_made_by_the_last_run": made,
            "settings": json.loads(sampler.attributes[MADE_WITH]),
            "configuration": settings,
            "configuration_sha256": digest(settings),
            "model": {
                "folder": str(config.model_folder),
                "weights_sha256": json.loads(sampler.attributes[MADE_WITH])["weights_sha256"],
                "description_sha256": entry_of(config.model_folder / "model.json").sha256,
            },
            "input": {
                "sha256": fingerprint,
                "times": [f"{t}Z" for t in analyses["time"].values.astype("datetime64[s]")],
                "source": config.data.model_dump(mode="json")["source"],
            },
            "packages": {"python": platform.python_version(), **versions()},
            "machine": platform.platform(),
        }
    }


def _fingerprint(ds: xr.Dataset) -> str:
    """Hash times and values of what a forecast starts from."""
    total = hashlib.sha256(seconds(ds["time"].values).tobytes())
    for name in sorted(map(str, ds.data_vars)):
        total.update(name.encode())
        total.update(np.ascontiguousarray(ds[name].to_numpy()).tobytes())
    return total.hexdigest()


def _forecast_settings(config: Config, made_by: Mapping[str, Any]) -> str:
    """Give what forecasts depend on beside initial times and the contents of the source."""
    model = json.loads((config.model_folder / "model.json").read_text())
    options = config.forecast.model_dump(mode="json", exclude={"init_times", "every"})
    options |= made_by
    # As forecasts were described before there was a choice, so that those that are there stay.
    plain = {
        "grid": "uniform", "guidance": 1.0, "observations": None, "guidance_method": "auto"
    }  # fmt: skip
    if options["observations"] is not None:
        del plain["guidance_method"]
    for key, only in plain.items():
        if options[key] == only:
            del options[key]
    return json.dumps({**options, "weights_sha256": model["weights_sha256"]}, sort_keys=True)
