"""A pytest plugin for runs of nbval (`-p tests.support.private_kernels`): kernels that can not take each other's ports.
"""

import nbval.kernel
from jupyter_client.manager import KernelManager

from notebooks.build import private_kernels

nbval.kernel.KernelManager = private_kernels(KernelManager)
