"""Small media in the real formats, for tests: what a file should hold is known from how it was made."""

import av
import numpy as np


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
        audio = None if sound is None else container.add_stream("mp3", rate=16_000)
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
