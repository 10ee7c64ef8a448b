"""Memory that runs out inside a run: one line says what was tried, the folder goes on, and the next run has room."""

import gc
import pickle
import weakref

import gymnasium as gym
import numpy as np
import pytest
import torch
from command import dus

import dus_gym
from dus_gym.costs import is_memory_error
from dus_gym.encoders.mlp import MLP
from dus_gym.errors import MemoryRanOutError
from dus_gym.experiments.executors.executor import Here, attempt
from dus_gym.experiments.run_many import PlannedRun, RunsFailedError, run_all
from dus_gym.experiments.spec import make_spec
from dus_gym.experiments.storage.run_folder import MODEL, NOT_REPRODUCIBLE, SUMMARY
from dus_gym.json_text import read_json

ITERATIONS = 6
"""Of an epoch of Digits."""
CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.69 GiB"


def out_of_memory_of_cuda():
    raise torch.cuda.OutOfMemoryError(CUDA)


def plain_error_of_cuda():
    raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA to enable device-side assertions.")


def tensor_of_the_cpu():
    torch.empty(2**60)


def array_of_numpy():
    np.empty(2**50)


EVERY = [out_of_memory_of_cuda, plain_error_of_cuda, tensor_of_the_cpu, array_of_numpy]


@pytest.fixture
def full(monkeypatch):
    """Let memory run out in an encoder, in the third iteration of the second epoch of a run of Digits.

    Returns a function that takes what raises the error and in how many runs; those after them have enough.
    """
    plain = MLP.forward
    left = []

    def forward(self, inputs):
        if self.training:
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == ITERATIONS + 3 and left:
                left.pop()()
        return plain(self, inputs)

    monkeypatch.setattr(MLP, "forward", forward)
    return lambda error, times=1: left.extend([error] * times)


def digits(**settings):
    return dus_gym.train("DUS-Digits-v0", "uniform", epochs=3, **settings)


@pytest.mark.parametrize("error", EVERY)
def test_one_line_says_what_was_tried_and_what_takes_less(full, error):
    full(error)
    with pytest.raises(MemoryRanOutError) as raised:
        digits(method="ogm", total_batch=120)
    said = str(raised.value)
    assert said.startswith(
        "memory ran out on cpu while training epoch 2: DUS-Digits-v0, method 'ogm', encoders mlp, mlp, "
    )
    assert "60 + 60 samples per iteration, float32 (" in said
    assert "such as total_batch=60, not 120" in said
    assert "precision='bfloat16'" in said
    # Digits has no encoder that could.
    assert "checkpointing=True" not in said
    assert "--resume" in said
    assert "\n" not in said
    assert len(said) < 800


def test_what_is_in_use_already_is_not_advised(full):
    full(tensor_of_the_cpu)
    with pytest.raises(MemoryRanOutError, match=r"2 \+ 2 samples per iteration, bfloat16 \(") as raised:
        digits(precision="bfloat16", total_batch=4, iterations=ITERATIONS)
    assert "precision=" not in str(raised.value)
    # No modality may get fewer than two.
    assert "total_batch" not in str(raised.value)
    assert "a device with more memory" in str(raised.value)


def test_other_errors_stay_what_they_are(full):
    def mistake():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    full(mistake)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        digits()


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError(CUDA), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4000 bytes."), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (OSError("out of memory"), False),
    ],
)
def test_errors_of_memory_are_told_from_others(error, found):
    assert is_memory_error(error) is found


def test_evaluation_takes_as_many_samples_whatever_the_batch(monkeypatch):
    env = dus_gym.envs.dus_env.DUSEnv("Digits", epochs=1)
    env.reset(seed=0)
    monkeypatch.setattr(MLP, "forward", lambda *_: tensor_of_the_cpu())
    with pytest.raises(MemoryRanOutError, match=r"ran out on cpu while evaluating: .*, 256 samples at once") as raised:
        env.run.validate()
    assert "total_batch" not in str(raised.value)


def test_a_fork_that_does_not_fit_is_not_called_a_method_that_cannot_be_copied(monkeypatch):
    env = dus_gym.envs.dus_env.DUSEnv("Digits", epochs=1)
    env.reset(seed=0)
    monkeypatch.setattr(torch.nn.Parameter, "__deepcopy__", lambda *_: out_of_memory_of_cuda())
    with pytest.raises(MemoryRanOutError, match="while copying the run"):
        env.fork()


def test_runs_that_train_as_one_computation_are_told_that_fewer_may(monkeypatch):
    env = gym.make_vec("dus_gym:DUS-Digits-v0", num_envs=4, epochs=2)
    env.reset(seed=0)
    monkeypatch.setattr("dus_gym.model._layers", lambda *_: tensor_of_the_cpu())
    with pytest.raises(MemoryRanOutError, match=r"epoch 1: .* float32, 4 runs as one computation \(.*parallel_runs=2"):
        env.step(np.full((4, 2), 0.5, np.float32))


