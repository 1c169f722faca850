"""Looking inside: captured activations and class activation maps."""

from ferkit.explain.cams import METHODS, cam, grad_cam_by_hand, raw_cam
from ferkit.explain.capture import capture, module_by_name

__all__ = ["METHODS", "cam", "capture", "grad_cam_by_hand", "module_by_name", "raw_cam"]
