"""One command trains and tests on a real FER2013."""

import json
import subprocess
import sys

import pytest


@pytest.mark.real_data
@pytest.mark.slow
def test_run_command_on_real_faces(tmp_path, fer2013_path):
    recipe = "notebooks/recipes/resemotenet/teach-fer2013.yaml"
    small = ["epochs=1", "width=0.0625", "image_size=48", "warmup_epochs=0.1", "augmentation=resemotenet", "tta=null"]
    command = [sys.executable, "-m", "ferkit", "run", recipe, "--data", str(fer2013_path), "--out", str(tmp_path)]
    done = subprocess.run(
        [*command, *(x for s in small for x in ("--set", s))], capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "resemotenet-teach-fer2013" / "result.json").read_text())
    assert result["test"]["n"] == 3589
    assert result["data"]["splits"] == {"train": 25837, "validation": 2872, "public_test": 3589}
    # the largest class is a quarter; an epoch of so small a network learns something and not much
    assert 0.28 < result["test"]["accuracy"] < 0.55
    assert "public_test accuracy" in done.stdout
