"""One block of frames: from the normalised history, by one call of the flow's sampler."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from weatherdiff.data.normalization import Normalizer
from weatherdiff.flow import (
    NoiseStream,
    Objective,
    Predictor,
    guided,
    guided_by_history,
    keyed_noise,
)
from weatherdiff.forecasting.assimilation import Assimilation, correction
from weatherdiff.forecasting.sampling import Sampling
from weatherdiff.models import Condition, VideoDenoiser

__all__ = ["BlockSampler"]

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BlockSampler:
    """Draw the next frames of some members.

    Parameters
    ----------
    network : VideoDenoiser
    objective : Objective
    normalizer : Normalizer
    mask : (channel, latitude, longitude)
        Cells that have data.
    static : (static, latitude, longitude)
    noise_scale : (frames, channel)
        Standard deviation of the initial noise.
    sampling : Sampling
    """

    network: VideoDenoiser
    objective: Objective
    normalizer: Normalizer
    mask: npt.NDArray[np.bool_]
    static: Array
    noise_scale: Array
    sampling: Sampling

    def __call__(
        self,
        past: Array,
        forcings: torch.Tensor,
        *,
        seed: int,
        init_time: int,
        numbers: list[int],
        block: int,
        observed: Assimilation | None = None,
    ) -> Array:
        """Give the members' frames.

        Parameters
        ----------
        past : (number, history, channel, latitude, longitude)
            Normalised; NaN where no data.
        forcings : (time, forcing, latitude, longitude)
        seed, init_time, numbers, block
            What the noise is keyed by; see :func:`weatherdiff.flow.keyed_noise`.
        observed : Assimilation, optional
            Observations of these frames, towards which they are guided.

        Returns
        -------
        (number, frames, channel, latitude, longitude)
            Normalised; NaN where no data.
        """
        count, frames = len(past), len(self.noise_scale)
        key = {"seed": seed, "init_time": init_time, "block": block}
        noise = keyed_noise((frames, *past.shape[2:]), numbers=numbers, **key)
        fresh = NoiseStream(numbers=numbers, **key)
        scale = torch.from_numpy(self.noise_scale)[:, :, None, None]
        device = next(self.network.parameters()).device
        condition = Condition(
            history=torch.from_numpy(np.nan_to_num(past)),
            forcings=forcings.expand(count, *forcings.shape),
            static=torch.from_numpy(self.static).expand(count, *self.static.shape),
        )
        condition = Condition(*(x.to(device) for x in condition))
        valid = torch.from_numpy(self.mask).to(device)
        objective, last = self.objective, np.nan_to_num(past[:, -1])
        model = self._model(condition, valid)
        if observed is not None:
            model = self._guided(model, observed, last, valid)
        # What a backward pass goes through must not be born in inference mode.
        with torch.inference_mode() if observed is None else torch.no_grad():
            tendency = objective.sample(
                model,
                (objective.colour(noise) * scale).to(device) * valid,
                schedule=self.sampling.schedule(objective.schedule),
                fresh=lambda x: objective.colour(fresh(x)) * valid,
            )
        out = self.normalizer.add_tendency(tendency.cpu().numpy(), last)
        return np.where(self.mask, out, np.float32(np.nan))

    def _model(self, condition: Condition, valid: torch.Tensor) -> Predictor:
        """Put the network on the path, given the history, as far as that is to be believed."""
        bfloat16 = self.sampling.arithmetic == "bf16"

        def predictor(given: Condition) -> Predictor:
            def network(x: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
                # The network alone: noise and observations are not for eight bits.
                with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
                    return self.network(x, tau, given).float() * valid

            return self.objective.predictor(network)

        model, weight = predictor(condition), self.sampling.guidance
        if weight == 1:
            return model
        without = condition._replace(history=torch.zeros_like(condition.history))
        std = torch.from_numpy(self.normalizer.tendency_std).to(condition.history)
        return guided_by_history(
            model,
            predictor(without).network,
            weight=weight,
            shift=condition.history[:, -1:] / std[..., None, None],
        )

    def _guided(
        self, model: Predictor, observed: Assimilation, last: Array, valid: torch.Tensor
    ) -> Predictor:
        """Correct the network's expectation towards observations."""

        def masked(x: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
            # Cells without data stay at zero, as they do without guidance.
            return model.network(x * valid, tau)

        size = len(self.noise_scale) * last[0].size
        method = self.sampling.guidance_method
        return guided(
            Predictor(masked, model.path, model.parameterization),
            observed.observed(last, valid.device),
            correction(method, observations=len(observed), size=size),
        )