def test_blocks_that_could_be_computed_again_are_advised(tmp_path, monkeypatch):
    pictures = np.random.default_rng(0).normal(size=(24, 3, 24, 24)).astype(np.float32)
    np.savez(tmp_path / "own.npz", picture=pictures, sums=pictures.mean((2, 3)), labels=np.arange(24) % 3)
    word = "clip-image:weights=none:hidden=16:layers=1:heads=2:patch=8:out=8"

    def fail(checkpointing):
        with pytest.raises(MemoryRanOutError) as raised:
            dus_gym.train(
                "DUS-Own-v0",
                "uniform",
                data_root=tmp_path / "own.npz",
                task_options={"encoder": f"picture={word},sums=mlp"},
                epochs=1,
                checkpointing=checkpointing,
            )
        return str(raised.value)

    plain = MLP.forward
    monkeypatch.setattr(MLP, "forward", lambda self, x: tensor_of_the_cpu() if self.training else plain(self, x))
    assert "checkpointing=True (the same result)" in fail(False)
    said = fail(True)
    assert "float32, checkpointing (" in said
    assert "checkpointing=True" not in said


# -- folders -----------------------------------------------------------------------------------------


def summary_of(folder):
    """The summary but for seconds and memory."""
    return {k: v for k, v in read_json((folder / SUMMARY).read_bytes()).items() if k not in NOT_REPRODUCIBLE}


# With a checkpoint of the first epoch, and with none yet.
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_the_folder_goes_on_to_the_same_bits(tmp_path, monkeypatch, full, seconds):
    monkeypatch.setattr("dus_gym.experiments.run.CHECKPOINT_SECONDS", seconds)
    words = ["train", "DUS-Digits-v0", "--agent", "reinforce", "--epochs", "3", "--quiet", "--out"]
    dus(*words, "straight", cwd=tmp_path, check=0)
    full(out_of_memory_of_cuda)
    done = dus(*words, "run", cwd=tmp_path, check=1)
    assert done.stderr.startswith("dus: memory ran out on cpu while training epoch 2: DUS-Digits-v0, method 'baseline'")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run" / SUMMARY).exists()
    dus(*words, "run", "--resume", cwd=tmp_path, check=0)
    assert summary_of(tmp_path / "run") == summary_of(tmp_path / "straight")
    assert (tmp_path / "run" / MODEL).read_bytes() == (tmp_path / "straight" / MODEL).read_bytes()


def test_a_comparison_names_the_run_keeps_the_others_and_goes_on(tmp_path, full):
    words = ["compare", "DUS-Digits-v0", "--agents", "steady", "--seeds", "2", "--epochs", "3", "--parallel-runs", "1"]
    dus(*words, "--out", "straight", cwd=tmp_path, check=0)
    full(out_of_memory_of_cuda)
    done = dus(*words, "--out", "all", cwd=tmp_path, check=1)
    assert done.stderr.startswith("dus: DUS-Digits-v0, baseline under uniform, seed 0: memory ran out on cpu while ")
    assert done.stderr.count("\n") == 1
    assert len([*(tmp_path / "all").rglob(SUMMARY)]) == 3
    dus(*words, "--out", "all", "--resume", cwd=tmp_path, check=0)
    runs = [f"{agent}/seed{seed}" for agent in ("uniform", "steady") for seed in (0, 1)]
    for run in runs:
        assert summary_of(tmp_path / "all" / run) == summary_of(tmp_path / "straight" / run)


def test_several_runs_that_fail_alike_are_counted_and_the_cause_is_said_once(tmp_path, full):
    runs = [PlannedRun(make_spec("DUS-Digits-v0", "uniform", seed=s, epochs=3), tmp_path / str(s)) for s in range(3)]
    full(out_of_memory_of_cuda, times=2)
    with pytest.raises(
        RunsFailedError, match=r"^2 of 3 runs failed; .* is DUS-\S+ \w+ under uniform, seed 0\. "
    ) as raised:
        run_all(runs, Here())
    assert str(raised.value).count("memory ran out") == 1


def test_a_failed_run_leaves_its_memory_to_the_next(full, monkeypatch):
    models = []
    build = MLP.__init__

    def init(self, *given, **options):
        build(self, *given, **options)
        models.append(weakref.ref(self))

    monkeypatch.setattr(MLP, "__init__", init)
    alive = []

    def work(task, again):
        alive.append([model() for model in models if model() is not None])
        return digits(seed=task)

    full(out_of_memory_of_cuda)
    gc.disable()
    try:
        outcomes = dict(Here().do(work, [0, 1]))
    finally:
        gc.enable()
    assert isinstance(outcomes[0], MemoryRanOutError)
    assert alive == [[], []]


def test_the_error_reaches_the_process_that_asked(full):
    full(out_of_memory_of_cuda)
    error = attempt(lambda task, again: digits(seed=task), 0, False)
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, MemoryRanOutError)
    assert str(again) == str(error)
