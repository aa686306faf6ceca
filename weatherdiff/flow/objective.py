"""An objective: one choice of everything that makes a generative model of a network.

The pieces of this package fit each other in any combination. An :class:`Objective` names one; it is
what training minimises, what sampling integrates, and what a model's folder records.
:data:`RUNGS` are the combinations of the papers, from the variational bound to flow matching.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Generator, Tensor

from weatherdiff.flow.coupling import COUPLINGS, optimal_transport
from weatherdiff.flow.diffusion import SAMPLERS, STOCHASTIC_SAMPLERS, FreshNoise
from weatherdiff.flow.loss import denoising_loss, flow_matching_loss
from weatherdiff.flow.parameterization import PARAMETERIZATIONS, Predictor, Velocity
from weatherdiff.flow.path import PATHS, GaussianPath
from weatherdiff.flow.sampler import GRIDS, Sampler, integrate
from weatherdiff.flow.spectrum import SpectralNoise
from weatherdiff.flow.times import Times
from weatherdiff.flow.variational import VARIANCES, variational_loss
from weatherdiff.flow.weighting import WEIGHTINGS, importance

__all__ = ["LOSSES", "RUNGS", "Objective", "Schedule"]

LOSSES = ("mean_square", "variational")
"""Names in a configuration."""


@dataclass(frozen=True)
class Schedule:
    """How the trained model is sampled, unless asked otherwise.

    Parameters
    ----------
    sampler : str
        Of :data:`SAMPLERS` or :data:`STOCHASTIC_SAMPLERS`.
    steps : int
    grid : str
        Of :data:`GRIDS`.
    """

    sampler: str = "heun"
    steps: int = 4
    grid: str = "uniform"

    def __post_init__(self) -> None:
        _known("sampler", self.sampler, [*SAMPLERS, *STOCHASTIC_SAMPLERS])
        _known("grid", self.grid, GRIDS)
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; at least one is needed")

    @property
    def evaluations(self) -> int:
        """Calls of the network for a sample, where that is known beforehand."""
        twice = 2 * self.steps
        calls = {"midpoint": twice, "heun": twice - 1, "churn": twice - 1}
        return calls.get(self.sampler, self.steps)


@dataclass(frozen=True)
class Objective:
    """What a network is trained and sampled for; the default is flow matching.

    Parameters
    ----------
    path : str
        Of :data:`PATHS`.
    prediction : str
        What the network predicts, of :data:`PARAMETERIZATIONS`.
    times : Times
        At which flow times it is trained. On a path with discrete steps they are moved to those.
    loss : {"mean_square", "variational"}
        Error of the prediction, or the variational bound, which brings its own weighting.
    variance : str, optional
        Of the reversed steps of the chain, in the bound and in the ancestral sampler: of
        :data:`VARIANCES`. Only the bound teaches it to a network. ``"fixed_small"`` if absent.
    weighting : str
        Of the squared error: ``"plain"``, or of :data:`WEIGHTINGS`.
    coupling : {"independent", "optimal_transport"}
        Of noise and data within a batch.
    schedule : Schedule
        How it is sampled.
    noise : SpectralNoise, optional
        What the path starts from; white noise if absent.

    Raises
    ------
    ValueError
        A name that is not known.

    Examples
    --------
    >>> RUNGS["noise_prediction"].path, RUNGS["noise_prediction"].prediction
    ('ddpm', 'noise')
    """

    path: str = "linear"
    prediction: str = "velocity"
    times: Times = field(default_factory=Times)
    loss: str = "mean_square"
    variance: str | None = None
    weighting: str = "plain"
    coupling: str = "independent"
    schedule: Schedule = field(default_factory=Schedule)
    noise: SpectralNoise | None = None

    def __post_init__(self) -> None:
        _known("path", self.path, PATHS)
        _known("prediction", self.prediction, PARAMETERIZATIONS)
        _known("loss", self.loss, LOSSES)
        _known("variance", self.variance or "fixed_small", VARIANCES)
        _known("weighting", self.weighting, ["plain", *WEIGHTINGS])
        _known("coupling", self.coupling, COUPLINGS)
        if self.loss == "variational" and self.weighting != "plain":
            raise ValueError("the variational bound has a weighting of its own; leave it plain")
        if self.loss == "variational" and self.gaussian_path.steps is None:
            raise ValueError(f"the variational bound needs a path of steps, not {self.path!r}")
        if self.variance is not None and self.gaussian_path.steps is None:
            raise ValueError(f"the {self.path} path has no steps that could have a variance")
        if self.variance == "learned" and self.loss != "variational":
            raise ValueError("only the variational loss teaches a variance; fix it, or set loss")
        self.require(self.schedule)

    @cached_property
    def gaussian_path(self) -> GaussianPath:
        """The path itself."""
        return PATHS[self.path]()

    @property
    def outputs(self) -> int:
        """How many values the network is to give for each value of the state."""
        return 2 if self.variance == "learned" else 1

    @property
    def fraction(self) -> float | None:
        """Number that goes with the variance, of :data:`VARIANCES`."""
        return VARIANCES[self.variance or "fixed_small"]

    def require(self, schedule: Schedule) -> None:
        """Refuse a way of sampling that has no meaning here.

        Raises
        ------
        ValueError
            The ancestral sampler reverses a chain of discrete steps: there is none on this path, or
            it has fewer steps than are asked for.
        """
        steps = self.gaussian_path.steps
        if schedule.sampler == "ancestral" and steps is None:
            raise ValueError(
                f"the ancestral sampler reverses a chain of noising steps, which the {self.path} "
                "path has not; choose another, for noise on the way churn"
            )
        if schedule.sampler == "ancestral" and steps is not None and schedule.steps > steps:
            raise ValueError(f"the chain has {steps} steps, fewer than {schedule.steps}")

    def colour(self, white: Tensor) -> Tensor:
        """Give white noise the spectrum that the path starts from."""
        return white if self.noise is None else self.noise(white)

    def draw_times(self, batch: int, generator: Generator) -> Float[Tensor, " batch"]:
        """Draw the flow times of a batch."""
        path = self.gaussian_path
        return path.snap(self.times.sample(batch, path, generator))

    def training_loss(
        self,
        network: Velocity,
        data: Float[Tensor, "batch ..."],
        noise: Float[Tensor, "batch ..."],
        tau: Float[Tensor, " batch"],
        *,
        weights: Tensor | None = None,
    ) -> Float[Tensor, ""]:
        """Loss of one batch.

        Parameters
        ----------
        network : callable
            ``network(x, tau)``; see :class:`Predictor` for what it gives.
        data, noise, tau, weights
            As for :func:`flow_matching_loss`.
        """
        if self.coupling == "optimal_transport":
            noise = optimal_transport(noise, data)
        kind = (self.path, self.prediction, self.loss, self.weighting)
        if kind == ("linear", "velocity", "mean_square", "plain"):
            return flow_matching_loss(network, data, noise, tau, weights=weights)
        model, path = self.predictor(network), self.gaussian_path
        if self.loss == "variational":
            return variational_loss(
                model, data, noise, tau, steps=path.steps or 1, variance=self.fraction,
                weights=weights,
            )  # fmt: skip
        factor = importance(
            tau, path=path, parameterization=self.prediction, times=self.times,
            weighting=self.weighting,
        )  # fmt: skip
        return denoising_loss(model, data, noise, tau, importance=factor, weights=weights)

    def predictor(self, network: Velocity) -> Predictor:
        """Put a network on the path."""
        path = self.gaussian_path

        def adapted(x: Tensor, tau: Tensor) -> Tensor:
            return network(*path.network_input(x, tau))

        return Predictor(adapted, path, self.prediction)

    def sample(
        self,
        model: Predictor,
        noise: Float[Tensor, "batch ..."],
        *,
        schedule: Schedule | None = None,
        fresh: FreshNoise | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """Draw samples.

        Parameters
        ----------
        model : Predictor
            As :meth:`predictor` gives it, or guided.
        noise : (batch, ...)
            Standard normal, or of the spectrum that it was trained with.
        schedule : Schedule, optional
            The objective's own if absent.
        fresh : callable, optional
            Source of noise on the way, which stochastic samplers need.

        Raises
        ------
        ValueError
            What :meth:`require` refuses, a stochastic sampler without a source of noise, or an
            ancestral one with a learned variance of which the model has none: guided by
            observations, it has lost it.
        """
        schedule = self.schedule if schedule is None else schedule
        self.require(schedule)
        if schedule.sampler in SAMPLERS:
            sampler: Sampler = SAMPLERS[schedule.sampler]()
        elif fresh is None:
            raise ValueError(f"the sampler {schedule.sampler!r} needs a source of noise")
        else:
            sampler = STOCHASTIC_SAMPLERS[schedule.sampler](fresh, self.fraction)
        times = GRIDS[schedule.grid](schedule.steps, model.path)
        return integrate(model, model.path.initial(noise), steps=times, sampler=sampler)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for the model's folder."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Objective":
        """Undo :meth:`to_dict`."""
        times, schedule = Times(**record["times"]), Schedule(**record["schedule"])
        noise = record["noise"]
        if noise is not None:
            grid = {name: tuple(noise[name]) for name in ("latitude", "longitude")}
            noise = SpectralNoise(**{**noise, **grid})
        return cls(**{**record, "times": times, "schedule": schedule, "noise": noise})


def _known(what: str, name: str, names: Any) -> None:
    if name not in names:
        raise ValueError(f"unknown {what} {name!r}; known are {', '.join(names)}")


RUNGS: dict[str, Objective] = {
    "variational": Objective(
        path="ddpm",
        prediction="noise",
        times=Times("low_discrepancy"),
        loss="variational",
        variance="fixed_large",
        schedule=Schedule("ddim", 16),
    ),
    "noise_prediction": Objective(
        path="ddpm", prediction="noise", times=Times("uniform"), schedule=Schedule("ddim", 16)
    ),
    "v_prediction": Objective(
        path="cosine", prediction="v", times=Times("uniform"), schedule=Schedule("dpm++2m", 8)
    ),
    "edm": Objective(
        path="edm",
        prediction="v",
        times=Times("log_normal", -1.2, 1.2),
        schedule=Schedule("heun", 8, "karras"),
    ),
    "flow_matching": Objective(),
    "flow_matching_ot": Objective(coupling="optimal_transport"),
}
"""The ladder: Ho et al. (2020), arXiv:2006.11239, equations 5 and 14; Salimans & Ho (2022),
arXiv:2202.00512, on the cosine path; Karras et al. (2022), arXiv:2206.00364; Lipman et al.
(2023), arXiv:2210.02747, with the times of Esser et al. (2024), arXiv:2403.03206; the same with the
coupling of Tong et al. (2024), arXiv:2302.00482."""
