"""Media decoded once into arrays, one store per modality and preset."""

from dus_gym.data.store.decoder import Decoder, Estimate, Row, estimate, estimate_bytes
from dus_gym.data.store.opening import open_store, warn_of_bad
from dus_gym.data.store.reader import BadFile, Store

__all__ = ["BadFile", "Decoder", "Estimate", "Row", "Store", "estimate", "estimate_bytes", "open_store", "warn_of_bad"]
