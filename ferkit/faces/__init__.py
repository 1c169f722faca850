"""From somebody's picture to an aligned crop of a face: nothing is trusted, nothing is written, memory stays bounded.
"""

from ferkit.faces.crop import TEMPLATE, Face, crop_face
from ferkit.faces.decode import MAX_PIXELS, portrait, read_picture
from ferkit.faces.detect import describe, find_faces, tilt

__all__ = ["MAX_PIXELS", "TEMPLATE", "Face", "crop_face", "describe", "find_faces", "portrait", "read_picture", "tilt"]
