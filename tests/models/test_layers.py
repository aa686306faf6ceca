"""Layers against what they are made of, computed another way."""

import pytest
import torch
from torch import nn

from weatherdiff.models.attention import SpaceAttention, TimeAttention
from weatherdiff.models.layers import FourierEmbedding, GridConv, ResidualBlock


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def randomised(module):
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(0.3 * normal(*parameter.shape, seed=i))
    return module


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(("lat", "lon"), [(1, 1), (2, 1), (5, 7)])
def test_a_grid_convolution_is_the_sum_over_neighbours(periodic, lat, lon):
    layer = randomised(GridConv(2, 3, periodic=periodic))
    x = normal(2, 2, lat, lon)
    expected = layer.conv.bias[:, None, None].expand(2, 3, lat, lon).clone()
    for i in range(lat):
        for j in range(lon):
            for di in (-1, 0, 1):
                for dj in (-1, 0, 1):
                    row, column = i + di, (j + dj) % lon if periodic else j + dj
                    if 0 <= row < lat and 0 <= column < lon:
                        weight = layer.conv.weight[:, :, di + 1, dj + 1]
                        expected[:, :, i, j] += x[:, :, row, column] @ weight.T
    torch.testing.assert_close(layer(x), expected)


def reference(layer, tokens):
    """PyTorch's own attention with the weights of the layer."""
    attention = nn.MultiheadAttention(layer.out.in_features, layer.heads, batch_first=True)
    with torch.no_grad():
        attention.in_proj_weight.copy_(layer.qkv.weight)
        attention.in_proj_bias.copy_(layer.qkv.bias)
        attention.out_proj.weight.copy_(layer.out.weight)
        attention.out_proj.bias.copy_(layer.out.bias)
    normed = layer.norm(tokens)
    return tokens + attention(normed, normed, normed, need_weights=False)[0]


def test_time_attention_is_attention_among_the_frames_of_each_point():
    layer = randomised(TimeAttention(64))
    assert layer.heads == 2
    x = normal(2 * 3, 64, 4, 5)
    frames = x.reshape(2, 3, 64, 4, 5)
    expected = torch.empty_like(frames)
    for i in range(4):
        for j in range(5):
            expected[..., i, j] = reference(layer, frames[..., i, j])
    torch.testing.assert_close(layer(x, 3), expected.reshape(x.shape), atol=1e-4, rtol=1e-4)


def test_space_attention_is_attention_among_the_points_of_each_field():
    layer = randomised(SpaceAttention(64))
    x = normal(2, 64, 4, 5)
    expected = reference(layer, x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("layer", "arguments"),
    [
        (TimeAttention(32), (3,)),
        (SpaceAttention(32), ()),
        (ResidualBlock(32, 5, periodic=True, dropout=0.0), (normal(6, 5),)),
    ],
)
def test_a_new_residual_branch_is_the_identity(layer, arguments):
    x = normal(6, 32, 3, 4)
    assert torch.equal(layer(x, *arguments), x)


def test_the_embedding_scales_and_shifts_each_channel():
    block = randomised(ResidualBlock(4, 5, periodic=False, dropout=0.0))
    x, embedding = normal(2, 4, 3, 6), normal(2, 5, seed=1)
    scale, shift = block.film(embedding).split(4, dim=1)
    inner = block.conv1(nn.functional.silu(x))
    inner = inner * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
    torch.testing.assert_close(block(x, embedding), x + block.conv2(nn.functional.silu(inner)))


def test_close_times_have_close_embeddings_and_far_ones_do_not():
    torch.manual_seed(0)
    embed = FourierEmbedding(32)
    tau = torch.tensor([0.5, 0.5001, 0.6, 0.9])
    with torch.inference_mode():
        a = embed(tau)
    distance = (a - a[0]).norm(dim=1)
    assert distance[0] < distance[1] < 0.1 * distance[2]
    assert torch.pdist(a).min() > 0


def test_fixed_frequencies_are_no_weights():
    assert "frequencies" not in FourierEmbedding(8).state_dict()
