"""ferkit: the library under a workbook on facial expression recognition (FER).

Architectures, losses, data, one training loop, explanations, figures and widgets; the notebooks import public names
from here and show what they do.
"""

__version__ = "0.1.0"
