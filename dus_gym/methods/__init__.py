"""Every multimodal method, by name: one file each, all trained by the one loop."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dus_gym.errors import unknown_name
from dus_gym.options import build_options

if TYPE_CHECKING:
    from dus_gym.methods.base import Method

METHODS: dict[str, str] = {
    "unimodal": "dus_gym.methods.unimodal:Unimodal",
    "joint": "dus_gym.methods.joint:Joint",
    "baseline": "dus_gym.methods.baseline:Baseline",
    "ogr_gb": "dus_gym.methods.ogr_gb:OGRGB",
    "ogm": "dus_gym.methods.ogm:OGM",
    "ogm_ge": "dus_gym.methods.ogm_ge:OGMGE",
    "domfn": "dus_gym.methods.domfn:DOMFN",
    "mses": "dus_gym.methods.mses:MSES",
    "pmr": "dus_gym.methods.pmr:PMR",
    "agm": "dus_gym.methods.agm:AGM",
    "mslr": "dus_gym.methods.mslr:MSLR",
    "reconboost": "dus_gym.methods.reconboost:ReconBoost",
    "smv": "dus_gym.methods.smv:SMV",
    "di_mml": "dus_gym.methods.di_mml:DIMML",
    "mla": "dus_gym.methods.mla:MLA",
    "mmcosine": "dus_gym.methods.mmcosine:MMCosine",
    "mmpareto": "dus_gym.methods.mmpareto:MMPareto",
    "opm": "dus_gym.methods.opm:OPM",
    "cml": "dus_gym.methods.cml:CML",
    "lfm": "dus_gym.methods.lfm:LFM",
    "umt": "dus_gym.methods.umt:UMT",
    "relearning": "dus_gym.methods.relearning:Relearning",
    "bss": "dus_gym.methods.bss:BSS",
    "aug": "dus_gym.methods.aug:AUG",
    "greedy": "dus_gym.methods.greedy:Greedy",
}
"""Name to ``module:class``; imported when asked for, so that listing the names costs nothing."""

__all__ = ["METHODS", "independent_methods", "make_method", "method_class", "unpaired_methods"]


def method_class(name: str) -> type[Method]:
    """Return the class of the method called ``name``.

    Raises:
        ConfigError: for an unknown name; the message has the nearest one.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    module, _, attribute = METHODS[name].partition(":")
    found: type[Method] = getattr(import_module(module), attribute)
    return found


def unpaired_methods() -> list[str]:
    """Return the methods that train on unequal batches, that is, under DUS."""
    return [name for name in METHODS if method_class(name).supports_unpaired]


def independent_methods() -> list[str]:
    """Return the methods that train although no sample is complete (``pairing="independent"``)."""
    return [name for name in METHODS if method_class(name).supports_independent]


def make_method(name: str, options: Mapping[str, Any] | None = None) -> Method:
    """Build a method with its options.

    Args:
        name: such as ``"baseline"`` or ``"mla"``.
        options: field of the method's options to value; defaults where absent.

    Raises:
        ConfigError: for an unknown method or option, or a value of another type.
    """
    found = method_class(name)
    return found(build_options(found.options_type, options, f"option of method {name!r}:"))
