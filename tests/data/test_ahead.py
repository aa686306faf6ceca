"""Threads give what is wanted in its order, no more ahead than asked for, and end."""

import threading
import time

import pytest

from weatherdiff.data.loading.ahead import Ahead, Task, one_by_one


def squares(count, done):
    """Tasks whose results are wanted, after others that they wait for."""
    for number in range(count):
        before = Task(lambda n=number: n * n)
        yield before
        yield Task(
            lambda n=number, b=before: (done.append(n), b.done.result())[1], wanted=True
        )  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("ahead", [1, 3, 20])
def test_results_come_in_order(threads, ahead):
    for count in (0, 1, 30):
        results = Ahead(squares(count, []), threads, ahead)
        assert list(results) == [n * n for n in range(count)]
        results.close()
    assert list(one_by_one(squares(9, []))) == [n * n for n in range(9)]


def test_so_many_are_made_ahead_and_no_more():
    done = []
    results = Ahead(squares(90, done), 3, 9)
    steps = iter(results)
    for asked in range(40):
        least = asked + (4 if asked else 9)  # who rests is woken when two thirds are free
        deadline = time.monotonic() + 60
        while not set(range(least)) <= set(done) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.005)
        assert set(range(least)) <= set(done) <= set(range(asked + 9))
        next(steps)
    results.close()


def test_an_error_of_a_task_or_of_the_plan_is_raised_in_its_place():
    def plan():
        yield Task(lambda: 1, wanted=True)
        yield Task(lambda: 1 // 0, wanted=True)

    def broken():
        yield Task(lambda: 1, wanted=True)
        raise KeyError("plan")

    for tasks, error in ((plan, ZeroDivisionError), (broken, KeyError)):
        results = Ahead(tasks(), 2, 4)
        steps = iter(results)
        assert next(steps) == 1
        with pytest.raises(error):
            next(steps)
        results.close()


def test_closing_ends_the_threads_whatever_is_left():
    before = threading.active_count()
    for taken in (0, 3):
        results = Ahead(squares(10**6, []), 3, 2)
        steps = iter(results)
        assert [next(steps) for _ in range(taken)] == [n * n for n in range(taken)]
        results.close()
        assert threading.active_count() == before


def test_a_task_is_run_once():
    task = Task(lambda: 3)
    task.run()
    assert task.done.result() == 3
    with pytest.raises(RuntimeError, match="once"):
        task.run()
