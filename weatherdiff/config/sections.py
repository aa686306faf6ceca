"""The sections of a configuration."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from weatherdiff.config.products import Products
from weatherdiff.config.section import Section
from weatherdiff.config.sources import Box, NewGrid, Secret, Sources

if TYPE_CHECKING:
    from weatherdiff.data.windows import Period

__all__ = [
    "Batch",
    "Data",
    "Evaluation",
    "Forecast",
    "Model",
    "Objective",
    "Positive",
    "Report",
    "Splits",
    "Training",
    "Window",
    "in_some_calendar",
]

T = TypeVar("T")
Positive = Annotated[int, Field(ge=1)]
Span = tuple[str, str]
Sampler = Literal["euler", "midpoint", "heun", "ddim", "dpm++2m", "adaptive", "ancestral", "churn"]
Weighting = Literal["plain", "bound", "sigmoid", "flow_matching", "noise_cosine", "min_snr", "edm"]
Grid = Literal["uniform", "karras", "shifted"]


class Data(Section):
    """What to read."""

    source: Sources
    """A file, a glob, a list of these, a Zarr store, a URL, or ``sample:NAME``; in a list, also
    mappings with ``path`` and what is particular to that source, see
    :class:`~weatherdiff.config.sources.Source`."""
    variables: list[str] | None = None
    """Canonical or own names; all by default. Static fields may be among them."""
    levels: list[float] | None = None
    """Pressure levels in hPa; all by default."""
    rename: dict[str, str] = {}
    """The data's own name -> the name to use."""
    units: dict[str, str] = {}
    """Units of variables whose attributes lack them."""
    engine: str | None = None
    """Of xarray; chosen from the file by default."""
    storage_options: Secret = {}
    """Of the file system of URLs, such as ``{anon: true}``, and ``patience: {attempts, timeout,
    wait}``. Credentials are better given by the environment; neither is written down."""
    region: Box | None = None
    """The part of the globe to take; all by default."""
    regrid: NewGrid | None = None
    """The grid to bring all sources to; their own, which must be the same, by default."""
    join: Literal["exact", "inner", "outer"] = "exact"
    """Of the times of several sources: the same in all, those that all have, or all that any has,
    where the frames that lack in some are missing."""
    fill: Literal["climatology"] | None = None
    """What missing values become; by default the frames that have them are left out."""
    profile: Literal["lz4", "raw", "packed"] = "lz4"
    """How the store keeps fields: ``lz4`` without loss, ``raw`` twice as large and read fastest, or
    ``packed`` to 16 bits, half of raw, with the measured error in the manifest."""
    prepare: bool = True
    """Whether training reads a field store that ``prepare`` has written. With ``false`` it reads
    the source itself, whatever that is: slower, but nothing is copied; the batches are the same."""
    quality: Literal["report", "refuse", "mark"] = "report"
    """What is done about fields that quality control finds fault with: they are told of, refused,
    or made missing. See :data:`weatherdiff.data.quality.CHECKS`."""


class Window(Section):
    """The shape of a forecast block in time."""

    step: str
    """From frame to frame: a multiple of the data's own step."""
    history: Positive = 2
    """Frames given."""
    frames: Positive
    """Frames predicted jointly."""


def in_some_calendar(read: Callable[..., T]) -> T:
    """Read dates that the standard calendar may not have, as 30 February: it is the data's."""
    from weatherdiff.errors import ConfigError

    try:
        return read("proleptic_gregorian")
    except ConfigError:
        for calendar in ("all_leap", "360_day"):
            with suppress(ConfigError):
                return read(calendar)
        raise


class Splits(Section):
    """Periods, both ends included. Targets lie inside; history may reach back before."""

    training: Span
    validation: Span
    test: Span
    gap: str | None = None
    """Time that must lie between two periods beside the history, ``"5D"`` say: how long weather
    remembers. A training set that ends as the test begins makes forecasts look better."""

    @field_validator("training", "validation", "test", mode="after")
    @classmethod
    def _is_a_period(cls, span: Span) -> Span:
        from weatherdiff.data.windows import Period

        in_some_calendar(lambda calendar: Period.parse(*span, calendar))
        return span

    def period(self, name: str, calendar: str) -> Period:
        """Read one of them in the calendar of the data."""
        from weatherdiff.data.windows import Period

        start, stop = getattr(self, name)
        return Period.parse(start, stop, calendar)


