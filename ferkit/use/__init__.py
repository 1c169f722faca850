"""Trained networks in use: one by its name, on pictures and videos, measured on data, and as a file for elsewhere."""

from ferkit.use.networks import Ensemble, load, probabilities
from ferkit.use.pictures import predict_folder
from ferkit.use.video import flips, predict_video, smoothed, write_video

__all__ = [
    "Ensemble",
    "flips",
    "load",
    "predict_folder",
    "predict_video",
    "probabilities",
    "smoothed",
    "write_video",
]
