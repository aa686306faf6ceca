r"""Which noise goes with which data: the optimal transport within a batch.

Pairs drawn independently cross each other, so that the mean velocity bends. Of all ways to pair the
noise and the data of a batch, the one with the least sum of squared distances crosses least:
velocities are easier to learn and to integrate (Tong et al. 2024, arXiv:2302.00482, there
called minibatch OT-CFM; Pooladian et al. 2023, arXiv:2304.14772, section 3).

Where the data come with a condition (a forecast's initial state), pairing by distance alone makes
the noise depend on the condition, which sampling does not know: the smaller the batch, the less,
and the less it gains (Cheng & Schwing 2025, arXiv:2503.10636). The penalty on unlike conditions
of that paper is ``condition``.
"""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["COUPLINGS", "optimal_transport"]

COUPLINGS = ("independent", "optimal_transport")
"""Names in a configuration."""


def optimal_transport(
    noise: Float[Tensor, "batch ..."],
    data: Float[Tensor, "batch ..."],
    *,
    condition: Float[Tensor, "batch feature"] | None = None,
) -> Float[Tensor, "batch ..."]:
    """Reorder the noise so that its pairs with the data have the least sum of squared distances.

    Parameters
    ----------
    noise, data : (batch, ...)
    condition : (batch, feature), optional
        Adds the squared distance between the condition that the noise came with and the data's, in
        whatever scale it is given.

    Returns
    -------
    (batch, ...)
        The noise.

    Examples
    --------
    >>> optimal_transport(torch.tensor([[2.0], [-1.0]]), torch.tensor([[-3.0], [5.0]])).flatten()
    tensor([-1.,  2.])
    """
    from scipy.optimize import linear_sum_assignment  # which every forecast would load otherwise

    cost = torch.cdist(data.detach().flatten(1).double(), noise.flatten(1).double()).square()
    if condition is not None:
        cost = cost + torch.cdist(condition.double(), condition.double()).square()
    _, order = linear_sum_assignment(cost.cpu().numpy())
    return noise[torch.from_numpy(order).to(noise.device)]
