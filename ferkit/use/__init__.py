"""Trained networks in use: one by its name, on pictures and videos, measured on data, and as a file for elsewhere."""

from ferkit.use.networks import Ensemble, load, probabilities
from ferkit.use.pictures import predict_folder

__all__ = ["Ensemble", "load", "predict_folder", "probabilities"]