class Model(Section):
    """The denoiser."""

    size: Literal["tiny", "small", "base", "large"] = "small"
    mixing: Literal["joint", "factorised", "attention"] = "joint"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Objective(Section):
    """What the network is trained and sampled for: a rung of the ladder, or any mixture of them.

    All keys but the rung's name default to what the rung has; see :mod:`weatherdiff.flow`.
    """

    rung: Literal[
        "variational",
        "noise_prediction",
        "v_prediction",
        "edm",
        "flow_matching",
        "flow_matching_ot",
    ] = "flow_matching"
    path: Literal["linear", "ddpm", "cosine", "edm"] | None = None
    prediction: Literal["noise", "data", "v", "velocity", "score"] | None = None
    times: Literal["uniform", "low_discrepancy", "logit_normal", "log_normal"] | None = None
    """Distribution of the flow times; ``training.tau`` has its mean and standard deviation."""
    loss: Literal["mean_square", "variational"] | None = None
    variance: Literal["fixed_small", "fixed_large", "learned"] | None = None
    """Of the reversed steps of a chain, in the variational loss and in the ancestral sampler, which
    with few steps does better with ``fixed_small`` than with ``fixed_large``. The loss alone
    teaches the network ``learned``."""
    weighting: Weighting | None = None
    coupling: Literal["independent", "optimal_transport"] | None = None
    sampler: Sampler | None = None
    steps: Positive | None = None
    grid: Grid | None = None
    """Sampler, its steps and their spacing, recorded with the model and used in validation."""
    noise: Literal["white", "isotropic"] = "white"
    """Spectrum of the noise: independent cells, or isotropic on the sphere."""
    noise_wavenumber: Annotated[float, Field(gt=0)] = 10.0
    """Waves round the globe up to which isotropic noise is white."""
    frame_correlation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of isotropic noise, between neighbouring frames."""
    history_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that a training window loses its history: for ``forecast.guidance``."""


class Companion(Section):
    """Another prepared store, from which training windows are drawn beside the run's own data."""

    store: Path
    """A field store with the same channels, units, grid and static fields."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Its share of the windows, relative to ``training.own_weight`` and to the other stores."""
    training: Span | None = None
    """Period of its windows; the training period that it was prepared with by default. Frames at
    times that this run holds out for validation or test are never used."""

    @field_validator("training", mode="after")
    @classmethod
    def _is_a_period(cls, span: Span | None) -> Span | None:
        from weatherdiff.data.windows import Period

        if span is not None:
            Period.parse(*span)
        return span


