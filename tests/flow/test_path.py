"""The linear path joins noise and data, and its velocity is its derivative."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from weatherdiff.flow import LinearPath
from weatherdiff.flow.path import expand_as


@pytest.fixture
def ends():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 5, 3, 2, 4, generator=generator, dtype=torch.float64)


def test_the_path_starts_at_the_noise_and_ends_at_the_data(ends):
    noise, data = ends
    assert torch.equal(LinearPath().sample(noise, data, torch.zeros(5).double()).x, noise)
    assert torch.equal(LinearPath().sample(noise, data, torch.ones(5).double()).x, data)


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_the_velocity_is_the_derivative_of_the_path(tau):
    noise, data = torch.randn(
        2, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    tau = torch.tensor(tau, dtype=torch.float64)
    x, derivative = torch.autograd.functional.jvp(
        lambda t: LinearPath().sample(noise, data, t).x, tau, torch.ones_like(tau)
    )
    sample = LinearPath().sample(noise, data, tau)
    torch.testing.assert_close(sample.x, x)
    torch.testing.assert_close(sample.velocity, derivative)


def test_each_sample_is_at_its_own_time(ends):
    noise, data = ends
    tau = torch.linspace(0, 1, 5).double()
    together = LinearPath().sample(noise, data, tau).x
    for i in range(5):
        alone = LinearPath().sample(noise[i : i + 1], data[i : i + 1], tau[i : i + 1]).x
        assert torch.equal(together[i : i + 1], alone)


def test_independent_unit_ends_give_the_variance_of_the_path():
    noise, data = torch.randn(2, 200_000, generator=torch.Generator().manual_seed(2))
    for tau in (0.0, 0.3, 0.5, 0.8, 1.0):
        sample = LinearPath().sample(noise, data, torch.full((200_000,), tau))
        assert float(sample.x.var()) == pytest.approx(tau**2 + (1 - tau) ** 2, rel=0.02)
        assert float(sample.velocity.var()) == pytest.approx(2, rel=0.02)


def test_times_broadcast_over_all_but_the_batch():
    assert expand_as(torch.rand(5), torch.zeros(5, 2, 3, 4)).shape == (5, 1, 1, 1)
    assert expand_as(torch.rand(5), torch.zeros(5)).shape == (5,)


def test_ends_of_different_batches_are_refused_where_annotations_are_executed(ends):
    noise, data = ends
    with pytest.raises(TypeCheckError):
        LinearPath().sample(noise[:4], data, torch.rand(5).double())
    with pytest.raises(TypeCheckError):
        LinearPath().sample(noise, data, torch.rand(4).double())
