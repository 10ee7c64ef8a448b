"""Pretrained weights by name: from a local cache or the network; where there is none, a clear error and no wait.

torchvision's and transformers' own loaders do the downloading, the caching and the checking of hashes.
"""

from __future__ import annotations

import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from dus_gym.encoders.weights import NONE, read_state_dict, some
from dus_gym.errors import ConfigError, PretrainedNotFoundError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    Model = TypeVar("Model", bound=PreTrainedModel)

Found = TypeVar("Found")

ATTENTION: dict[str, Any] = {"attn_implementation": "sdpa"}
"""Asks transformers for PyTorch's ``scaled_dot_product_attention``, whose fused kernels never write out the matrix of
all pairs of tokens."""

SECONDS_TO_ANSWER = 10.0
"""How long a server has to answer at all before it counts as unreachable."""


def torchvision_state(weights: Any) -> dict[str, Tensor]:
    """The state dict of one entry of a torchvision weights enumeration, from its cache or downloaded.

    Args:
        weights: such as ``ResNet50_Weights.IMAGENET1K_V1``.

    Raises:
        PretrainedNotFoundError: if the file is not in the cache and can't be downloaded.
    """
    url: str = weights.url
    cached = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if cached.exists():
        return read_state_dict(cached)
    how = f"Download {url} to {cached} on a machine with network, or name the file itself: weights=FILE."
    if reason := _offline() or _unreachable(url):
        raise PretrainedNotFoundError(f"{weights} is not in torch's cache ({cached}) and {reason}. {how}")
    try:
        # torch.hub announces the download on standard output, which belongs to --json.
        with redirect_stdout(sys.stderr):
            found: dict[str, Tensor] = weights.get_state_dict(
                progress=sys.stderr.isatty(), check_hash=True, weights_only=True
            )
    except (OSError, RuntimeError) as error:
        raise PretrainedNotFoundError(f"{weights} could not be downloaded ({first_line(error)}). {how}") from error
    return found


def transformers_model(kind: type[Model], weights: str, model_types: tuple[str, ...], **arguments: Any) -> Model:
    """A model of transformers with pretrained weights: a local folder, the local cache, or else the hub.

    What is in the cache is used without asking the network.

    Args:
        kind: the model class.
        weights: a folder that ``save_pretrained`` wrote, or a name on the hub.
        model_types: what ``model_type`` in ``config.json`` may be.
        arguments: for the constructor of ``kind``.

    Raises:
        PretrainedNotFoundError: for a folder that is not there, or a name that is neither cached nor downloadable.
        ConfigError: for a model of another kind, missing or ill-shaped weights, or a file that could run code.
    """
    folder = Path(weights).expanduser()
    if folder.is_dir():
        try:
            return _load(kind, str(folder), model_types, weights, arguments, local=True)
        except OSError as error:
            raise ConfigError(
                f"weights={weights!r}: the folder {folder.absolute()} is incomplete ({first_line(error)}). It needs "
                "config.json and model.safetensors, as save_pretrained(FOLDER) writes them."
            ) from error
    if folder.exists():
        raise ConfigError(f"weights={weights!r} is a file; give the folder that holds config.json and the weights.")
    return cached_or_downloaded(
        "weights",
        weights,
        lambda local: _load(kind, weights, model_types, weights, arguments, local=local),
        f"Give a folder that save_pretrained(FOLDER) wrote, a name on the hub, or weights={NONE} for random weights.",
        f"weights={NONE} starts from random weights.",
    )


