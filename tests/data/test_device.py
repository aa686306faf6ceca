"""Batches reach the device in the type that was asked for, and are held until they are copied."""

import torch

from weatherdiff.data.loader import Batch
from weatherdiff.data.loading.buffers import Buffers
from weatherdiff.data.loading.device import CONVERTED, Transfer


def make_batch():
    generator = torch.Generator().manual_seed(0)
    fields = [torch.randn(2, 3, 4, generator=generator) for _ in range(5)]
    return Batch(*fields, torch.tensor([0, 3600]))


def test_fields_are_rounded_to_bfloat16_and_weights_and_times_are_not():
    batch = make_batch()
    moved = Transfer(torch.bfloat16)(batch, torch.device("cpu"))
    for name, before, after in zip(Batch._fields, batch, moved, strict=True):
        assert torch.equal(after, before.bfloat16() if name in CONVERTED else before), name
    plain = Transfer()(batch, torch.device("cpu"))
    assert all(one is other for one, other in zip(plain, batch, strict=True))


def test_a_batch_is_held_until_its_copy_is_done():
    class Event:
        done = False

        def query(self):
            return self.done

    buffers, transfer, event = Buffers((2, 3)), Transfer(), Event()
    batch = make_batch()._replace(history=torch.from_numpy(buffers.take()))
    transfer._hold(event, batch)
    del batch
    transfer(make_batch(), torch.device("cpu"))
    assert buffers.spare == 0
    event.done = True
    transfer(make_batch(), torch.device("cpu"))
    assert buffers.spare == 1
