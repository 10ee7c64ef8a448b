"""Small media in the real formats, for tests: what a file should hold is known from how it was made."""

import av
import numpy as np
import soundfile
from PIL import Image

from dus_gym.data.sets.cremad import EMOTIONS


def write_video(path, frames=60, size=(32, 48), rate=30, codec="mpeg4", value=lambda i: 4 * i, sound=None):
    """A video whose frame i is grey ``value(i)`` all over, nearly: lossy codecs are off by a few steps.

    ``sound``: float32 samples at 16 kHz, written as mp3 beside the pictures.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 4_000_000
        audio = None if sound is None else container.add_stream("mp3", rate=16_000, layout="mono")
        for i in range(frames):
            pixels = np.full((*size, 3), value(i), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16_000
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def write_sound(path, seconds=0.3, rate=16_000, hertz=440.0, seed=0):
    """A tone in noise as a mono wav of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(seconds * rate)) / rate
    noise = 0.05 * np.random.default_rng(seed).standard_normal(len(time))
    soundfile.write(path, 0.4 * np.sin(2 * np.pi * hertz * time) + noise, rate, subtype="PCM_16")
    return path


def write_frames(folder, count=3, size=(24, 32), pattern="{:05d}.jpg", step=30, value=60, seed=0):
    """A folder of numbered pictures, each another."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        noise = rng.integers(-20, 20, (*size, 3))
        pixels = np.clip(value + 20 * i + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / pattern.format(i * step))
    return folder


def write_cremad(root, actors=6, frames=3):
    """CREMA-D in the layout of BSS: each emotion twice an actor, the last sentence of each for the test."""
    clips = [
        f"{1001 + actor}_{sentence}_{emotion}_XX"
        for actor in range(actors)
        for sentence in ("DFA", "IEO")
        for emotion in EMOTIONS
    ]
    for i, clip in enumerate(clips):
        kind = EMOTIONS.index(clip.split("_")[2])
        write_sound(root / f"AudioWAV/{clip}.wav", hertz=200 + 300 * kind, seed=i)
        write_frames(root / f"Image-01-FPS/{clip}", frames, value=30 * kind, seed=i)
    for split, sentence in (("train", "DFA"), ("test", "IEO")):
        lines = [f"{clip},{clip.split('_')[2]}\r\n" for clip in clips if f"_{sentence}_" in clip]
        (root / f"{split}.csv").write_bytes("".join(lines).encode())
    return clips
