"""Texts, with a picture or without: the presets of those who used them, and the streams, for several data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dus_gym.data.media.text import CLEANERS
from dus_gym.data.media_source import MediaOptions, MediaSource, Stream
from dus_gym.data.record import Record
from dus_gym.data.store import Row
from dus_gym.data.task import Task
from dus_gym.errors import ConfigError, check_at_least, check_choice

if TYPE_CHECKING:
    from dus_gym.data.media.tokens import Vocabulary
    from dus_gym.encoders.bert import BertOptions
    from dus_gym.encoders.clip import ClipTextOptions

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
CLIP_LENGTH = 77
PAIR, INLINE, NO_TARGET = TARGETS = ("pair", "inline", "none")


@dataclass(frozen=True)
class Preset:
    """A way to read texts and pictures."""

    image: Mapping[str, Any]
    """Arguments of :class:`~dus_gym.data.transforms.ImageTransform`, whose defaults are those of the others."""
    clean: str = "plain"
    """One of :data:`~dus_gym.data.media.text.CLEANERS`."""
    length: int = 64
    """Tokens of a text."""
    special: bool = True
    """Put [CLS] and [SEP] around a text."""
    target: str = PAIR
    """Of the data set that has one."""
    short_side: int = 256
    """Of stored pictures."""


DEFAULT = Preset({"scale": (0.5, 1.0)})
"""The paper says "BERT" and "ResNet-50" and no more; the rest is ours: crops of half the picture or more, mirrored
half the time, ImageNet's mean and deviation."""
DUS = replace(DEFAULT, target=NO_TARGET)
"""As far as the paper tells: it mentions no target."""
CLIP_IMAGE = {"mean": CLIP_MEAN, "std": CLIP_STD, "augment": False, "fit": "centre", "kernel": "bicubic"}
"""CLIP's own preprocessing, whatever the preset."""


@dataclass(frozen=True)
class TextOptions(MediaOptions):
    """Options of a data set with texts."""

    tokenizer: str | None = None
    """The vocabulary: a tokenizer.json, a vocab.txt, a folder with one, or a hub name. If not given, that of the text
    encoder's weights; for random weights vocab.txt in the data root, or else the published one."""
    length: int | None = None
    """Tokens of a text, longer ones are cut; if not given the preset's 64 or 128, and 77 for CLIP."""
    clean: str | None = None
    """The cleaning of a text: plain (nothing), bss_words, bss_caption or title; the preset's if not given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clean is not None:
            check_choice("clean", self.clean, CLEANERS)
        if self.length is not None:
            check_at_least("length", self.length, 3)


@dataclass(frozen=True)
class TextImageOptions(TextOptions):
    """Options of a data set of texts with pictures."""

    preset: str = "default"
    """The way texts and pictures are read: default, dus (as far as the paper tells), bss or amss (as those repositories
    do). CLIP's encoders keep their own preprocessing."""
    images: str | None = None
    """Folder of the pictures, from the data root; looked for under its usual names if not given."""
    size: int | None = None
    """Height and width of a picture as the encoder sees it; the preset's (224) if not given."""
    short_side: int | None = None
    """Pictures are stored with a shorter side of at most this; 0: as they are. The preset's (256) if not given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("size", 1), ("short_side", 0)):
            if (value := getattr(self, name)) is not None:
                check_at_least(name, value, least)


class TextImageSource(MediaSource):
    """A data set of texts with one picture each."""

    options_type = TextImageOptions
    presets: ClassVar[Mapping[str, Preset]]
    folders: ClassVar[tuple[str, ...]]
    """Names of the folder of pictures in use."""

    def encoders(self, task: Task, options: Any) -> tuple[str, ...]:
        """Return the encoders of ``paper``, BERT and ResNet-50, or of ``clip``, its two halves."""
        check_choice("encoder", options.encoder, ("paper", "clip"))
        return task.encoders if options.encoder == "paper" else ("clip-text", "clip-image")

    def text_of(self, record: Record, target: str, pairs: bool) -> tuple[str, str]:
        """Return a record's text, and its second segment or nothing.

        Args:
            record: of :meth:`records`.
            target: as of :meth:`target_of`.
            pairs: whether the encoder reads pairs.
        """
        return record.text, ""

    def target_of(self, options: Any, preset: Preset) -> str:
        """Return the treatment of the records' targets, one of :data:`TARGETS`."""
        return NO_TARGET

    def streams(self, task: Task, options: Any, root: Path, records: Sequence[Record]) -> list[Stream]:
        """Return the streams of text, as token ids, and pictures."""
        check_choice("preset", options.preset, self.presets)
        preset = self.presets[options.preset]
        text, image = task.encoders
        target = self.target_of(options, preset)
        texts = text_stream(
            text, options, preset, root, records, lambda record, pairs: self.text_of(record, target, pairs), target
        )
        return [texts, self._image(image, options, preset, root, records)]

    def _image(self, word: str, options: Any, preset: Preset, root: Path, records: Sequence[Record]) -> Stream:
        from dus_gym.data.media.image import ImageDecoder
        from dus_gym.data.transforms import ImageTransform

        clip = word.partition(":")[0] == "clip-image"
        arguments = dict(CLIP_IMAGE if clip else preset.image)
        if options.size is not None:
            arguments["size"] = options.size
        transform = ImageTransform(**arguments)
        short_side = preset.short_side if options.short_side is None else options.short_side
        folder = self.folder_of(options, root)
        rows = tuple(Row(record.sample, (folder / record.media,)) for record in records)
        return Stream(ImageDecoder(short_side=short_side or None), transform, rows, transform.shape)

    def folder_of(self, options: TextImageOptions, root: Path) -> Path:
        """Return the folder where the pictures are, or should be."""
        if options.images is not None:
            return root / options.images
        return next((root / name for name in self.folders if (root / name).is_dir()), root / self.folders[0])


