"""A decoder of small .npy files, for tests of the store; imported by child processes too."""

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dus_gym.data.store import Row, open_store
from dus_gym.data.store.randomness import draw_keys, words_of
from dus_gym.errors import MediaError


@dataclass
class NpyDecoder:
    """Reads an .npy file; counts what it decodes."""

    name: str = "tiny"
    dtype: str = "uint8"
    fixed_shape: tuple[int, ...] | None = (4, 3)
    libraries: tuple[str, ...] = ("numpy",)
    parameters: dict = field(default_factory=lambda: {"preset": "plain"})
    delay: float = 0.0
    seen: list[str] = field(default_factory=list)

    def __call__(self, row):
        self.seen.append(row.sample)
        time.sleep(self.delay)
        if not row.paths:
            codes = np.frombuffer(row.payload.encode(), np.uint8)[:12].astype(self.dtype)
            return np.resize(codes, (4, 3))
        path = row.paths[0]
        if path.is_dir():
            return np.concatenate([np.load(p, allow_pickle=False) for p in sorted(path.glob("*.npy"))])
        try:
            array = np.load(path, allow_pickle=False)
        except FileNotFoundError as error:
            raise MediaError("missing", str(path)) from error
        except (ValueError, EOFError) as error:
            raise MediaError("truncated", f"{path}: {error}") from error
        return array.astype(self.dtype)


def keys_of(count, seed=0):
    """Keys of the first draw of so many samples."""
    return draw_keys(seed, "image", words_of(map(str, range(count))), np.zeros(count, np.int64))


def value_of(number, shape=(4, 3), dtype="uint8"):
    return np.random.default_rng(number).integers(0, 200, shape).astype(dtype)


def write_media(folder, count, shape=(4, 3), dtype="uint8"):
    """``count`` files and their rows; every fifth has the content of the one before it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(count):
        path = folder / f"clip{i:03d}.npy"
        number = i - 1 if i % 5 == 4 else i
        size = shape if shape is not None else (1 + number % 3, 2 + number % 4)
        np.save(path, value_of(number, size, dtype), allow_pickle=False)
        rows.append(Row(f"s{i:03d}", (path,)))
    return rows


def rows_in(folder):
    return [Row(f"s{i:03d}", (path,)) for i, path in enumerate(sorted(folder.glob("*.npy")))]


def tree_bytes(folder):
    """Every file below a folder by its relative name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def main():
    """Builds a store as a process of its own; prints how many rows it decoded."""
    from dus_gym.data.store import builder

    parser = argparse.ArgumentParser()
    parser.add_argument("media", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("--shard-rows", type=int, default=8)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--on-error", default="fail")
    arguments = parser.parse_args()
    builder.SHARD_ROWS = arguments.shard_rows
    decoder = NpyDecoder(delay=arguments.delay)
    print("ready", flush=True)
    store = open_store(
        arguments.root,
        "toy",
        decoder,
        rows_in(arguments.media),
        on_error=arguments.on_error,
        max_bad=1.0,
        progress=lambda done, total: print(f"{done}/{total}", flush=True),
    )
    print(f"decoded {len(decoder.seen)} path {store.path}", flush=True)


if __name__ == "__main__":
    main()
