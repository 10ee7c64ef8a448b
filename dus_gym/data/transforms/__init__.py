"""From stored arrays to what an encoder reads: a whole batch at once, randomness from keys alone."""

from dus_gym.data.transforms.clip import ClipTransform
from dus_gym.data.transforms.image import IMAGENET_MEAN, IMAGENET_STD, ImageTransform
from dus_gym.data.transforms.resample import Scaling
from dus_gym.data.transforms.sound import SpectrogramTransform, WaveformTransform
from dus_gym.data.transforms.window import WindowTransform

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "ClipTransform",
    "ImageTransform",
    "Scaling",
    "SpectrogramTransform",
    "WaveformTransform",
    "WindowTransform",
]
