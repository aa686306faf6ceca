"""What a model learns from beside its own data: other stores, and a model trained before."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from weatherdiff.config import Config
from weatherdiff.data.fields import Fields
from weatherdiff.data.prepare import parse_step
from weatherdiff.data.store import FieldStore
from weatherdiff.data.windows import Period, find_windows
from weatherdiff.errors import ConfigError, InputError, WeatherdiffError
from weatherdiff.workflow.fields import window_spec

if TYPE_CHECKING:
    from weatherdiff.data.loader import WindowDataset
    from weatherdiff.data.loading.mixture import Deviation
    from weatherdiff.flow import Objective
    from weatherdiff.forecasting.forecaster import Forecaster
    from weatherdiff.models import VideoDenoiser

__all__ = [
    "load_start",
    "mixed",
    "on_terms_of",
    "plain_deviations",
    "report_deviations",
    "start_weights",
]

logger = logging.getLogger(__name__)

SHIFTED, SPREAD = 1.0, 2.0  # from which a deviation is a warning


def load_start(config: Config) -> Forecaster | None:
    """Load the model that training starts from, if there is one."""
    from weatherdiff.forecasting.forecaster import Forecaster

    start = config.training.start_from
    return None if start is None else Forecaster.load(start)


def on_terms_of(start: Forecaster, store: Fields, config: Config) -> Fields:
    """Normalise a store with the statistics of a trained model.

    Raises
    ------
    ConfigError
        The model has other windows or forcings than the configuration asks for.
    InputError, GridMismatchError
        It has other channels, units or another grid than the store.
    """
    from weatherdiff.data.loading.mixture import normalized_by

    folder = config.training.start_from
    for what, theirs, ours in (
        ("channels", start.channels.labels, store.channels.labels),
        ("units", start.channels.units, store.channels.units),
    ):
        if theirs != ours:
            raise InputError(
                f"The model {folder} has the {what} {', '.join(theirs)}, the data have "
                f"{', '.join(ours)}; give it the variables, levels and units that it was trained "
                "on, in the same order (data.variables, data.levels)."
            )
    start.grid.require_same(store.grid)
    for key, was, wanted in (
        ("window", start.spec, window_spec(config)),
        ("forcings", start.forcings, tuple(config.forcings)),
    ):
        if was != wanted:
            raise ConfigError(
                f"The model {folder} was trained with {key} {was}, the configuration has "
                f"{wanted}; set it as it was, or leave training.start_from out."
            )
    for name in ("validation", "test"):
        learnt = start.normalizer.period
        held = config.splits.period(name, learnt.calendar)
        if held.start <= learnt.stop and learnt.start <= held.stop:
            logger.warning(
                "The model %s was trained on %s, which touches the %s period %s: if its data are "
                "of the same weather, scores of that period are too good.",
                folder, learnt, name, held,
            )  # fmt: skip
    return normalized_by(store, start.normalizer, start.mask)


def start_weights(
    network: VideoDenoiser, start: Forecaster, objective: Objective, folder: Path | None
) -> None:
    """Give a new network the weights of a trained model.

    Raises
    ------
    ConfigError
        They are not of the same make, or predict something else.
    """
    for what, was, wanted in (
        *(
            (f"{name} of its network", start.network.arguments[name], value)
            for name, value in network.arguments.items()
            if name != "dropout"
        ),
        ("path of its objective", start.objective.path, objective.path),
        ("prediction of its objective", start.objective.prediction, objective.prediction),
    ):
        if was != wanted:
            raise ConfigError(
                f"The model {folder} cannot be gone on from: the {what} is {was}, the "
                f"configuration asks for {wanted}. Set it as it was, or leave training.start_from "
                "out."
            )
    network.load_state_dict(start.network.state_dict())


def mixed(config: Config, training: WindowDataset) -> tuple[WindowDataset, list[dict[str, Any]]]:
    """Add the windows of the other stores of the mixture.

    Returns
    -------
    WindowDataset
        The same if there is no mixture.
    list of dict
        What each of the other stores gives, for the record.

    Raises
    ------
    InputError, GridMismatchError
        A store has other channels, units, static fields, another grid, or no window.
    """
    from weatherdiff.data.loader import CACHE_BYTES, WindowDataset
    from weatherdiff.data.loading.mixture import (
        MixtureDataset,
        deviations,
        normalized_by,
        require_alike,
    )

    options = config.training
    if not options.mixture:
        return training, []
    own, spec = training.store, window_spec(config)
    room = CACHE_BYTES - (own.nbytes if training.in_memory else 0)
    parts, records = [training], []
    for companion in options.mixture:
        store = FieldStore.open(companion.store)
        require_alike(own, store, str(companion.store))
        period = store.normalizer.period
        if companion.training is not None:
            period = Period.parse(*companion.training, store.calendar)
        held = _held_out(config, store)
        found = find_windows(store.times, store.valid & ~held, spec, period)
        logger.log(
            logging.WARNING if found.absent or found.invalid else logging.INFO,
            "%s: %d windows; %d left out for an absent frame, %d for missing data or a time that "
            "is held out (%d frames).",
            companion.store, len(found), found.absent, found.invalid, int(held.sum()),
        )  # fmt: skip
        if not len(found):
            raise InputError(
                f"{companion.store} has no window of {spec} in {period}; check its time step and "
                "training.mixture."
            )
        shared = normalized_by(store, own.normalizer, own.mask)
        try:
            differs = deviations(shared, found.indices, own.normalizer)
        except WeatherdiffError as error:
            raise type(error)(f"{companion.store}: {error}") from error
        report_deviations(str(companion.store), differs)
        part = WindowDataset(shared, found, spec, config.forcings, cache_bytes=room)
        room -= store.nbytes if part.in_memory else 0
        parts.append(part)
        records.append(
            {
                "store": str(companion.store),
                "created": store.metadata["created"],
                "source": store.metadata["source"],
                "weight": companion.weight,
                "windows": len(found),
                "deviations": plain_deviations(differs),
            }
        )
    weights = [options.own_weight, *(companion.weight for companion in options.mixture)]
    return MixtureDataset(parts, weights), records


def _held_out(config: Config, store: FieldStore) -> Any:
    """(time,): frames that validation and test need, their history and the gap included."""
    window, splits = config.window, config.splits
    reach = (window.history - 1) * parse_step(window.step)
    reach += parse_step(splits.gap) if splits.gap is not None else 0
    held = np.zeros(len(store.times), bool)
    for name in ("validation", "test"):
        period = splits.period(name, store.calendar)
        held |= Period(period.start - reach, period.stop).contains(store.times)
    return held


def report_deviations(name: str, found: Mapping[str, Deviation]) -> None:
    """Say of each channel how far it is from the statistics that it is normalised with."""
    for label, (mean, std) in found.items():
        far = abs(mean) > SHIFTED or not 1 / SPREAD < std < SPREAD
        logger.log(
            logging.WARNING if far else logging.INFO,
            "%s: anomalies of %s have mean %.2f and standard deviation %.2f with the statistics "
            "they are normalised with%s.",
            name, label, mean, std, "; these may not fit" if far else "",
        )  # fmt: skip


def plain_deviations(found: Mapping[str, Deviation]) -> dict[str, Any]:
    """Plain types, for JSON; None where there are no data."""
    return {
        label: {k: round(v, 6) if np.isfinite(v) else None for k, v in d._asdict().items()}
        for label, d in found.items()
    }
