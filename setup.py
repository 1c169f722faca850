"""What pyproject.toml cannot say: trained weights and records of runs, which lie beside the package, go into the wheel.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DATA = Path(__file__).parent / "data"
SHIPPED = {"weights": "*.safetensors", "results": "*.json"}  # 30 MB together


class WithWeights(build_py):
    """Copies data/weights and data/results to ferkit/shipped,
    where `ferkit.models.registry.weights_folder` looks for them.
    """

    def run(self):
        """Build as usual, then copy; an editable installation reads them in the checkout."""
        super().run()
        if self.editable_mode:
            return
        for folder, pattern in SHIPPED.items():
            to = Path(self.build_lib) / "ferkit" / "shipped" / folder
            self.mkpath(str(to))
            for file in DATA.joinpath(folder).glob(pattern):
                self.copy_file(str(file), str(to / file.name))


setup(cmdclass={"build_py": WithWeights})
