"""The denoiser respects the grid, uses all it is given, and works on any size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from weatherdiff.models import SIZES, Condition, VideoDenoiser

MIXINGS = ["joint", "factorised", "attention"]
FRAMES, CHANNELS = 3, 2  # of make_network


def moved(condition, change):
    return Condition(*(change(field) for field in condition))


def run(network, x, tau, condition):
    with torch.inference_mode():
        return network(x, tau, condition)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 11),
    st.integers(1, 19),
    st.booleans(),
    st.sampled_from(MIXINGS),
    st.integers(1, 3),
)
def test_any_grid_size_works(make_network, make_inputs, lat, lon, periodic, mixing, levels):
    network = make_network(
        periodic=periodic, mixing=mixing, size={"width": 4, "blocks": 1, "levels": levels}
    )
    x, tau, condition = make_inputs(lat, lon, batch=3)
    out = run(network, x, tau, condition)
    assert out.shape == x.shape
    assert out.isfinite().all()


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("cells", [1, 3])
def test_rolling_longitude_commutes_with_the_denoiser(make_network, make_inputs, mixing, cells):
    network = make_network(periodic=True, mixing=mixing)
    x, tau, condition = make_inputs(7, 5 * network.multiple)

    def rolled(field):
        return field.roll(cells * network.multiple, dims=-1)

    expected = rolled(run(network, x, tau, condition))
    found = run(network, rolled(x), tau, moved(condition, rolled))
    # attention sums its tokens in another order
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 if mixing == "attention" else 0)


def test_rolling_longitude_changes_a_regional_forecast_at_the_edges_only(make_network, make_inputs):
    network = make_network(periodic=False)
    x, tau, condition = make_inputs(7, 48)

    def rolled(field):
        return field.roll(8, dims=-1)

    expected = rolled(run(network, x, tau, condition))
    error = (run(network, rolled(x), tau, moved(condition, rolled)) - expected).abs()
    assert float(error[..., :2].amax()) > 0.05 * float(expected.std())
    assert float(error[..., 24:32].amax()) < 1e-3 * float(expected.std())


@pytest.mark.parametrize("periodic", [True, False])
def test_the_other_side_of_the_grid_is_a_neighbour_only_if_it_is_periodic(
    make_network, make_inputs, periodic
):
    network = make_network(periodic=periodic)
    x, tau, condition = make_inputs(6, 64)
    other = x.clone()
    other[..., -1] += 1
    change = (run(network, other, tau, condition) - run(network, x, tau, condition)).abs()
    assert bool(change[..., 0].amax() > 1e-3) == periodic
    assert float(change[..., -1].amax()) > 1e-3


@pytest.mark.parametrize("lon", [17, 18, 19, 31])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_seam_that_does_not_close_on_whole_cells_is_off_by_two_percent_at_most(
    make_network, make_inputs, lon, seed
):
    x, tau, condition = make_inputs(6, lon)
    network = make_network(seed, periodic=True)
    columns = torch.arange(-40, lon + 40 + -(lon + 80) % network.multiple) % lon

    def unrolled(field):
        return field[..., columns]

    # The same circle several times round, whose own ends are far from the part compared.
    ideal = run(network, unrolled(x), tau, moved(condition, unrolled))[..., 40 : 40 + lon]
    found = run(network, x, tau, condition)
    regional = run(make_network(seed, periodic=False), x, tau, condition)

    def worst(out):
        error = (out - ideal).square().mean(dim=(0, 1, 2, 3)).sqrt() / ideal.std()
        return float(error.max())

    assert worst(found) < 0.02
    assert worst(regional) > 10 * worst(found)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_everything_given_is_used(make_network, make_inputs, mixing):
    network = make_network(mixing=mixing)
    x, tau, condition = make_inputs(5, 6)
    x.requires_grad_()
    tau.requires_grad_()
    for field in condition:
        field.requires_grad_()
    network(x, tau, condition).square().sum().backward()
    assert (tau.grad != 0).all()
    assert (x.grad != 0).all()
    for field in condition:  # each frame and each channel of it
        assert (field.grad.abs().amax(dim=(0, -2, -1)) > 0).all()
    assert all((p.grad != 0).any() for p in network.parameters())


@pytest.mark.parametrize("mixing", MIXINGS)
def test_each_frame_depends_on_all_noisy_frames(make_network, make_inputs, mixing):
    network = make_network(mixing=mixing)
    x, tau, condition = make_inputs(5, 6, batch=1)
    for frame in range(3):
        x.requires_grad_().grad = None
        network(x, tau, condition)[:, frame].square().sum().backward()
        assert (x.grad.abs().amax(dim=(0, 2, 3, 4)) > 0).all()


@pytest.mark.parametrize("mixing", MIXINGS)
def test_samples_do_not_see_each_other(make_network, make_inputs, mixing):
    network = make_network(mixing=mixing)
    x, tau, condition = make_inputs(5, 6, batch=3)
    together = run(network, x, tau, condition)
    for i in range(3):
        alone = run(
            network, x[i : i + 1], tau[i : i + 1], moved(condition, lambda f, i=i: f[i : i + 1])
        )
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("mixing", MIXINGS)
def test_frames_keep_their_place(make_network, make_inputs, mixing):
    # The frames are told apart: exchanging two noisy ones does not merely exchange the output.
    network = make_network(mixing=mixing)
    x, tau, condition = make_inputs(5, 6)
    order = [1, 0, 2]
    exchanged = run(network, x[:, order], tau, condition)
    assert (exchanged[:, order] - run(network, x, tau, condition)).abs().amax() > 1e-2


@pytest.mark.parametrize("mixing", MIXINGS)
def test_a_new_network_predicts_zero(make_inputs, mixing):
    network = VideoDenoiser(
        frames=3, channels=2, history=2, forcings=1, static=4, size="tiny", mixing=mixing
    )
    x, tau, condition = make_inputs(5, 6)
    assert torch.equal(run(network, x, tau, condition), torch.zeros_like(x))


@pytest.mark.parametrize("mixing", MIXINGS)
def test_a_second_output_is_stacked_before_the_first_and_all_is_used(
    make_network, make_inputs, mixing
):
    network = make_network(mixing=mixing, outputs=2, periodic=True)
    x, tau, condition = make_inputs(5, 7)
    out = network(x, tau, condition)
    assert out.shape == (2, *x.shape)
    assert (out[0] - out[1]).abs().mean() > 0.01
    out[1].square().sum().backward()
    changed = {name for name, p in network.named_parameters() if (p.grad != 0).any()}
    # The gain carries the noisy frame to its own prediction alone.
    assert changed == {name for name, _ in network.named_parameters() if "gain" not in name}


@pytest.mark.parametrize("mixing", MIXINGS)
def test_each_output_is_that_of_a_network_with_its_part_of_the_head(
    make_network, make_inputs, mixing
):
    both, one = make_network(mixing=mixing, outputs=2), make_network(mixing=mixing)
    weights = both.state_dict()
    for name in ("head.conv.weight", "head.conv.bias"):
        rows = 1 if mixing == "factorised" else FRAMES
        weights[name] = weights[name].unflatten(0, (2, rows * CHANNELS * 4))[0]
    one.load_state_dict(weights)
    inputs = make_inputs(5, 6)
    torch.testing.assert_close(run(both, *inputs)[0], run(one, *inputs))


def test_a_network_without_forcings_and_static_fields_works(make_network, make_inputs):
    network = make_network(forcings=0, static=0)
    x, tau, condition = make_inputs(5, 6, forcings=0, static=0)
    assert run(network, x, tau, condition).shape == x.shape


@pytest.mark.parametrize("mixing", MIXINGS)
def test_bfloat16_is_close_to_float32(make_network, make_inputs, mixing):
    network = make_network(mixing=mixing, periodic=True)
    x, tau, condition = make_inputs(8, 12)
    exact = run(network, x, tau, condition)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = run(network, x, tau, condition)
    error = (rounded.float() - exact).square().mean().sqrt() / exact.std()
    assert 0 < float(error) < 0.02  # bfloat16 holds 8 bits: 0.4% a rounding


def test_dropout_acts_while_training_only(make_network, make_inputs):
    network = make_network(dropout=0.5)
    x, tau, condition = make_inputs(5, 6)
    assert torch.equal(run(network, x, tau, condition), run(network, x, tau, condition))
    network.train()
    torch.manual_seed(0)
    assert not torch.equal(run(network, x, tau, condition), run(network, x, tau, condition))


def test_sizes_grow_and_their_rows_may_be_given_as_such():
    def count(size):
        with torch.device("meta"):
            network = VideoDenoiser(frames=4, channels=8, history=2, forcings=5, size=size)
        return sum(p.numel() for p in network.parameters())

    counts = [count(name) for name in SIZES]
    assert counts == sorted(counts)
    assert counts[0] < 1e6 < counts[-1]
    assert count(SIZES["small"]) == count("small")


@pytest.mark.parametrize("wrong", [{"size": "huge"}, {"mixing": "linear"}])
def test_an_unknown_size_or_mixing_is_refused_with_the_known_ones(wrong):
    with pytest.raises(ValueError, match=r"tiny, small|joint, factorised"):
        VideoDenoiser(frames=1, channels=1, history=1, **wrong)


def test_arguments_build_the_same_network_again(make_network):
    network = make_network(periodic=True, mixing="factorised", dropout=0.1)
    again = VideoDenoiser(**network.arguments)
    again.load_state_dict(network.state_dict())
    assert again.arguments == network.arguments


def test_wrong_shapes_are_refused_where_annotations_are_executed(make_network, make_inputs):
    x, tau, condition = make_inputs(5, 6)
    with pytest.raises(TypeCheckError):
        make_network()(x[:, 0], tau, condition)
    with pytest.raises(TypeCheckError):
        make_network()(x, tau[:1], condition)
