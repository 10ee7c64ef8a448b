"""Sarcasm (MMSD) from its published lists or those of BSS and AMSS, and its successors by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dus_gym.data.annotations import sarcasm
from dus_gym.data.annotations.record import Record
from dus_gym.data.text_image import CLIP_MEAN, CLIP_STD, DEFAULT, Preset, TextImageOptions, TextImageSource
from dus_gym.data.transforms import ImageTransform
from dus_gym.errors import check_choice

if TYPE_CHECKING:
    from dus_gym.data.source import DataOptions
    from dus_gym.data.tasks import Task

BSS = Preset(
    ImageTransform(mean=CLIP_MEAN, std=CLIP_STD, scale=(0.5, 1.0), kernel="bicubic"),
    clean="bss_caption",
    length=128,
)
"""Fifty words without marks, crops and flips, CLIP's mean and deviation; BSS's RandAugment is left out."""
AMSS = Preset(
    ImageTransform(mean=(0.48456, 0.49888, 0.53066), std=(0.24399, 0.24868, 0.25736), augment=False),
    length=128,
    special=False,
)
"""Wordpieces without [CLS] and [SEP], pictures with their own mean and deviation, nothing augmented."""


@dataclass(frozen=True)
class SarcasmOptions(TextImageOptions):
    """Options of Sarcasm."""

    version: str = "mmsd"
    """mmsd: the data set of the paper. mmsd2 and mmsd-clean (the files of MMSD2.0) are other data sets on the same
    pictures, with other texts, labels or sizes: figures can't be compared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("version", self.version, sarcasm.VERSIONS)


class Sarcasm(TextImageSource):
    """Whether a tweet with a picture is sarcastic."""

    options_type = SarcasmOptions
    dataset = "sarcasm"
    published: ClassVar[Mapping[str, int]] = {"train": 19816, "validation": 2410, "test": 2409}
    class_names = sarcasm.CLASSES
    how_to_get = (
        "Lists and links to the four archives of pictures are in the repository data-of-multimodal-sarcasm-detection "
        "of headacheboy (research use); unpack the pictures into one folder, dataset_image."
    )
    presets: ClassVar[Mapping[str, Preset]] = {"default": DEFAULT, "dus": DEFAULT, "bss": BSS, "amss": AMSS}
    folders = ("dataset_image", "image_data", "images", "data/dataset_image", "dataset_image/dataset_image")

    def records(self, options: Any, root: Path) -> list[Record]:
        """The lists of the version; see :mod:`dus_gym.data.annotations.sarcasm`."""
        return sarcasm.read(root, options.version)

    def configure(self, task: Task, options: DataOptions, root: Path | None) -> Task:
        """The task, which says so where it is of another version."""
        task = super().configure(task, options, root)
        assert isinstance(task.options, SarcasmOptions)
        version = task.options.version
        return task if version == "mmsd" else replace(task, summary=f"{task.summary} ({version}, another data set)")


SARCASM = Sarcasm()
