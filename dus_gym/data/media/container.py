"""Videos and other containers, opened by PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer

from dus_gym.data.media.reading import reading


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a container for the time of a block.

    Raises:
        MediaError: ``missing``, ``empty`` or ``undecodable``, also for what is raised in the block.
    """
    # A title that is not UTF-8 says nothing about the pictures and the sound.
    with reading(path), av.open(str(path), metadata_errors="replace") as container:
        yield container