class Training(Section):
    """Optimisation and validation."""

    start_from: Path | None = None
    """A model folder whose weights training starts from (fine-tuning); its normalisation is kept,
    and how far the data are from it is reported."""
    mixture: list[Companion] = []
    """Other stores to train on as well. All are normalised with the statistics of this run's own
    data, or of ``start_from``."""
    own_weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of this run's own data in the mixture."""

    steps: Positive = 3000
    batch_size: Positive = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup: Positive = 100
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    tau: tuple[float, Annotated[float, Field(gt=0)]] | None = None
    """Mean and standard deviation of the logit of the flow times (``logit_normal``) or of the
    logarithm of the ratio of noise to data (``log_normal``); the rung's by default."""
    rotation: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that a window is mixed with another of the same time of day; for little data."""
    amplitude: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the logarithm of a factor on each window; for little data."""
    history_noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of smooth noise on the history; for little data."""
    order: Literal["exact", "pool"] = "exact"
    """Of the windows: permutations of all, or pools of blocks (each frame is decoded once a pool:
    for data larger than the memory)."""
    validate_every: Positive = 250
    validation_members: Annotated[int, Field(ge=2)] = 8
    validation_windows: Positive = 64
    """At most so many windows, evenly spread over the validation period."""
    patience: Positive = 10
    """Validations without improvement before training stops."""
    calibrate: bool = True
    """Scale the initial noise so that spread matches error on the validation period."""
    precision: Literal["auto", "bf16-mixed", "32-true", "16-mixed"] = "auto"
    """``auto``: bfloat16 where the device computes in it, else 32 bits."""
    batches: Literal["fp32", "bf16"] = "fp32"
    """What training batches are kept in on the device; half the memory, with values of 8 bits."""
    devices: int | Literal["auto"] = "auto"
    seed: int = 0


class Forecast(Section):
    """The ensembles to make."""

    members: Annotated[int, Field(ge=2)] = 20
    lead_time: str
    init_times: list[str] | Literal["test"] = "test"
    """``test``: every initial time of the test period whose frames are all there."""
    every: Positive = 1
    """Only each n-th of the test period's initial times."""
    sampler: Sampler | None = None
    steps: Positive | None = None
    grid: Grid | None = None
    """Sampler, its steps and their spacing: those of the model's objective by default."""
    guidance: float = 1.0
    """How far the history is believed: 1 as trained, 0 gives samples of the climate; other values
    than 1 need ``objective.history_dropout``."""
    observations: str | None = None
    """A table of sparse observations of the frames being forecast, CSV, NetCDF or Zarr, towards
    which the members are guided; see :mod:`weatherdiff.forecasting.observations`."""
    guidance_method: Literal["auto", "exact", "isotropic", "no_gradient"] = "auto"
    """How they correct the network's expectation; see :class:`Sampling`."""
    member_block: Positive = 10
    """Members in one call of the network; results are bit-identical for a fixed block."""
    noise: dict[str, tuple[float, float]] = {}
    """Channel -> factors on its initial noise at the first and last frame of a block: a wider
    start gives a wider ensemble."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """As in ``training``; bit-identical results need the same arithmetic."""
    seed: int = 0
    products: Products = Products()
    """What is published of the members: mean, spread, quantiles, probabilities; none by default."""
    keep_members: bool = True
    """Whether the members are published, too. Without, no disk is needed for them."""
    scheduler: str | None = None
    """Who draws the members: the address of a dask scheduler, or ``local:4`` for four processes of
    this machine; the run itself by default. The result does not depend on it."""
    worker_timeout: Annotated[float, Field(gt=0)] | None = None
    """Instead of the key of that name outside the sections, while members are drawn."""

    @field_validator("scheduler", mode="after")
    @classmethod
    def _is_a_cluster(cls, scheduler: str | None) -> str | None:
        if scheduler == "threads":
            raise ValueError(
                "threads are PyTorch's here, see the key threads; give local:4 for four processes, "
                "or the address of a dask scheduler"
            )
        return scheduler

    @model_validator(mode="after")
    def _publishes_something(self) -> Forecast:
        if not self.keep_members and not self.products.any:
            raise ValueError("without members (keep_members: false) a forecast needs products")
        return self

    @model_validator(mode="after")
    def _has_what_the_method_is_for(self) -> Forecast:
        if self.guidance_method != "auto" and self.observations is None:
            raise ValueError(
                f"guidance_method {self.guidance_method} is for observations; name their table in "
                "forecast.observations"
            )
        return self

    @field_validator("init_times", mode="after")
    @classmethod
    def _are_times(cls, times: list[str] | str) -> list[str] | str:
        from weatherdiff.data.windows import parse_time

        for time in times if isinstance(times, list) else []:
            in_some_calendar(lambda calendar, time=time: parse_time(time, calendar))
        return times


class EventOf(Section):
    """A threshold whose exceedance is forecast; exactly one of the four is given."""

    variable: str
    """Canonical name, with the level appended for one of several: ``temperature_850``."""
    above: float | None = None
    """In the variable's unit."""
    below: float | None = None
    above_percentile: Annotated[float, Field(gt=0, lt=100)] | None = None
    """Of the training period at that place, season and hour."""
    below_percentile: Annotated[float, Field(gt=0, lt=100)] | None = None

    @model_validator(mode="after")
    def _has_one_threshold(self) -> EventOf:
        given = {name: v for name, v in self if name != "variable" and v is not None}
        if len(given) != 1:
            raise ValueError(
                f"an event has one of above, below, above_percentile and below_percentile; "
                f"found {', '.join(given) or 'none'}"
            )
        return self