def cached_or_downloaded(
    argument: str, name: str, load: Callable[[bool], Found], allowed: str, otherwise: str = ""
) -> Found:
    """Return what the hub has by a name, from its local cache or, where that lacks it, from the network.

    Args:
        argument: what the user set to the name, such as ``weights``; one of that name takes a folder instead.
        name: ``model`` or ``owner/model``.
        load: called with True (OSError: not in the cache, or not all of it) and, if need be, with False.
        allowed: what the argument may be, a sentence for the error of a name that can't be one of the hub.
        otherwise: what does without, a sentence for the error of a hub that can't be reached.

    Raises:
        PretrainedNotFoundError: for a path that is not there, or a name that is neither cached nor downloadable.
    """
    if not name or name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise PretrainedNotFoundError(
            f"{argument}={name!r}: there is no folder {Path(name).expanduser().absolute()}. {allowed}"
        )
    try:
        return load(True)
    except OSError:
        pass  # Not in the cache, or not all of it.
    from huggingface_hub import constants

    how = (
        f"Get it once where there is network (hf download {name}) or copy its folder and name that: {argument}=FOLDER."
    )
    how = f"{how} {otherwise}".rstrip()
    where = f"{argument}={name!r} is not in the local cache ({constants.HF_HUB_CACHE})"
    if reason := _offline() or _unreachable(constants.ENDPOINT):
        raise PretrainedNotFoundError(f"{where} and {reason}. {how}")
    try:
        return load(False)
    except ConfigError:
        raise
    except Exception as error:  # The network libraries have errors of their own.
        try:
            # All there after all: then the file itself is at fault, and this names it.
            return load(True)
        except OSError:
            raise PretrainedNotFoundError(
                f"{where} and the hub did not give it ({first_line(error)}). {how}"
            ) from error


def _load(
    kind: type[Model], name: str, model_types: tuple[str, ...], weights: str, arguments: dict[str, Any], *, local: bool
) -> Model:
    """Loads strictly. OSError means that files are not there; with ``local`` False the network's errors come, too."""
    from transformers import PretrainedConfig

    with _quiet_transformers():
        settings, _ = PretrainedConfig.get_config_dict(name, local_files_only=local)
        if not settings:
            raise FileNotFoundError("there is no config.json")
        # transformers itself would go on with default sizes.
        if (found := settings.get("model_type")) not in model_types:
            raise ConfigError(
                f"weights={weights!r} hold a model of type {found!r} instead of {' or '.join(model_types)}."
            )
        try:
            loaded: Any = kind.from_pretrained(
                name,
                local_files_only=local,
                dtype=torch.float32,
                output_loading_info=True,
                **ATTENTION,
                **arguments,
            )
        except Exception as error:  # Refused pickles, damaged files, ill-shaped weights: each raises its own.
            if isinstance(error, OSError) or not local:
                raise
            raise ConfigError(
                f"weights={weights!r} can't be loaded ({first_line(error)}). A damaged file, one that could run code, "
                "or weights of other sizes than config.json says are refused."
            ) from error
    model: Model = loaded[0]
    info: dict[str, Any] = loaded[1]
    # Without this, transformers fills what is missing with random numbers and goes on.
    if missing := sorted(info["missing_keys"]):
        pooler = all(name.startswith("pooler.") for name in missing)
        raise ConfigError(
            f"weights={weights!r} lack {len(missing)} entries that {kind.__name__} needs ({some(missing)})."
            + (" They were saved without a pooler: give the encoder the option output=cls." if pooler else "")
        )
    return model


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No warnings and progress bars of transformers: what matters is raised, and --quiet means quiet."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _offline() -> str:
    """Why the network must not be used; empty if it may."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"}:
            return f"{variable}={os.environ[variable]} forbids the network"
    return ""


def _unreachable(url: str) -> str:
    """Why the server of a URL does not answer; empty if it does, with whatever status.

    The loaders retry for minutes where packets are dropped; one short question first avoids that.
    """
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=SECONDS_TO_ANSWER).close()
    except urllib.error.HTTPError:
        return ""
    except urllib.error.URLError as error:
        # The loaders may trust other certificates than urllib does.
        return "" if isinstance(error.reason, ssl.SSLError) else f"{_host(url)} can't be reached ({error.reason})"
    except OSError as error:
        return f"{_host(url)} can't be reached ({first_line(error)})"
    return ""


def _host(url: str) -> str:
    return url.partition("://")[2].partition("/")[0] or url
