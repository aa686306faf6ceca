"""Generative modelling on plain tensors, from the variational bound to flow matching.

One straight velocity from noise (``tau = 0``) to data (``tau = 1``), learned by regression:

>>> import torch
>>> from weatherdiff.flow import flow_matching_loss, integrate
>>> data, noise, tau = torch.randn(8, 2), torch.randn(8, 2), torch.rand(8)
>>> network = lambda x, tau: -x                              # any callable (x, tau) -> velocity
>>> loss = flow_matching_loss(network, data, noise, tau)     # training: one call
>>> sample = integrate(network, noise, steps=4)              # sampling: one call

Everything before it, and beside it, differs in the path, in what is predicted, in the times and
weights of the loss, and in the sampler; an :class:`Objective` names one of each:

>>> from weatherdiff.flow import RUNGS
>>> rung = RUNGS["noise_prediction"]
>>> loss = rung.training_loss(network, data, noise, tau)
>>> sample = rung.sample(rung.predictor(network), noise)
"""

from weatherdiff.flow.analytic import GaussianMixture
from weatherdiff.flow.coupling import optimal_transport
from weatherdiff.flow.diffusion import DDIM, SAMPLERS, Churn, DPMSolver
from weatherdiff.flow.guidance import Observations, guided, guided_by_history
from weatherdiff.flow.likelihood import bits_per_dimension, log_density
from weatherdiff.flow.loss import denoising_loss, flow_matching_loss
from weatherdiff.flow.noise import NoiseStream, keyed_generator, keyed_noise
from weatherdiff.flow.objective import RUNGS, Objective, Schedule
from weatherdiff.flow.parameterization import PARAMETERIZATIONS, Predictor, convert
from weatherdiff.flow.path import (
    PATHS,
    CosinePath,
    LinearPath,
    VarianceExploding,
    VariancePreserving,
)
from weatherdiff.flow.sampler import Adaptive, Euler, Heun, Midpoint, integrate
from weatherdiff.flow.spectrum import SpectralNoise, isotropic
from weatherdiff.flow.times import Times, logit_normal_tau
from weatherdiff.flow.variational import VARIANCES, variational_bound, variational_loss
from weatherdiff.flow.weighting import WEIGHTINGS, importance

__all__ = [
    "DDIM",
    "PARAMETERIZATIONS",
    "PATHS",
    "RUNGS",
    "SAMPLERS",
    "VARIANCES",
    "WEIGHTINGS",
    "Adaptive",
    "Churn",
    "CosinePath",
    "DPMSolver",
    "Euler",
    "GaussianMixture",
    "Heun",
    "LinearPath",
    "Midpoint",
    "NoiseStream",
    "Objective",
    "Observations",
    "Predictor",
    "Schedule",
    "SpectralNoise",
    "Times",
    "VarianceExploding",
    "VariancePreserving",
    "bits_per_dimension",
    "convert",
    "denoising_loss",
    "flow_matching_loss",
    "guided",
    "guided_by_history",
    "importance",
    "integrate",
    "isotropic",
    "keyed_generator",
    "keyed_noise",
    "log_density",
    "logit_normal_tau",
    "optimal_transport",
    "variational_bound",
    "variational_loss",
]
