"""Flow matching on plain tensors: paths, losses, samplers and the keyed noise.

One straight velocity from noise (``tau = 0``) to data (``tau = 1``), learned by regression:

>>> import torch
>>> from weatherdiff.flow import LinearPath, flow_matching_loss, integrate
>>> data, noise, tau = torch.randn(8, 2), torch.randn(8, 2), torch.rand(8)
>>> network = lambda x, tau: -x                              # any callable (x, tau) -> velocity
>>> loss = flow_matching_loss(network, data, noise, tau)     # training: one call
>>> sample = integrate(network, noise, steps=4)              # sampling: one call
"""

from weatherdiff.flow.loss import flow_matching_loss, logit_normal_tau
from weatherdiff.flow.noise import keyed_generator, keyed_noise
from weatherdiff.flow.path import LinearPath, PathSample
from weatherdiff.flow.sampler import SAMPLERS, Euler, Heun, Velocity, integrate

__all__ = [
    "SAMPLERS",
    "Euler",
    "Heun",
    "LinearPath",
    "PathSample",
    "Velocity",
    "flow_matching_loss",
    "integrate",
    "keyed_generator",
    "keyed_noise",
    "logit_normal_tau",
]
