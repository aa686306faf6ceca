"""Batches are the windows asked for, in order, whatever the threads; errors and ends are clean."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.data.loading.buffers import Buffers
from weatherdiff.data.loading.order import ExactOrder, ListedOrder, PoolOrder
from weatherdiff.data.loading.reader import FunctionReader
from weatherdiff.data.loading.stream import WindowStream

SHAPE = (2, 3)


class Counting:
    """Frames that hold their position, and a count of how often each was read."""

    def __init__(self, frames=400):
        self.reads = np.zeros(frames, int)
        self.lock = threading.Lock()

    def read(self, indices, out=None):
        with self.lock:
            np.add.at(self.reads, indices, 1)
        frames = np.broadcast_to(
            np.float32(indices)[:, None, None], (len(indices), *SHAPE)
        ) + np.float32(0.25)
        if out is None:
            return frames
        out[...] = frames
        return out


def make(indices, order, *, reader=None, parts=None, threads=2):
    return WindowStream(
        reader or Counting(),
        SHAPE,
        indices,
        order,
        lambda rows, arrays: (rows, arrays),
        parts=parts,
        threads=threads,
    )


def check(stream, start, stop):
    """All batches of a stream, each compared with the windows that its order names."""
    steps = iter(range(start, stop))
    for rows, parts in stream.steps(start, stop):
        step = next(steps)
        np.testing.assert_array_equal(rows, stream.order.rows(step))
        found = np.concatenate(parts, axis=1)
        assert found.shape == (len(rows), stream.indices.shape[1], *SHAPE)
        expected = np.float32(stream.indices[rows]) + np.float32(0.25)
        np.testing.assert_array_equal(found, np.broadcast_to(
            expected[..., None, None], found.shape
        ))  # fmt: skip
        assert tuple(part.shape[1] for part in parts) == stream.parts
    assert next(steps, None) is None


@settings(max_examples=60, deadline=None)
@given(
    windows=st.integers(8, 90),
    stride=st.integers(1, 5),
    share=st.integers(1, 4),
    ranks=st.integers(1, 2),
    block=st.integers(1, 20),
    blocks=st.integers(1, 5),
    threads=st.integers(0, 3),
    start=st.integers(0, 50),
    gap=st.integers(0, 40),
)
def test_batches_of_a_pool_order_are_its_windows(
    windows, stride, share, ranks, block, blocks, threads, start, gap
):
    inits = np.arange(windows)
    inits[windows // 2 :] += gap
    indices = inits[:, None] + stride * np.arange(4)
    order = PoolOrder(windows, share * ranks, 1, ranks - 1, ranks, block=block, blocks=blocks)
    check(make(indices, order, parts=(3, 1), threads=threads), start, start + 40)


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_batches_of_an_exact_order_are_its_windows(threads):
    indices = np.arange(30)[:, None] + 2 * np.arange(5)
    check(make(indices, ExactOrder(30, 8, 0), parts=(2, 3), threads=threads), 3, 40)
    listed = ListedOrder(((3, 3, 1), (0,), (29, 5)))
    check(make(indices, listed, threads=threads), 0, 3)


def test_a_pool_reads_each_frame_of_a_block_once():
    indices = np.arange(200)[:, None] + np.arange(4)
    order, reader = PoolOrder(200, 10, 0, block=20, blocks=4), Counting()
    check(make(indices, order, reader=reader), 0, order.steps)
    used = reader.reads[:203]
    assert (used >= 1).all()
    assert used.sum() <= 203 + 11 * 3  # the ends of blocks are read with both neighbours
    exact = Counting()
    check(make(indices, ExactOrder(200, 10, 0), reader=exact), 0, 20)
    assert exact.reads.sum() == 800


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_memory_is_used_again_and_stays_two_pools(threads, late):
    indices = np.arange(300)[:, None] + np.arange(3)
    order = PoolOrder(300, 5, 0, block=25, blocks=3)
    stream = make(indices, order, threads=threads)
    finish, last = stream.finish, order.rows(order.steps // 4 - 1)  # of the first pool

    def finish_late(rows, arrays):
        if late and (rows == last).all():
            time.sleep(0.2)  # while the others draw from the second, and the third could be begun
        return finish(rows, arrays)

    stream.finish = finish_late
    check(stream, 0, 3 * order.steps)
    made = {shape: buffers.made for shape, buffers in stream._buffers.items()}
    (pools,) = (count for shape, count in made.items() if len(shape) == 3)
    (batches,) = (count for shape, count in made.items() if len(shape) == 4)
    assert pools == 2
    assert batches <= 3 * threads + 3


def test_batches_that_are_kept_are_not_written_over():
    indices = np.arange(40)[:, None] + np.arange(3)
    stream = make(indices, ExactOrder(40, 4, 0))
    kept = [(rows, parts[0][:, 1:]) for rows, parts in stream.steps(0, 30)]  # views of them
    for rows, frames in kept:
        assert (frames[..., 0, 0] == indices[rows, 1:] + np.float32(0.25)).all()


def test_memory_in_use_is_never_given_twice():
    buffers, rng = Buffers((3,)), np.random.default_rng(0)
    held = []
    for number in range(300):
        array = buffers.take()
        array[...] = number
        held.append((number, array[rng.integers(3) :].reshape(-1)))
        while len(held) > rng.integers(1, 8):
            held.pop(rng.integers(len(held)))
        assert all((array == n).all() for n, array in held)
    del held, array
    assert buffers.spare <= 10


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("pool", [False, True])
def test_an_error_in_a_thread_is_raised_where_the_batch_is_asked_for(threads, pool):
    def read(indices):
        if (indices == 77).any():
            raise OSError("the disk is gone")
        return np.zeros((len(indices), *SHAPE), np.float32)

    indices = np.arange(90)[:, None] + np.arange(3)
    order = PoolOrder(90, 4, 0, block=9, blocks=3) if pool else ExactOrder(90, 4, 0)
    stream = make(indices, order, reader=FunctionReader(read), threads=threads)
    before = threading.active_count()
    with pytest.raises(OSError, match="the disk is gone"):
        for _ in stream.steps(0, 30):
            pass
    assert threading.active_count() == before


def test_no_more_is_read_ahead_than_the_threads_hold():
    indices = np.arange(90)[:, None] + np.arange(3)
    reader = Counting()
    stream = make(indices, ExactOrder(90, 2, 0), reader=reader, threads=2)
    steps = stream.steps(0, 40)
    next(steps)
    time.sleep(0.05)
    assert reader.reads.sum() <= 2 * 3 * (2 * 2 + 1)
    steps.close()


def test_a_program_that_leaves_a_loop_in_the_middle_ends():
    """With a generator alive, also when an exception ends the program."""
    program = (
        "import numpy as np\n"
        "from weatherdiff.data.loading.order import PoolOrder\n"
        "from weatherdiff.data.loading.reader import FunctionReader\n"
        "from weatherdiff.data.loading.stream import WindowStream\n"
        "stream = WindowStream(FunctionReader(lambda i: i[:, None]), (1,),\n"
        "    np.arange(500)[:, None] + np.arange(3), PoolOrder(500, 5, 0, block=9, blocks=4),\n"
        "    lambda rows, parts: parts)\n"
        "steps = stream.steps(0, 10**6)\n"
        "next(steps)\n"
        "raise SystemExit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=500, capture_output=True)
    assert (done.returncode, done.stderr) == (3, b"")


def test_parts_that_are_not_the_window_are_refused():
    with pytest.raises(ValueError, match="windows of 3 frames"):
        make(np.zeros((4, 3), int), ExactOrder(4, 2, 0), parts=(1, 1))
