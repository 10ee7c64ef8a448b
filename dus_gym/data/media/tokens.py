"""Text as token ids: the vocabulary of an encoder's weights, applied once and stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import BertWordPieceTokenizer, Tokenizer
from torch import Tensor

from dus_gym.data.media.text import CLEANERS
from dus_gym.data.store import Row
from dus_gym.data.store.decoder import Array
from dus_gym.data.store.randomness import Keys
from dus_gym.encoders.pretrained import cached_or_downloaded
from dus_gym.encoders.tokens import padded_length
from dus_gym.errors import ConfigError, PretrainedNotFoundError, check_at_least, check_choice, first_line

Ids = npt.NDArray[np.int32]
FILE, WORDS = "tokenizer.json", "vocab.txt"
WORDPIECES, BYTE_PAIRS = "WordPiece", "BPE"
"""Kinds of vocabularies: BERT's and CLIP's."""
_MARKS = {WORDPIECES: ("[PAD]", "[UNK]", "[CLS]", "[SEP]"), BYTE_PAIRS: ("<|startoftext|>", "<|endoftext|>")}
_GIVE = (
    f"Give a {FILE}, a {WORDS} (one wordpiece a line, as BERT's), a folder with one of them, or the hub name of a "
    "BERT or CLIP model, as tokenizer=NAME."
)


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer of BERT or CLIP, checked to be one that the text encoders can be fed from."""

    name: str
    """What it was asked for by."""
    tokenizer: Tokenizer
    family: str
    """``WordPiece`` (BERT) or ``BPE`` (CLIP)."""
    digest: str
    """SHA-256 of all it does; part of a store's key."""

    @property
    def size(self) -> int:
        """Ids are below this."""
        return int(self.tokenizer.get_vocab_size())

    @property
    def sep(self) -> int:
        """Id of ``[SEP]``; 0 for CLIP, which has one segment."""
        return self.tokenizer.token_to_id("[SEP]") or 0


def load_vocabulary(name: str) -> Vocabulary:
    """Load a vocabulary from disk, from the hub's local cache, or else from the hub. Loading runs no code.

    A ``vocab.txt`` is read as BERT's: lower-cased, unless it has words with capital letters.

    Args:
        name: a ``tokenizer.json``, a ``vocab.txt``, a folder with one of them, or the name of a model on the hub.

    Raises:
        PretrainedNotFoundError: naming what was looked for, where, and how to get it.
        ConfigError: for a file that is no vocabulary, or one of another kind than BERT's and CLIP's.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        found = [path / file for file in (FILE, WORDS) if (path / file).is_file()]
        if not found:
            raise PretrainedNotFoundError(f"tokenizer={name!r}: the folder has no {FILE} and no {WORDS}. {_GIVE}")
        path = found[0]
    if path.exists():
        return _checked(name, _read(name, path))
    if path.suffix in (".txt", ".json"):
        raise PretrainedNotFoundError(f"tokenizer={name!r}: there is no file {path.absolute()}. {_GIVE}")
    file = cached_or_downloaded("tokenizer", name, lambda local: _hub_file(name, local), _GIVE)
    return _checked(name, _read(name, file))


def _hub_file(name: str, local: bool) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(name, FILE, local_files_only=local))


def _read(name: str, path: Path) -> Tokenizer:
    try:
        if path.suffix != ".txt":
            return Tokenizer.from_file(str(path))
        words = path.read_text(encoding="utf-8-sig").splitlines()
        cased = any(word != word.lower() for word in words if not word.startswith("["))
        whole = BertWordPieceTokenizer({word: i for i, word in enumerate(words)}, lowercase=not cased)
        return Tokenizer.from_str(whole.to_str())
    except Exception as error:  # The library raises plain exceptions, from several languages.
        raise ConfigError(f"tokenizer={name!r}: {path} can't be read ({first_line(error)}). {_GIVE}") from error


def _checked(name: str, tokenizer: Tokenizer) -> Vocabulary:
    text = tokenizer.to_str()
    family = str(json.loads(text)["model"]["type"])
    missing = [token for token in _MARKS.get(family, ()) if tokenizer.token_to_id(token) is None]
    if family not in _MARKS or missing:
        raise ConfigError(
            f"tokenizer={name!r} is a vocabulary of the kind {family}"
            f"{' without ' + ', '.join(missing) if missing else ''}; the text encoders take BERT's and CLIP's. {_GIVE}"
        )
    if family == WORDPIECES and tokenizer.token_to_id("[PAD]") != 0:
        raise ConfigError(f"tokenizer={name!r} has [PAD] at another place than 0, which text encoders read as padding.")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return Vocabulary(name, tokenizer, family, hashlib.sha256(tokenizer.to_str().encode()).hexdigest())


@dataclass(frozen=True)
class TokenDecoder:
    """Text to token ids ``(length,)`` int32, padded with 0 on the right; too long a text loses its end.

    With BERT's vocabulary: ``[CLS] text [SEP]``, or ``[CLS] text [SEP] target [SEP]`` where a row has a target; of
    two, the longer one is shortened first. With CLIP's: start, text, end.
    """

    vocabulary: Vocabulary
    length: int = 64
    clean: str = "plain"
    """One of :data:`~dus_gym.data.media.text.CLEANERS`, for the text and the target."""
    special: bool = True
    """Whether there are start, separator and end tokens; AMSS has none."""
    name: str = "text"
    libraries: tuple[str, ...] = ("tokenizers",)
    dtype: str = "int32"
    _tokenizer: Tokenizer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_choice("clean", self.clean, CLEANERS)
        check_at_least("length", self.length, 3)
        own = Tokenizer.from_str(self.vocabulary.tokenizer.to_str())
        own.enable_truncation(self.length, strategy="longest_first")
        object.__setattr__(self, "_tokenizer", own)

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """``(length,)``."""
        return (self.length,)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Options that change the result."""
        return {
            "vocabulary": self.vocabulary.digest,
            "length": self.length,
            "clean": self.clean,
            "special": self.special,
        }

    def __call__(self, row: Row) -> Ids:
        """Return the row's ids; its payload is made by :func:`text_row`."""
        text, target = (CLEANERS[self.clean](part) for part in json.loads(row.payload))
        found = self._tokenizer.encode(text, target or None, add_special_tokens=self.special).ids
        ids = np.zeros(self.length, np.int32)
        ids[: len(found)] = found
        return ids


def text_row(sample: str, text: str, target: str = "") -> Row:
    """Return a row of text, with the target as its second segment if there is one."""
    return Row(sample, (), json.dumps([text, target], ensure_ascii=False))


@dataclass(frozen=True)
class TokenBatch:
    """Stored ids to int64 ``(k, L)``, cut to the longest text of the batch: no encoder sees padding beyond it.

    L is a multiple of 8, or the stored length where that is less. It is known on the host, so no accelerator is asked.
    """

    def __call__(self, arrays: Array | list[Array], keys: Keys, train: bool, device: torch.device) -> Tensor:
        """See :class:`~dus_gym.data.store.split.Transform`; nothing is random."""
        ids = np.asarray(arrays)
        used = np.flatnonzero(ids.any(axis=0))
        longest = int(used[-1]) + 1 if len(used) else 1
        length = padded_length(longest, ids.shape[1])
        return torch.from_numpy(ids).to(device, non_blocking=True)[:, :length].long()
