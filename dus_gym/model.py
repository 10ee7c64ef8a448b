"""The multimodal network: one encoder per modality and the heads its method asks for.

R runs of one network are one network, too, whose parameters all lead with an axis of R (:func:`stacked`). Whatever
goes in and out then leads with it as well, so what is written here for ``(n, d)`` also holds for ``(R, n, d)``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dus_gym.encoders import width
from dus_gym.encoders.cnn import CNN
from dus_gym.encoders.mlp import MLP
from dus_gym.errors import ONE_BY_ONE, ConfigError, first_line

HEADS = frozenset({"unimodal", "fused", "shared", "ensemble", "boosted", "gates"})
ENSEMBLE_HIDDEN = 256
BOOSTED_HIDDEN = 256
BOOSTED_MOST = 10
"""Classifiers that a modality can get beside its first."""


class MultimodalModel(nn.Module):
    """Encoders φ_j and linear heads.

    Args:
        encoders: one module a modality, with the attribute ``out_features``.
        num_classes: c.
        heads: which heads to build. ``"unimodal"``: one linear head per modality. ``"fused"``: one linear
            head on the concatenated features. ``"shared"``: one linear head for all modalities; features
            of another width than the first modality's get a linear projection. ``"ensemble"``: the same with
            one hidden layer, and a trainable scale on all its logits. ``"boosted"``: a hidden layer for each of a
            modality's classifiers, of which the first one alone counts at first, and one linear layer after them all.
            ``"gates"``: a factor on every feature of every modality, from the features of all.
        fused_hidden: width of a hidden layer in the fused head; 0: none.
    """

    def __init__(
        self, encoders: Sequence[nn.Module], num_classes: int, heads: Collection[str], fused_hidden: int = 0
    ) -> None:
        super().__init__()
        if unknown := set(heads) - HEADS:
            raise ConfigError(f"heads={sorted(unknown)} are not allowed; choose from {sorted(HEADS)}.")
        widths = [width(encoder) for encoder in encoders]
        self.runs: int | None = None
        """R, the length of the axis of runs; None: one run and no such axis."""
        self.num_classes = num_classes
        self.widths = widths
        self.encoders = nn.ModuleList(encoders)
        self.unimodal_heads: nn.ModuleList | None = None
        self.fused_head: nn.Linear | nn.Sequential | None = None
        self.shared_head: nn.Linear | None = None
        self.ensemble_head: nn.Sequential | None = None
        self.ensemble_scale: nn.Parameter | None = None
        self.projections: nn.ModuleList | None = None
        self.boosted_layers: nn.ModuleList | None = None
        self.boosted_head: nn.Linear | None = None
        self.boosted_active: Tensor | None
        self.register_buffer("boosted_active", None)
        self.gate_squeeze: nn.Linear | None = None
        self.gate_excite: nn.ModuleList | None = None
        if "unimodal" in heads:
            self.unimodal_heads = nn.ModuleList(nn.Linear(d, num_classes) for d in widths)
        if "fused" in heads:
            self.fused_head = (
                _two_layers(sum(widths), fused_hidden, num_classes)
                if fused_hidden
                else nn.Linear(sum(widths), num_classes)
            )
        if not {"shared", "ensemble"}.isdisjoint(heads):
            common = widths[0]
            self.projections = nn.ModuleList(nn.Identity() if d == common else nn.Linear(d, common) for d in widths)
            if "shared" in heads:
                self.shared_head = nn.Linear(common, num_classes)
            if "ensemble" in heads:
                self.ensemble_head = _two_layers(common, ENSEMBLE_HIDDEN, num_classes)
                self.ensemble_scale = nn.Parameter(torch.ones(()))
        if "gates" in heads:
            self.gate_squeeze = nn.Linear(sum(widths), max(1, sum(widths) // 2))
            self.gate_excite = nn.ModuleList(nn.Linear(self.gate_squeeze.out_features, d) for d in widths)
        if "boosted" in heads:
            self.boosted_layers = nn.ModuleList()
            for d in widths:
                layers = nn.ModuleList(nn.Linear(d, BOOSTED_HIDDEN) for _ in range(1 + BOOSTED_MOST))
                # The others are of zeros, which neither weight decay nor another run's gradient moves.
                for parameter in layers[1:].parameters():
                    nn.init.zeros_(parameter)
                self.boosted_layers.append(layers)
            self.boosted_head = nn.Linear(BOOSTED_HIDDEN, num_classes)
            # Which of the added classifiers count, 1 or 0: never trained, but kept and chosen with the weights.
            self.boosted_active = torch.zeros(len(widths), BOOSTED_MOST)

    def train(self, mode: bool = True) -> MultimodalModel:
        """Set the mode as every module does, but leave a frozen encoder, with its statistics, in evaluation mode."""
        super().train(mode)
        for encoder in self.encoders:
            parameters = list(encoder.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                encoder.eval()
        return self

    def encode(self, modality: int, inputs: Tensor) -> Tensor:
        """Return features h_j of one modality, ``(n, d_j)``."""
        encoder = self.encoders[modality]
        if self.runs is None:
            features: Tensor = encoder(inputs)
            return features
        plain = not (encoder._forward_hooks or encoder._forward_pre_hooks)
        if plain and type(encoder) is MLP:
            return _layers(encoder.layers, inputs.flatten(2))
        if plain and type(encoder) is CNN and inputs.ndim == 5:
            return _layers(encoder.layers, inputs)
        return _mapped(encoder, inputs)

    def unimodal(self, modality: int, features: Tensor) -> Tensor:
        """Return logits of one modality's own linear head, ``(n, c)``."""
        if self.unimodal_heads is None:
            raise ConfigError("this model has no unimodal heads; its method must list 'unimodal' in heads.")
        return self._through(self.unimodal_heads[modality], features)

    def shared(self, modality: int, features: Tensor) -> Tensor:
        """Return logits of the head that all modalities share, ``(n, c)``."""
        return self.shared_logits(self.project(modality, features))

    def project(self, modality: int, features: Tensor) -> Tensor:
        """Return features at the width the shared or ensemble head reads, ``(n, d)``."""
        if self.projections is None:
            raise ConfigError("this model has no shared head; its method must list 'shared' or 'ensemble' in heads.")
        return self._through(self.projections[modality], features)

    def shared_logits(self, projected: Tensor) -> Tensor:
        """Return logits of the shared head on features that :meth:`project` returned, ``(n, c)``."""
        if self.shared_head is None:
            raise ConfigError("this model has no shared head; its method must list 'shared' in heads.")
        return self._through(self.shared_head, projected)

    def learner(self, modality: int, features: Tensor) -> Tensor:
        """Return logits of one learner of the ensemble by itself, H(h_j), ``(n, c)``."""
        if self.ensemble_head is None:
            raise ConfigError("this model has no ensemble head; its method must list 'ensemble' in heads.")
        return self._through(self.ensemble_head, self.project(modality, features))

    def ensemble(self, modality: int, features: Tensor) -> Tensor:
        """Return one modality's share of the ensemble's logits, ρ H(h_j), ``(n, c)``; the ensemble is their sum."""
        logits = self.learner(modality, features)
        assert self.ensemble_scale is not None, "it is built with the ensemble head"
        if self.runs is None:
            return self.ensemble_scale * logits
        return self.ensemble_scale[:, None, None].to(logits.dtype) * logits

    def gates(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return factors between 0 and 1 on complete samples' features: m tensors ``(n, d_j)`` to m of the same shape.

        They are those of a multimodal transfer module on vectors: a common layer of half as many units as there are
        features, a ReLU, and a linear layer with a sigmoid for each modality.
        """
        if self.gate_squeeze is None or self.gate_excite is None:
            raise ConfigError("this model has no gates head; its method must list 'gates' in heads.")
        squeezed = self._through(self.gate_squeeze, torch.cat(tuple(features), dim=-1)).relu()
        return [self._through(excite, squeezed).sigmoid() for excite in self.gate_excite]

    def boosted_part(self, modality: int, k: int, features: Tensor) -> Tensor:
        """Return logits of one of a modality's boosted classifiers by itself, ``(n, c)``; k = 0 is the first."""
        if self.boosted_layers is None or self.boosted_head is None:
            raise ConfigError("this model has no boosted heads; its method must list 'boosted' in heads.")
        layers = self.boosted_layers[modality]
        assert isinstance(layers, nn.ModuleList)
        return self._through(self.boosted_head, self._through(layers[k], features).relu())

    def boosted(self, modality: int, features: Tensor) -> Tensor:
        """Return the sum of a modality's boosted classifiers that count, ``(n, c)``."""
        total = self.boosted_part(modality, 0, features)
        assert self.boosted_active is not None, "it is built with the boosted heads"
        active = self.boosted_active[..., modality, :, None, None]
        for k in range(BOOSTED_MOST):
            total = total + active[..., k, :, :].to(total.dtype) * self.boosted_part(modality, k + 1, features)
        return total

    def fused(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits of the concat head on complete samples: m tensors ``(n, d_j)`` to ``(n, c)``."""
        if self.fused_head is None:
            raise ConfigError("this model has no fused head; its method must list 'fused' in heads.")
        if self.runs is not None and isinstance(self.fused_head, nn.Linear):
            # The same without a copy of the features, forward and backward.
            logits = self.fused_head.bias.unsqueeze(1)
            for h, block in zip(features, self.fused_head.weight.split(self.widths, dim=-1), strict=True):
                logits = torch.baddbmm(logits, h, block.mT)
            return logits
        return self._through(self.fused_head, torch.cat(tuple(features), dim=-1))

    def _through(self, module: nn.Module, inputs: Tensor) -> Tensor:
        """Return what one of the heads or projections makes of ``(n, d)``."""
        if self.runs is not None:
            return _layers(module if isinstance(module, nn.Sequential) else [module], inputs)
        found: Tensor = module(inputs)
        return found

    def additive_parts(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Split the concat head's logits by modality: m tensors ``(n, c)`` that sum to :meth:`fused`.

        Part j is W_j h_j + b/m, the decomposition that OGM and PMR use.
        """
        if self.fused_head is None:
            raise ConfigError("this model has no fused head; its method must list 'fused' in heads.")
        if not isinstance(self.fused_head, nn.Linear):
            raise ConfigError("this model's fused head has a hidden layer, so its logits have no additive parts.")
        blocks = self.fused_head.weight.split(self.widths, dim=-1)
        bias = self.fused_head.bias.unsqueeze(-2) / len(features)
        return [h @ block.mT + bias for h, block in zip(features, blocks, strict=True)]

    def parameter_groups(self, modalities: Sequence[str]) -> dict[str, list[nn.Parameter]]:
        """Return parameters by owner: ``encoder/NAME`` and ``head/NAME`` of each modality, ``fused``, ``shared``,
        ``ensemble`` and its ``scale``, ``boosted``; ``gates/NAME`` and what all gates share, ``gates``.

        Methods freeze and scale by these names; nothing anywhere looks inside a parameter's own name.
        """
        groups: dict[str, list[nn.Parameter]] = {}
        for j, name in enumerate(modalities):
            groups[f"encoder/{name}"] = list(self.encoders[j].parameters())
            head: list[nn.Parameter] = []
            if self.unimodal_heads is not None:
                head += self.unimodal_heads[j].parameters()
            if self.projections is not None:
                head += self.projections[j].parameters()
            if self.boosted_layers is not None:
                head += self.boosted_layers[j].parameters()
            groups[f"head/{name}"] = head
        if self.fused_head is not None:
            groups["fused"] = list(self.fused_head.parameters())
        if self.shared_head is not None:
            groups["shared"] = list(self.shared_head.parameters())
        if self.ensemble_head is not None and self.ensemble_scale is not None:
            groups["ensemble"] = list(self.ensemble_head.parameters())
            groups["scale"] = [self.ensemble_scale]
        if self.gate_squeeze is not None and self.gate_excite is not None:
            for name, excite in zip(modalities, self.gate_excite, strict=True):
                groups[f"gates/{name}"] = list(excite.parameters())
            groups["gates"] = list(self.gate_squeeze.parameters())
        if self.boosted_head is not None:
            groups["boosted"] = list(self.boosted_head.parameters())
        return {name: parameters for name, parameters in groups.items() if parameters}


def _layers(layers: Iterable[nn.Module], inputs: Tensor) -> Tensor:
    """Return what layers of the package's own networks, whose parameters lead with R, make of ``(R, n, ...)``.

    The same as mapping each, written out: a product and its bias are one operation, and its ReLU changes in place what
    nobody else holds, which together are a sixth of a step on the CPU.
    """
    for layer in layers:
        if isinstance(layer, nn.Linear):
            inputs = torch.baddbmm(layer.bias.unsqueeze(1), inputs, layer.weight.mT)
        elif isinstance(layer, nn.ReLU):
            inputs = inputs.relu_() if inputs.ndim == 3 else inputs.relu()
        elif isinstance(layer, nn.Flatten):
            inputs = inputs.flatten(2)
        elif not isinstance(layer, nn.Identity):
            inputs = _mapped(layer, inputs)
    return inputs


def _mapped(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return what any module whose parameters lead with R makes of ``(R, n, ...)``, by its code for one run."""

    def one(parameters: dict[str, Tensor], rows: Tensor) -> Tensor:
        found: Tensor = functional_call(module, parameters, (rows,))
        return found

    try:
        mapped: Tensor = torch.vmap(one)(dict(module.named_parameters()), inputs)
    except (RuntimeError, ValueError) as error:
        if "vmap" not in str(error) and "functorch" not in str(error):
            raise
        raise ConfigError(
            f"{type(module).__name__} does something that can't be mapped over runs ({first_line(error)}), so runs of "
            f"this network can't train as one computation; {ONE_BY_ONE}."
        ) from error
    return mapped


def _two_layers(width: int, hidden: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))


def stacked(models: Sequence[MultimodalModel]) -> MultimodalModel:
    """Return R networks of one form as one, whose parameters and buffers lead with the axis of runs.

    Encoders are mapped over it, so their code is that of one run.

    Raises:
        ConfigError: for an encoder that can't be mapped: one with statistics of a batch, which rows that fill up a
            smaller batch would change, with other buffers, or with dropout.
    """
    one = models[0]
    for encoder in one.encoders:
        _check_mappable(encoder)
    whole = copy.deepcopy(one)
    whole.runs = len(models)
    trees = [{**dict(model.named_parameters()), **dict(model.named_buffers())} for model in models]
    for name, first in trees[0].items():
        owner, _, attribute = name.rpartition(".")
        values = torch.stack([tree[name].detach() for tree in trees])
        kept = nn.Parameter(values) if isinstance(first, nn.Parameter) else values
        setattr(whole.get_submodule(owner), attribute, kept)
    return whole


def _check_mappable(encoder: nn.Module) -> None:
    kind = type(encoder).__name__
    if len([*encoder.parameters()]) != len([*encoder.named_parameters(remove_duplicate=False)]):
        raise ConfigError(
            f"{kind} has one parameter in two places, which can't be told apart by run; {ONE_BY_ONE}, or give each "
            "its own."
        )
    for name, module in encoder.named_modules():
        where = f"{kind}.{name}" if name else kind
        if isinstance(module, nn.modules.batchnorm._NormBase):
            raise ConfigError(
                f"{where} is a {type(module).__name__}: statistics of a batch are of one run's own samples, so runs of "
                f"this network can't train as one computation; {ONE_BY_ONE}, or an encoder without BatchNorm (mlp, "
                "cnn, bag)."
            )
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0.0:
            raise ConfigError(
                f"{where} drops out at random, from one generator for all runs, so runs of this network can't train as "
                f"one computation; {ONE_BY_ONE}, or p=0."
            )
        if any(True for _ in module.buffers(recurse=False)):
            raise ConfigError(
                f"{where} keeps buffers, which can't be told apart by run; {ONE_BY_ONE}, or an encoder without buffers "
                "(mlp, cnn, bag)."
            )


def initialised(build: Callable[[], MultimodalModel], seed: int) -> MultimodalModel:
    """Build a model with PyTorch's own initialisers on a private copy of the default generator."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would seed every accelerator as well.
        torch.default_generator.manual_seed(seed)
        return build()