class Evaluation(Section):
    """What the forecasts are compared with, and which scores are made beside the usual ones."""

    baselines: list[
        Literal[
            "climatology", "persistence", "smooth_climatology", "analogs", "linear_inverse_model"
        ]
    ] = ["climatology", "persistence"]
    """All fitted on the training period."""
    baseline_members: Annotated[int, Field(ge=2)] = 20
    """Of the analogs, the smooth climatology and the linear inverse model."""
    patterns: Positive = 20
    """Leading patterns (EOFs) of the linear inverse model."""
    events: list[EventOf] = []
    regions: list[str] = []
    """Names, see :func:`weatherdiff.evaluation.regions`; ``land`` and ``sea`` need a
    ``land_sea_mask`` in the data."""
    boxes: dict[str, tuple[float, float, float, float]] = {}
    """Name -> (south, north, west, east) in degrees."""
    scores: list[
        Literal[
            "anomaly_correlation",
            "crps_by_scale",
            "decomposition",
            "energy",
            "energy_lead_time",
            "energy_variable",
            "fractions",
            "maps",
            "spectra",
            "variogram",
        ]
    ] = ["decomposition", "energy", "energy_lead_time", "maps"]
    scales: list[Positive] = [1, 2, 4, 8]
    """Cells along the side of the boxes of ``crps_by_scale``."""
    windows: list[Positive] = [1, 3, 5, 9]
    """Cells along the side of the neighbourhoods of ``fractions``, odd."""
    nan: Literal["propagate", "omit"] = "propagate"
    """What a missing value of a forecast does: make the score NaN, or be left out and counted."""
    workers: Positive | None = None
    """Blocks scored at once; as many as there are processors by default."""


class Report(Section):
    """The HTML page."""

    title: str | None = None
    points: dict[str, tuple[float, float]] = {}
    """Name -> (latitude, longitude) of the plumes; chosen from the grid by default."""


class Batch(Section):
    """Scheduled runs: ``weatherdiff batch``."""

    cycle: list[str] = ["00:00", "06:00", "12:00", "18:00"]
    """Initial times of a day, UTC."""
    max_lateness: str = "24h"
    """An initial time that is not published so long after it is given up."""
    keep: str | None = None
    """Forecasts older than this, counted from the newest, are removed; none by default. The newest
    that is sound is never removed."""
    keep_at_least: Positive = 1
    """So many of the newest are kept, however old."""
    fallback: str | None = None
    """How much older an analysis a forecast may start from whose own is not there, ``"12h"`` say;
    never by default. The forecast has its own initial and lead times, says what it started from,
    and stays when its own analysis comes."""
    fallback_after: str = "0h"
    """So long after the initial time its own analysis is waited for."""
    metrics: Path | None = None
    """A Prometheus text file that each run replaces; its name ends with ``.prom``."""
    ping: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """An address that is asked for after each run that ends with exit code 0. That it fails never
    fails a run."""
    ping_timeout: Annotated[float, Field(gt=0, le=60)] = 10.0
    """Seconds."""

    @field_validator("cycle", mode="before")
    @classmethod
    def _are_texts(cls, times: Any) -> Any:
        # 12 is a number in YAML, 06 is not
        return [str(t) if type(t) is int else t for t in times] if type(times) is list else times

    @model_validator(mode="after")
    def _can_be(self) -> Batch:
        from weatherdiff.forecasting.cycle import Cycle, parse_span

        Cycle.parse(self.cycle)
        lateness = parse_span(self.max_lateness)
        for span in (self.fallback, self.fallback_after):
            parse_span(span or "0h")
        if self.keep is not None and parse_span(self.keep) < lateness:
            raise ValueError(
                f"keep {self.keep} is shorter than max_lateness {self.max_lateness}: what is "
                "removed would be due again"
            )
        return self
