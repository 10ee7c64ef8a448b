"""The two halves of CLIP from transformers, each with its own projection and a linear adapter to 1024 features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dus_gym.encoders.checkpointing import CheckpointingTransformer
from dus_gym.encoders.pretrained import ATTENTION, transformers_model
from dus_gym.encoders.sizes import random_sizes
from dus_gym.encoders.tokens import check_ids, check_text_shape, last_token
from dus_gym.encoders.weights import NONE
from dus_gym.errors import ConfigError, check_at_least

PUBLISHED = "openai/clip-vit-base-patch32"
_EMBEDDING = 512
"""Width of ViT-B/32's joint embedding; a smaller random network has a smaller one."""
_TEXT_SIZES = {"hidden": 512, "layers": 12, "heads": 8, "vocab": 49408}
_IMAGE_SIZES = {"hidden": 768, "layers": 12, "heads": 12, "patch": 32}


@dataclass(frozen=True)
class ClipTextOptions:
    """Options of ``clip-text``."""

    weights: str = PUBLISHED
    """A name on the hub, a folder that ``save_pretrained`` wrote, or ``none``."""
    out: int = 1024
    """Features after the linear adapter; 0: the joint embedding itself."""
    hidden: int | None = None
    """With weights=none: hidden size (512)."""
    layers: int | None = None
    """With weights=none: layers (12)."""
    heads: int | None = None
    """With weights=none: attention heads (8)."""
    vocab: int | None = None
    """With weights=none: size of the vocabulary (49408)."""

    def __post_init__(self) -> None:
        check_at_least("out", self.out, 0)
        self.sizes()

    def sizes(self) -> dict[str, int]:
        """Sizes of the network with random weights."""
        return random_sizes(self.weights, self, _TEXT_SIZES)


@dataclass(frozen=True)
class ClipImageOptions:
    """Options of ``clip-image``."""

    weights: str = PUBLISHED
    """A name on the hub, a folder that ``save_pretrained`` wrote, or ``none``."""
    out: int = 1024
    """Features after the linear adapter; 0: the joint embedding itself."""
    hidden: int | None = None
    """With weights=none: hidden size (768)."""
    layers: int | None = None
    """With weights=none: layers (12)."""
    heads: int | None = None
    """With weights=none: attention heads (12)."""
    patch: int | None = None
    """With weights=none: side of a patch in pixels (32)."""

    def __post_init__(self) -> None:
        check_at_least("out", self.out, 0)
        self.sizes()

    def sizes(self) -> dict[str, int]:
        """Sizes of the network with random weights."""
        return random_sizes(self.weights, self, _IMAGE_SIZES)


class ClipText(CheckpointingTransformer):
    """CLIP's text transformer, pooled at the end-of-text token, projected, then adapted.

    Pooling takes the last id that is not 0. With a tokenizer's output padded by 0 that is the end-of-text token, by
    whichever rule transformers finds it (largest id or ``eos_token_id``), and it holds for any vocabulary. No
    attention mask is needed: attention is causal, so what follows the pooled token can't reach it. (Id 0 is a
    token, too, ``!`` before more punctuation; inside a text it is read as such.)

    Args:
        input_shape: ``(length,)``; ids are int64, padded with 0 on the right.
        options: see :class:`ClipTextOptions`.
    """

    def __init__(self, input_shape: tuple[int, ...], options: ClipTextOptions | None = None) -> None:
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection

        super().__init__()
        options = options or ClipTextOptions()
        if options.weights == NONE:
            sizes = options.sizes()
            hidden, vocabulary = sizes["hidden"], sizes["vocab"]
            # The ids of start and end go unused here, but must lie inside the vocabulary.
            config = CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=hidden,
                intermediate_size=4 * hidden,
                num_hidden_layers=sizes["layers"],
                num_attention_heads=sizes["heads"],
                projection_dim=min(_EMBEDDING, hidden),
                bos_token_id=max(vocabulary - 2, 0),
                eos_token_id=vocabulary - 1,
                pad_token_id=0,
                **ATTENTION,
            )
            self.network = CLIPTextModelWithProjection(config)
        else:
            self.network = transformers_model(CLIPTextModelWithProjection, options.weights, ("clip", "clip_text_model"))
        config = self.network.config
        check_text_shape(input_shape, config.max_position_embeddings)
        self.vocabulary: int = config.vocab_size
        embedding = self.network.text_projection.out_features
        self.adapter = nn.Linear(embedding, options.out) if options.out else nn.Identity()
        self.out_features = options.out or embedding

    def forward(self, inputs: Tensor) -> Tensor:
        """Token ids ``(n, L)`` to features ``(n, out)``."""
        check_ids(inputs, self.vocabulary)
        hidden = self.network(inputs).last_hidden_state
        pooled = hidden[torch.arange(len(inputs), device=inputs.device), last_token(inputs)]
        features: Tensor = self.adapter(self.network.text_projection(pooled))
        return features


class ClipImage(CheckpointingTransformer):
    """CLIP's vision transformer, projected, then adapted.

    Args:
        input_shape: ``(3, size, size)`` with the size of the weights (224 for ViT-B/32).
        options: see :class:`ClipImageOptions`.
    """

    def __init__(self, input_shape: tuple[int, ...], options: ClipImageOptions | None = None) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        super().__init__()
        options = options or ClipImageOptions()
        if options.weights == NONE:
            sizes = options.sizes()
            hidden, patch = sizes["hidden"], sizes["patch"]
            if len(input_shape) != 3 or input_shape[1] != input_shape[2] or input_shape[1] < patch:
                raise ConfigError(
                    f"samples of shape {input_shape} are not allowed; it takes (channels, size, size) with a size of "
                    f"at least patch={patch}."
                )
            config = CLIPVisionConfig(
                hidden_size=hidden,
                intermediate_size=4 * hidden,
                num_hidden_layers=sizes["layers"],
                num_attention_heads=sizes["heads"],
                projection_dim=min(_EMBEDDING, hidden),
                num_channels=input_shape[0],
                image_size=input_shape[1],
                patch_size=patch,
                **ATTENTION,
            )
            self.network = CLIPVisionModelWithProjection(config)
        else:
            self.network = transformers_model(
                CLIPVisionModelWithProjection, options.weights, ("clip", "clip_vision_model")
            )
        config = self.network.config
        wanted = (config.num_channels, config.image_size, config.image_size)
        if tuple(input_shape) != wanted:
            raise ConfigError(
                f"samples of shape {input_shape} are not allowed; weights={options.weights!r} take {wanted}."
            )
        embedding = self.network.visual_projection.out_features
        self.adapter = nn.Linear(embedding, options.out) if options.out else nn.Identity()
        self.out_features = options.out or embedding

    def forward(self, inputs: Tensor) -> Tensor:
        """Pictures ``(n, 3, size, size)`` to features ``(n, out)``."""
        features: Tensor = self.adapter(self.network(inputs).image_embeds)
        return features
