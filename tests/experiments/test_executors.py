"""Work done beside this process: nothing is lost when a worker is, and workers keep to their share of the machine."""

import os
import re

import pytest
import worker_tasks

from dus_gym.errors import ConfigError
from dus_gym.experiments.executors.executor import Here, ScaleOptions, UnexpectedError, WorkerLostError, open_executor
from dus_gym.experiments.executors.processes import Processes, devices_of


@pytest.fixture(scope="module")
def two():
    with Processes(2, threads=1, retries=1) as executor:
        yield executor


@pytest.fixture(params=["here", "processes"])
def executor(request, two):
    return Here() if request.param == "here" else two


def test_every_task_is_done_once(executor):
    assert sorted(executor.do(worker_tasks.square, range(7))) == [(i, i * i) for i in range(7)]
    assert list(executor.do(worker_tasks.square, [])) == []


def test_an_error_is_a_result_and_stops_nobody_else(two):
    results = dict(two.do(worker_tasks.fail, range(4)))
    assert (results[0], results[3]) == (0, 3)
    assert isinstance(results[1], ConfigError)
    assert str(results[1]) == "task=1 is not allowed."
    assert isinstance(results[2], UnexpectedError)
    assert "RuntimeError: a bug" in str(results[2])
    assert "in fail" in str(results[2]), "where it happened is said"


def test_an_error_that_can_not_be_sent_is_sent_as_text(two):
    ((_, error),) = two.do(worker_tasks.fail_unpicklably, [0])
    assert isinstance(error, UnexpectedError)
    assert "Unpicklable: something" in str(error)


def test_workers_stay_and_work_side_by_side(two):
    first = {pid for _, (pid, _) in two.do(worker_tasks.slow_square, range(4))}
    again = {pid for _, (pid, _) in two.do(worker_tasks.slow_square, range(4))}
    assert len(first) == 2
    assert again == first
    assert os.getpid() not in first


def test_a_task_whose_worker_dies_is_taken_up_again_and_told_so(two, caplog):
    results = dict(two.do(worker_tasks.die_once, range(4)))
    assert results == {0: (0, True), 1: (1, False), 2: (2, False), 3: (3, False)}
    assert "its process was lost (exit code -9)" in caplog.text


def test_a_task_that_kills_every_worker_is_given_up_and_the_others_are_done(two):
    results = dict(two.do(worker_tasks.die_always, range(4)))
    assert isinstance(results[0], WorkerLostError)
    assert "lost 2 times (exit code -9" in str(results[0])
    assert [results[i] for i in (1, 2, 3)] == [1, 2, 3]


def test_a_worker_that_died_without_a_task_is_replaced(two):
    pids = {pid for _, (pid, _) in two.do(worker_tasks.slow_square, range(2))}
    for pid in pids:
        os.kill(pid, 9)
    assert dict(two.do(worker_tasks.square, range(3))) == {0: 0, 1: 1, 2: 4}


def test_workers_keep_to_their_threads_and_the_parent_keeps_its_own():
    before = dict(os.environ)
    with Processes(2, threads=1) as executor:
        for _, (variables, pools) in executor.do(worker_tasks.surroundings, range(2)):
            assert variables["OMP_NUM_THREADS"] == "1"
            assert pools
            assert set(pools) == {1}
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [(0.5, [[0], [0], [1], [1]]), (1.0, [[0], [1], [2], [3]]), (2.0, [[0, 1], [2, 3], [4, 5], [6, 7]])],
)
def test_workers_share_gpus_by_the_part_each_asks_for(gpus, expected):
    assert [devices_of(worker, gpus) for worker in range(4)] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers=0"),
        ({"retries": -1}, "retries=-1"),
        ({"gpus": 1.5, "workers": 2}, "gpus=1.5"),
        ({"gpus": float("nan"), "workers": 2}, "gpus=nan"),
        ({"gpus": 0.5}, "use --device cuda"),
        ({"workers": 2, "ray": "local"}, "leave one out"),
    ],
)
def test_what_can_not_be_asked_of_a_place_is_refused(options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        ScaleOptions(**options)


def test_more_gpus_than_there_are_are_refused():
    with (
        pytest.raises(ConfigError, match="need 128 GPUs and there are"),
        open_executor(ScaleOptions(workers=128, gpus=1.0), threads=1),
    ):
        pass
