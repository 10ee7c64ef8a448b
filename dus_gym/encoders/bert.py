"""BERT from transformers, with a linear projection; the paper's encoder of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dus_gym.encoders.checkpointing import CheckpointingTransformer
from dus_gym.encoders.pretrained import ATTENTION, transformers_model
from dus_gym.encoders.sizes import random_sizes
from dus_gym.encoders.tokens import check_ids, check_text_shape
from dus_gym.encoders.weights import NONE
from dus_gym.errors import check_at_least, check_choice

_SIZES = {"hidden": 768, "layers": 12, "heads": 12, "vocab": 30522}


@dataclass(frozen=True)
class BertOptions:
    """Options of ``bert``."""

    weights: str = "bert-base-uncased"
    """A name on the hub, a folder that ``save_pretrained`` wrote, or ``none``."""
    output: str = "pooler"
    """``pooler``: the first token through BERT's own tanh layer; ``cls``: the first token's last hidden state."""
    out: int = 1024
    """Features after a linear projection; 0: the hidden size itself."""
    sep: int = 102
    """Id of ``[SEP]``: ids behind the first one are the second segment of a pair. 0: one segment."""
    hidden: int | None = None
    """With weights=none: hidden size (768)."""
    layers: int | None = None
    """With weights=none: layers (12)."""
    heads: int | None = None
    """With weights=none: attention heads (12)."""
    vocab: int | None = None
    """With weights=none: size of the vocabulary (30522)."""

    def __post_init__(self) -> None:
        check_choice("output", self.output, ("pooler", "cls"))
        check_at_least("out", self.out, 0)
        check_at_least("sep", self.sep, 0)
        self.sizes()

    def sizes(self) -> dict[str, int]:
        """Sizes of the network with random weights."""
        return random_sizes(self.weights, self, _SIZES)


class Bert(CheckpointingTransformer):
    """BERT and a linear projection to 1024 features. Its dropout draws from PyTorch's default generator.

    Args:
        input_shape: ``(length,)``; ids are int64, 0 is padding and not attended to.
        options: see :class:`BertOptions`.
    """

    def __init__(self, input_shape: tuple[int, ...], options: BertOptions | None = None) -> None:
        from transformers import BertConfig, BertModel

        super().__init__()
        options = options or BertOptions()
        pooled = options.output == "pooler"
        if options.weights == NONE:
            sizes = options.sizes()
            config = BertConfig(
                vocab_size=sizes["vocab"],
                hidden_size=sizes["hidden"],
                num_hidden_layers=sizes["layers"],
                num_attention_heads=sizes["heads"],
                intermediate_size=4 * sizes["hidden"],
                **ATTENTION,
            )
            self.network = BertModel(config, add_pooling_layer=pooled)
        else:
            self.network = transformers_model(BertModel, options.weights, ("bert",), add_pooling_layer=pooled)
        config = self.network.config
        check_text_shape(input_shape, config.max_position_embeddings)
        self.vocabulary: int = config.vocab_size
        self.pooled, self.sep = pooled, options.sep
        self.projection = nn.Linear(config.hidden_size, options.out) if options.out else nn.Identity()
        self.out_features: int = options.out or config.hidden_size

    def forward(self, inputs: Tensor) -> Tensor:
        """Token ids ``(n, L)`` to features ``(n, out)``."""
        check_ids(inputs, self.vocabulary)
        network: Any = self.network
        # Part by part: the whole would ask on the device whether anything is padded at all, and wait for the answer.
        hidden = network.embeddings(input_ids=inputs, token_type_ids=segments(inputs, self.sep))
        found = network.encoder(hidden, attention_mask=attended(inputs)[:, None, None, :]).last_hidden_state
        features: Tensor = self.projection(network.pooler(found) if self.pooled else found[:, 0])
        return features


def attended(ids: Tensor) -> Tensor:
    """True for tokens, False for padding, ``(n, L)``; the first place always counts, or empty text would give NaN."""
    mask = ids != 0
    mask[:, 0] = True
    return mask


def segments(ids: Tensor, sep: int) -> Tensor:
    """0 up to and with the first ``sep``, 1 behind it, 0 for padding, ``(n, L)``; all 0 where ``sep`` is 0."""
    if sep == 0:
        return torch.zeros_like(ids)
    closes = (ids == sep).long()
    behind = closes.cumsum(dim=1) - closes > 0
    return (behind & (ids != 0)).long()
