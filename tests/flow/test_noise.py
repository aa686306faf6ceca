"""Noise belongs to its key: to nothing else, and to no other key."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from weatherdiff.flow import keyed_generator, keyed_noise

INTEGERS = st.integers(-(2**63), 2**63 - 1)


def stream(*key):
    return tuple(torch.randn(4, generator=keyed_generator(*key)).tolist())


@given(st.permutations(range(6)), st.integers(1, 6))
def test_noise_depends_neither_on_order_nor_on_the_batch(numbers, count):
    every = keyed_noise((2, 3), seed=5, init_time=-86_400, numbers=list(range(6)), block=1)
    some = keyed_noise((2, 3), seed=5, init_time=-86_400, numbers=numbers[:count], block=1)
    assert torch.equal(some, every[numbers[:count]])


@given(st.tuples(INTEGERS, INTEGERS, INTEGERS, INTEGERS), st.integers(0, 3), INTEGERS)
def test_each_component_of_the_key_changes_the_noise(key, place, other):
    def noise(seed, init_time, number, block):
        return keyed_noise((5,), seed=seed, init_time=init_time, numbers=[number], block=block)

    changed = list(key)
    changed[place] = other
    assert torch.equal(noise(*key), noise(*changed)) == (tuple(changed) == key)


def test_near_and_negative_keys_are_all_distinct():
    values = (-(2**40), -(2**32), -2, -1, 0, 1, 2, 2**32 - 1, 2**32, 2**32 + 1)
    keys = list(itertools.product(values, repeat=2)) + [(v,) for v in values]
    keys += [(*k, 0) for k in keys if len(k) == 2]  # a trailing zero is a component, too
    assert len({stream(*key) for key in keys}) == len(keys)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 2), (1, 2, 0)),
        ((1, 2), (2, 1)),
        ((1, 2), (1 + 2 * 2**32,)),
        ((5, -1, 0, 0), (5 + (2**32 - 1) * 2**32, 2**32 - 1, 0, 0)),
    ],
)
def test_keys_that_hold_the_same_words_are_distinct(one, other):
    assert stream(*one) != stream(*other)
    if len(one) == len(other) == 4:
        seeds = [
            keyed_noise((4,), seed=s, init_time=t, numbers=[n], block=b)
            for s, t, n, b in (one, other)
        ]
        assert not torch.equal(*seeds)


def test_noise_is_standard_normal_and_independent_between_members():
    noise = keyed_noise((40, 25), seed=3, init_time=1_530_000_000, numbers=list(range(50)))
    assert noise.shape == (50, 40, 25)
    assert noise.dtype == torch.float32
    assert scipy.stats.kstest(noise.flatten().numpy(), scipy.stats.norm.cdf).pvalue > 0.01
    correlation = np.corrcoef(noise.flatten(1).numpy())
    assert np.abs(correlation - np.eye(50)).max() < 5 / np.sqrt(1000)


def test_noise_touches_no_global_random_state():
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002  (the global state is what is tested)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    keyed_noise((3,), seed=0, init_time=0, numbers=[0, 1])
    torch.randn(3, generator=keyed_generator(4))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
