"""The settings of one run, whatever its task, method and agent."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from dus_gym.allocation import ACTION_MODES, LEVERS, check_lever
from dus_gym.discrepancy import CUMULATIVE_MODES
from dus_gym.errors import ConfigError, check_at_least, check_choice
from dus_gym.options import build_options
from dus_gym.precision import PRECISIONS
from dus_gym.rewards import REWARD_STATES, reward_names

LOSS_NORMS = ("mean", "fixed")
GRAPHS = ("off", "auto")
PAIRINGS = ("prefix", "independent")
UPDATES = ("joint", "alternating")
PREDICTORS = ("method", "concat", "sum", "entropy", "sum-all")
SELECTIONS = ("last", "validation", "best_test")


@dataclass(frozen=True)
class RunConfig:
    """Settings of a run; the defaults are the paper's where it states them. None means the task's own."""

    epochs: int | None = field(default=None, metadata={"common": "How long to train; the task's own if not given."})
    """Epochs of the run, over all of a method's phases."""
    interval: int | None = None
    """Iterations of one step of the environment; one epoch if not given (Algorithm 1)."""
    total_batch: int | None = field(default=None, metadata={"common": "Samples per iteration over all modalities."})
    """Samples per iteration over all modalities (N_B of the paper); the number of modalities times the task's batch
    size of one if not given."""
    iterations: int | None = None
    """Iterations per epoch; if not given as many as take each training sample once at equal batches (n_train // B)."""
    min_samples: int = 2
    """The fewest samples a modality may get (BatchNorm needs 2)."""
    min_fraction: float = field(
        default=0.0,
        metadata={
            "common": "Least part of an equal share that a modality gets; 0: no floor (the paper); 0.25 is recommended."
        },
    )
    """The fewest samples of a modality, as a fraction of its equal share: 0 (the paper) leaves min_samples alone as the
    bound, 0.25 is recommended."""
    size_step: int = 1
    """Sizes are a multiple of this away from equal ones, and sum to the same; 1 (the paper): any size. Fewer sizes need
    fewer captures (graphs)."""
    cumulative: str = field(default="run", metadata={"choices": CUMULATIVE_MODES})
    """Eq. 3: run (the paper's running mean), epoch, ema, or none (the ablation without it)."""
    reward: str = field(default="paper", metadata={"choices": reward_names})
    """paper (Eq. 5), gap, gap-change, validation-gain or learning-progress."""
    reward_state: str = field(default="before", metadata={"choices": REWARD_STATES})
    """Which scores Eq. 5 reads: before (what the agent saw) or after (what its choice led to)."""
    action_mode: str = field(default="shares", metadata={"choices": ACTION_MODES})
    """shares (a split of the samples per iteration) or fractions (of each modality's equal share of them; the total may
    shrink). An agent speaks one of them; the command line sets it."""
    lever: str = field(
        default="samples", metadata={"common": "What shares move: batch sizes or learning rates.", "choices": LEVERS}
    )
    """samples: an action's shares become batch sizes (the paper); rates: batches are equal, and m times the shares
    multiply the learning rates of each modality's encoder and head."""
    loss_norm: str = field(
        default="mean",
        metadata={
            "common": "Each modality's loss: a mean over its own samples, or over a fixed number.",
            "choices": LOSS_NORMS,
        },
    )
    """mean: each modality's loss is the mean over its own samples (the paper); fixed: their sum over B, the
    equal share, which makes a modality's batch size its learning rate."""
    pairing: str = field(default="prefix", metadata={"choices": PAIRINGS})
    """prefix: all modalities read one shuffled stream, so the first min a_j samples are paired;
    independent: a stream each, nothing paired."""
    update: str = field(default="joint", metadata={"choices": UPDATES})
    """joint: one step on the summed losses; alternating: a step after each loss."""
    predict_with: str = field(default="method", metadata={"choices": PREDICTORS})
    """The predictor reported as the method's own: method, concat, sum, entropy, or sum-all (concat head plus the
    unimodal logits, which is how the authors' code predicts with the baseline)."""
    select: str = field(default="last", metadata={"choices": SELECTIONS})
    """The model that is evaluated: last epoch, best validation epoch, or best_test (what published code
    does; an optimistic figure)."""
    eval_every: int = 1
    """Epochs between validations."""
    lr_scale: tuple[float, ...] | None = None
    """A multiplier on the learning rate of each modality's encoder and head; 1 each if not given."""
    device: str = field(default="cpu", metadata={"common": True})
    """cpu, cuda or cuda:N."""
    precision: str = field(default="auto", metadata={"choices": PRECISIONS})
    """The number format of forward passes: float32, tf32 (NVIDIA's cards), bfloat16, or auto: bfloat16 on a card that
    has it, float32 elsewhere."""
    amp: bool = False
    """The same as precision=bfloat16."""
    cudnn_benchmark: bool = False
    """Let cuDNN time its convolutions once for every new batch size and keep the fastest. Pays where an epoch has many
    iterations; the same seed then need not give the same bits. No effect on a CPU."""
    graphs: str = field(default="off", metadata={"choices": GRAPHS})
    """off, or auto: an iteration of an NVIDIA card is captured as a CUDA graph for each pair of batch sizes that comes
    often enough to pay, which is measured. The same bits, for more memory. Never tried on a card yet, hence off."""
    checkpointing: bool = False
    """Keep only the inputs of the blocks of BERT, CLIP, ResNet and I3D in a training pass, and compute each block again
    for its gradient: far less memory for one more forward pass, and the same bits."""

    def __post_init__(self) -> None:
        for name in ("epochs", "interval", "total_batch", "iterations"):
            value = getattr(self, name)
            if value is not None:
                _check_integer(name, value, 1)
        _check_integer("min_samples", self.min_samples, 1)
        _check_integer("eval_every", self.eval_every, 1)
        _check_integer("size_step", self.size_step, 1)
        check_at_least("min_fraction", self.min_fraction, 0.0)
        if self.min_fraction > 1.0:
            raise ConfigError(f"min_fraction={self.min_fraction!r} is not allowed; it must lie in [0, 1].")
        for setting in fields(self):
            if "choices" in setting.metadata:
                known = setting.metadata["choices"]
                check_choice(setting.name, getattr(self, setting.name), known() if callable(known) else known)
        check_lever(self.lever, self.action_mode, self.size_step)
        if self.amp:
            if self.precision not in ("auto", "bfloat16"):
                raise ConfigError(
                    f"amp=True asks for precision='bfloat16', and precision={self.precision!r} is set; leave one out."
                )
            object.__setattr__(self, "precision", "bfloat16")
        if self.lr_scale is not None:
            object.__setattr__(self, "lr_scale", tuple(float(scale) for scale in self.lr_scale))
            for scale in self.lr_scale:
                if not 0.0 <= scale < float("inf"):
                    raise ConfigError(f"lr_scale={self.lr_scale} is not allowed; every entry must be finite and >= 0.")

    def check_device(self) -> None:
        """Refuse a device that is not here.

        Raises:
            ConfigError: says what can be had.
        """
        if self.device == "cpu":
            return
        import torch

        index = self.device.removeprefix("cuda").removeprefix(":") or "0"
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not (self.device.startswith("cuda") and index.isdecimal() and int(index) < count):
            if self.device.startswith("mps"):
                raise ConfigError(f"device={self.device!r} is not supported: Apple's GPUs are never used; use 'cpu'.")
            raise ConfigError(
                f"device={self.device!r} is not available here; use 'cpu', or "
                + (f"cuda:0 to cuda:{count - 1}." if count else "install a CUDA build of PyTorch.")
            )

    @classmethod
    def of(cls, settings: dict[str, Any]) -> RunConfig:
        """Settings by name.

        Raises:
            ConfigError: for a name that is not a setting (with the nearest that is) or a bad value.
        """
        return build_options(cls, settings, "setting")


def _check_integer(argument: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{argument}={value!r} is not allowed; it must be a whole number.")
    check_at_least(argument, value, least)