def text_stream(
    word: str,
    options: TextOptions,
    preset: Preset,
    root: Path,
    records: Sequence[Record],
    text_of: Callable[[Record, bool], tuple[str, str]] | None = None,
    target: str = NO_TARGET,
) -> Stream:
    """Return the stream of texts, as the token ids of an encoder's vocabulary.

    Args:
        word: the encoder.
        options: of the data set; they go before the preset.
        preset: of which only what is about text counts.
        root: the data root, where a vocabulary may be.
        records: one text each.
        text_of: record, and whether the encoder reads pairs, to the text and its second segment or nothing; by default
            the record's text alone.
        target: treatment of the records' targets, one of :data:`TARGETS`.

    Raises:
        ConfigError: for an encoder that reads no text, or would misread these ids.
    """
    from dus_gym.data.media.tokens import TokenBatch, TokenDecoder, load_vocabulary, text_row
    from dus_gym.encoders import encoder_options
    from dus_gym.encoders.bert import BertOptions
    from dus_gym.encoders.clip import ClipTextOptions

    name, encoder = encoder_options(word)
    if not isinstance(encoder, BertOptions | ClipTextOptions):
        raise ConfigError(f"encoder {word!r} reads no text; give bert or clip-text for the modality 'text'.")
    clip = name == "clip-text"
    vocabulary = load_vocabulary(options.tokenizer or _vocabulary_of(encoder, root))
    _check(word, encoder, vocabulary, target)
    decoder = TokenDecoder(
        vocabulary,
        length=options.length or (CLIP_LENGTH if clip else preset.length),
        clean=options.clean or preset.clean,
        special=preset.special or clip,
    )
    texts = [(record.text, "") if text_of is None else text_of(record, not clip) for record in records]
    rows = tuple(text_row(record.sample, *text) for record, text in zip(records, texts, strict=True))
    return Stream(decoder, TokenBatch(), rows, (decoder.length,))


def _vocabulary_of(encoder: BertOptions | ClipTextOptions, root: Path) -> str:
    from dus_gym.data.media.tokens import WORDS
    from dus_gym.encoders.bert import BertOptions
    from dus_gym.encoders.clip import PUBLISHED, ClipTextOptions
    from dus_gym.encoders.weights import NONE

    if encoder.weights != NONE:
        return encoder.weights
    if (root / WORDS).is_file():
        return str(root / WORDS)
    return PUBLISHED if isinstance(encoder, ClipTextOptions) else BertOptions.weights


def _check(word: str, encoder: BertOptions | ClipTextOptions, vocabulary: Vocabulary, target: str) -> None:
    """Refuse ids that the encoder would read wrongly, which on an accelerator it could not notice itself."""
    from dus_gym.data.media.tokens import BYTE_PAIRS, WORDPIECES
    from dus_gym.encoders.bert import BertOptions
    from dus_gym.encoders.clip import ClipTextOptions
    from dus_gym.encoders.weights import NONE

    family = BYTE_PAIRS if isinstance(encoder, ClipTextOptions) else WORDPIECES
    if encoder.weights != NONE and vocabulary.family != family:
        raise ConfigError(
            f"encoder {word!r} has weights for a {family} vocabulary and tokenizer {vocabulary.name!r} is of the kind "
            f"{vocabulary.family}; leave tokenizer out to take the one of the weights."
        )
    if encoder.weights == NONE and encoder.sizes()["vocab"] < vocabulary.size:
        raise ConfigError(
            f"encoder {word!r} has {encoder.sizes()['vocab']} words and tokenizer {vocabulary.name!r} has "
            f"{vocabulary.size}; give vocab={vocabulary.size}."
        )
    if target == PAIR and isinstance(encoder, BertOptions) and encoder.sep not in (0, vocabulary.sep):
        raise ConfigError(
            f"encoder {word!r} takes token {encoder.sep} for the end of a text and tokenizer {vocabulary.name!r} has "
            f"it at {vocabulary.sep}; give sep={vocabulary.sep}."
        )
