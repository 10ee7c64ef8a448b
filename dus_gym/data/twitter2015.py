"""Twitter2015 from the files of the TomBERT release or those of BSS and AMSS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dus_gym.data.annotations import twitter2015
from dus_gym.data.annotations.record import Record
from dus_gym.data.text_image import (
    DEFAULT,
    DUS,
    INLINE,
    NO_TARGET,
    TARGETS,
    Preset,
    TextImageOptions,
    TextImageSource,
)
from dus_gym.data.transforms import ImageTransform
from dus_gym.errors import check_choice

BSS = Preset(
    ImageTransform(384, mean=(0.0,) * 3, std=(1.0,) * 3, augment=False),
    clean="bss_words",
    target=NO_TARGET,
    short_side=384,
)
"""Twenty plain words, pictures of 384² that are not normalised, nothing augmented."""
AMSS = Preset(
    ImageTransform(mean=(0.42455, 0.44051, 0.47076), std=(0.24485, 0.24617, 0.25451), augment=False),
    length=128,
    special=False,
    target=NO_TARGET,
)
"""Wordpieces without [CLS] and [SEP], pictures with their own mean and deviation, nothing augmented."""


@dataclass(frozen=True)
class Twitter2015Options(TextImageOptions):
    """Options of Twitter2015."""

    target: str | None = None
    """What becomes of the target of the sentiment: pair (a second segment, as TomBERT; before the sentence where the
    encoder reads no pairs), inline (in place of $T$: the tweet as it was written, but then 277 of the 2101 training
    tweets have several right labels) or none ($T$ tells its place and nothing its name). The preset's if not given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target is not None:
            check_choice("target", self.target, TARGETS)


class Twitter2015(TextImageSource):
    """Sentiment of a tweet towards a target. Targets of one tweet share sentence and picture: each is stored once."""

    options_type = Twitter2015Options
    dataset = "twitter2015"
    published: ClassVar[Mapping[str, int]] = {"train": 3179, "validation": 1122, "test": 1037}
    class_names = twitter2015.CLASSES
    how_to_get = (
        "The lists are in the TomBERT repository (absa_data/twitter2015), whose README links the archive of pictures "
        "(research use)."
    )
    presets: ClassVar[Mapping[str, Preset]] = {"default": DEFAULT, "dus": DUS, "bss": BSS, "amss": AMSS}
    folders = (
        "twitter2015_images",
        "twitter15_images",
        "Twitter15/twitter2015_images",
        "IJCAI2019_data/twitter2015_images",
        "images",
    )

    def records(self, options: Any, root: Path) -> list[Record]:
        """The three lists; see :mod:`dus_gym.data.annotations.twitter2015`."""
        return twitter2015.read(root)

    def target_of(self, options: Any, preset: Preset) -> str:
        """The option, or the preset's."""
        return preset.target if options.target is None else str(options.target)

    def text_of(self, record: Record, target: str, pairs: bool) -> tuple[str, str]:
        """The sentence with ``$T$`` as published, or with the target in its place or beside it."""
        if not record.target or target == NO_TARGET:
            return record.text, ""
        if target == INLINE:
            return record.text.replace(twitter2015.TARGET, record.target), ""
        return (record.text, record.target) if pairs else (f"{record.target}: {record.text}", "")


TWITTER2015 = Twitter2015()
