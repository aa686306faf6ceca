"""Noise keyed by what it is for, not by when it was drawn.

The noise of (seed, init_time, number, block) is the same whatever the batch it is drawn in, the
device, the number of workers, or the point at which an interrupted run went on: each member has a
generator of its own, on the CPU, seeded by a hash of its key. (One generator asked for eight
members at once gives other numbers than eight generators asked for one.)
"""

import numpy as np
import torch
from torch import Generator, Tensor

__all__ = ["NoiseStream", "keyed_generator", "keyed_noise"]

LATER = 1  # ends the keys of the noise that is drawn after the first


def keyed_generator(*key: int) -> Generator:
    """Return a CPU generator whose stream depends on the key alone.

    PyTorch seeds it with 32 bits, so that two of 10,000 keys share a stream with probability 1%:
    good for training and noise on the way, while :func:`keyed_noise` has 128 bits.

    Parameters
    ----------
    *key : int
        Any integers; negative ones (times before 1970) are allowed.

    Examples
    --------
    >>> torch.equal(torch.randn(3, generator=keyed_generator(1, 2)),
    ...             torch.randn(3, generator=keyed_generator(1, 2)))
    True
    """
    return Generator().manual_seed(int(_sequence(key).generate_state(1)[0]))


def keyed_noise(
    shape: tuple[int, ...], *, seed: int, init_time: int, numbers: list[int], block: int = 0
) -> Tensor:
    """Draw standard normal noise for some members of one forecast.

    Parameters
    ----------
    shape : tuple of int
        Of one member's noise.
    seed : int
        The user's seed.
    init_time : int
        Seconds since 1970-01-01 UTC.
    numbers : list of int
        The members, in any order and any selection.
    block : int
        Which block of frames of a rollout, from 0.

    Returns
    -------
    (len(numbers), *shape)
        float32.

    Examples
    --------
    >>> many = keyed_noise((2, 3), seed=0, init_time=0, numbers=[0, 1, 2])
    >>> one = keyed_noise((2, 3), seed=0, init_time=0, numbers=[2])
    >>> torch.equal(many[2:], one)
    True
    """
    generators = [
        np.random.default_rng(_sequence((seed, init_time, number, block))) for number in numbers
    ]
    members = [rng.standard_normal(shape, dtype=np.float32) for rng in generators]
    return torch.from_numpy(np.stack(members))


class NoiseStream:
    """Standard normal noise for samplers that draw it on the way, one stream for each member.

    From PyTorch's generators, which are more than twice as fast as NumPy's: what is drawn at every
    step would be felt. Their 32 bits are enough here, as members that shared a stream would still
    start from noise of their own.

    Parameters
    ----------
    seed, init_time, numbers, block
        As for :func:`keyed_noise`, of which the stream is independent; ``init_time`` may be a list
        with one time for each of ``numbers``.

    Examples
    --------
    >>> many = NoiseStream(seed=0, init_time=0, numbers=[0, 1, 2])
    >>> one = NoiseStream(seed=0, init_time=0, numbers=[2])
    >>> x = torch.zeros(3, 5)
    >>> all(torch.equal(many(x)[2:], one(x[2:])) for _ in range(4))
    True
    """

    def __init__(
        self, *, seed: int, init_time: int | list[int], numbers: list[int], block: int = 0
    ) -> None:
        times = [init_time] * len(numbers) if isinstance(init_time, int) else init_time
        self._generators = [
            keyed_generator(seed, time, number, block, LATER)
            for time, number in zip(times, numbers, strict=True)
        ]

    def __call__(self, x: Tensor) -> Tensor:
        """Draw in the shape of ``x``, whose first axis is that of the members."""
        drawn = torch.empty(x.shape)
        for generator, row in zip(self._generators, drawn, strict=True):
            row.normal_(generator=generator)
        return drawn.to(x)


def _sequence(key: tuple[int, ...]) -> np.random.SeedSequence:
    """Hash of a key.

    SeedSequence drops trailing zeros and forgets where one number ends, so it is given the length
    and two words for each number (two's complement, as it refuses negative ones).
    """
    words = [word for k in key for word in (k % 2**32, (k >> 32) % 2**32)]
    return np.random.SeedSequence([len(key), *words])
