"""A bag of words: the mean of learned embeddings, then a small network; the encoder of the Sarcasm words."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from dus_gym.encoders.tokens import check_ids, check_text_shape
from dus_gym.errors import check_at_least

LONGEST = 4096


@dataclass(frozen=True)
class BagOptions:
    """Options of ``bag``."""

    vocab: int = 8000
    """Ids it has embeddings for, padding among them."""
    hidden: int = 64
    """Width of the embeddings and of the layer, and the number of features."""

    def __post_init__(self) -> None:
        check_at_least("vocab", self.vocab, 2)
        check_at_least("hidden", self.hidden, 1)


class Bag(nn.Module):
    """V-64-64 with a ReLU after each layer on the relative frequency of each word; order does not count.

    The first layer is a table of embeddings, so that its cost goes by the words of a sample and not by V. Its values
    start normal with deviation 0.1, a bias is not needed.

    Args:
        input_shape: ``(length,)``; ids are int64, 0 is padding. A sample of padding alone gives the same features
            as every other such sample.
        options: see :class:`BagOptions`.
    """

    def __init__(self, input_shape: tuple[int, ...], options: BagOptions | None = None) -> None:
        super().__init__()
        options = options or BagOptions()
        check_text_shape(input_shape, LONGEST)
        self.vocabulary = options.vocab
        self.out_features = options.hidden
        self.embeddings = nn.EmbeddingBag(options.vocab, options.hidden, mode="mean", padding_idx=0)
        nn.init.normal_(self.embeddings.weight, std=0.1)
        self.layers = nn.Sequential(nn.ReLU(), nn.Linear(options.hidden, options.hidden), nn.ReLU())

    def forward(self, inputs: Tensor) -> Tensor:
        """Token ids ``(n, L)`` to features ``(n, hidden)``."""
        check_ids(inputs, self.vocabulary)
        features: Tensor = self.layers(self.embeddings(inputs))
        return features
