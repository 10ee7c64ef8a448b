"""What a caller has set in PyTorch: no run may depend on it, and all of it is there afterwards."""

import multiprocessing
from contextlib import contextmanager, nullcontext

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from dus_gym import ambient
from dus_gym.errors import ConfigError
from dus_gym.methods.baseline import Baseline

ENV = "dus_gym:DUS-Digits-v0"
SPLIT = np.array([0.4, 0.6], np.float32)


class Doubling(TorchFunctionMode):
    """Doubles every cross entropy."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        return 2 * found if getattr(func, "__name__", "") == "cross_entropy" else found


@contextmanager
def setting(setter, value, before):
    setter(value)
    try:
        yield
    finally:
        setter(before)


AMBIENT = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default_dtype": lambda: setting(torch.set_default_dtype, torch.float64, torch.float32),
    "default_device": lambda: setting(torch.set_default_device, "meta", None),
    "device_context": lambda: torch.device("meta"),
    "function_mode": Doubling,
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "precision": lambda: setting(torch.set_float32_matmul_precision, "medium", "highest"),
    "deterministic": lambda: setting(torch.use_deterministic_algorithms, True, False),
}


def played(around=nullcontext):
    """All that a run says: each step, the test split, a fork's step, and the same after a snapshot's return."""
    with around():
        env = gym.make(ENV, epochs=3, method="mla").unwrapped
        told = [env.reset(seed=0)[1]]
        told.append(env.step(SPLIT)[4])
        kept = env.snapshot()
        told += [env.fork().step(SPLIT)[4], env.step(SPLIT)[4]]
        env.restore(kept)
        told += [env.step(SPLIT)[4], env.step(SPLIT)[4], env.evaluate()]
    return told


@pytest.fixture(scope="module")
def undisturbed():
    return played()


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("name", AMBIENT)
def test_a_run_is_the_same_whatever_the_caller_has_set(undisturbed, name):
    assert undisturbed[3] == undisturbed[2] == undisturbed[4]
    assert undisturbed[1]["loss"] > undisturbed[5]["loss"] + 0.1
    assert played(AMBIENT[name]) == undisturbed


@pytest.mark.parametrize("name", AMBIENT)
def test_a_state_saved_and_loaded_there_goes_on_outside(undisturbed, name, tmp_path):
    from dus_gym.state import load_state, save_state

    env = gym.make(ENV, epochs=3, method="mla").unwrapped
    env.reset(seed=0)
    env.step(SPLIT)
    with AMBIENT[name]():
        save_state(tmp_path / "state", "checkpoint", env.snapshot())
        env.restore(load_state(tmp_path / "state", "checkpoint"))
    assert env.step(SPLIT)[4] == undisturbed[3]


def state():
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.ones(1).device.type,
        torch.is_anomaly_enabled(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
    )


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("name", AMBIENT)
@pytest.mark.parametrize("fails", [False, True])
def test_what_the_caller_set_is_there_afterwards(name, fails):
    with AMBIENT[name]():
        before = state()
        with pytest.raises(KeyError) if fails else nullcontext(), ambient.isolated_torch_modes():
            assert state()[:8] == (True, False, False, torch.float32, "cpu", False, "highest", False)
            if fails:
                raise KeyError
        assert state() == before


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_a_loss_that_is_not_finite_ends_the_run_under_anomaly_detection_too(digits_run):
    class Broken(Baseline):
        def terms(self, ctx):
            yield from (loss * torch.nan for loss in super().terms(ctx))

    with torch.autograd.set_detect_anomaly(True):
        assert digits_run(method=Broken()).train([64, 64], 1).diverged


def test_a_precision_that_cannot_be_read_back_is_refused(monkeypatch):
    def mixed():
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", mixed)
    with pytest.raises(ConfigError, match=r"fp32_precision is set.*'none'"):
        gym.make(ENV, epochs=3).reset(seed=0)


# -- fork --------------------------------------------------------------------------------------------


def forked(target, *args):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=target, args=(queue, *args))
    process.start()
    try:
        return queue.get(timeout=60)
    finally:
        process.kill()
        process.join()


def play_in_child(queue):
    queue.put((played(), torch.get_num_threads()))


@pytest.fixture
def parallel_parent():
    """This process with threads of PyTorch's that are at work."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.ones(1 << 20).exp().sum()
    yield
    torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_of_a_parent_that_has_trained_ends_with_the_same_run(undisturbed, parallel_parent):
    told, threads = forked(play_in_child)
    assert told == undisturbed
    assert threads == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("context", ["fork", None])
def test_async_vector_environments_of_a_real_id_work(undisturbed, parallel_parent, context):
    envs = gym.make_vec(
        ENV, num_envs=2, vectorization_mode="async", vector_kwargs={"context": context}, epochs=3, method="mla"
    )
    try:
        envs.reset_async(seed=[0, 0])
        envs.reset_wait(timeout=60)
        envs.step_async(np.stack([SPLIT, SPLIT]))
        info = envs.step_wait(timeout=60)[4]
    finally:
        envs.close(terminate=True)
    assert info["loss"].tolist() == [undisturbed[1]["loss"]] * 2


def raise_in_child(queue, message):
    try:
        with ambient.isolated_torch_modes():
            raise RuntimeError(message)
    except RuntimeError as error:
        queue.put((RuntimeError, str(error)))
    except ConfigError as error:
        queue.put((ConfigError, str(error)))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("message", "kind", "says"),
    [
        ("Cannot re-initialize CUDA in forked subprocess.", ConfigError, "get_context('spawn')"),
        ("Unable to handle autograd's threading in combination with fork-based multiprocessing.", ConfigError, "spawn"),
        ("shapes cannot be multiplied", RuntimeError, "multiplied"),
    ],
)
def test_what_does_not_survive_a_fork_is_an_error_that_names_the_start_method(message, kind, says):
    found, text = forked(raise_in_child, message)
    assert found is kind
    assert says in text
