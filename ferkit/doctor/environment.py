"""Is everything here that the notebooks need? One line per thing, and how to repair what is missing.

    python -m ferkit.doctor.environment

Imports nothing of ferkit and nothing heavy before it is asked to, so that it also speaks in a broken environment.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

MINIMUM_FREE_GB = 2


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, whether it is good, what was found, and what to do if it is not."""

    ok: bool
    what: str
    found: str
    fix: str = ""

    def __str__(self) -> str:
        line = f"[{'OK' if self.ok else 'FAIL'}]".ljust(7) + f"{self.what:<18} {self.found}"
        return line if self.ok else f"{line}\n       fix: {self.fix}"


@dataclass(frozen=True)
class EnvironmentReport:
    """All checks; shows itself as text."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """True when nothing has to be repaired."""
        return all(check.ok for check in self.checks)

    def __str__(self) -> str:
        bad = sum(not check.ok for check in self.checks)
        verdict = (
            "Everything the notebooks need is here."
            if self.ok
            else f"{bad} of {len(self.checks)} checks failed; see the fixes."
        )
        return "\n".join([*(str(check) for check in self.checks), verdict])

    __repr__ = __str__


def check_environment(*extras: str) -> EnvironmentReport:
    """Checks Python, every required package against its range, PyTorch itself, the Jupyter kernel and the disk.

    Args:
        *extras: optional groups of pyproject.toml to check as well; none means `workbook`, what the notebooks need.

    Raises:
        ValueError: an extra that pyproject.toml does not have; the known ones are listed.
    """
    try:
        metadata.metadata("ferkit")
    except metadata.PackageNotFoundError:
        fix = "in the project's folder: python -m pip install -e '.[workbook]'"
        return EnvironmentReport((Check(False, "ferkit", "not installed for this Python", fix),))
    checks = [_python()]
    checks += [_package(requirement) for requirement in _requirements(extras or ("workbook",))]
    checks += [_torch(), _torchvision(), _kernel(), _disk()]
    return EnvironmentReport(tuple(checks))


def _requirements(extras: tuple[str, ...]) -> list[Requirement]:
    """What ferkit's own metadata asks for on this platform, with these extras."""
    known = metadata.metadata("ferkit").get_all("Provides-Extra") or []
    if unknown := sorted(set(extras) - set(known)):
        raise ValueError(f"unknown extra {unknown[0]!r}; ferkit has {', '.join(sorted(known))}")
    wanted = []
    for text in metadata.requires("ferkit") or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if requirement.name != "ferkit" and (
            marker is None or any(marker.evaluate({"extra": e}) for e in ("", *extras))
        ):
            wanted.append(requirement)
    return wanted


def _python() -> Check:
    found = sys.version.split()[0]
    wanted = metadata.metadata("ferkit")["Requires-Python"]
    fix = f"install a Python {wanted}, remove .venv and run `make setup` again"
    return Check(SpecifierSet(wanted).contains(found, prereleases=True), "Python", found, fix)


def _package(requirement: Requirement) -> Check:
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        found = "not installed"
    ok = found != "not installed" and requirement.specifier.contains(found, prereleases=True)
    wanted = "" if ok else f" (wanted {requirement.specifier or 'any'})"
    return Check(
        ok, requirement.name, found + wanted, f'python -m pip install "{requirement.name}{requirement.specifier}"'
    )


def _torch() -> Check:
    try:
        torch = importlib.import_module("torch")
        total = float(torch.ones(8, 8).sum())
    except Exception as error:  # a broken installation can raise anything
        return Check(
            False,
            "PyTorch runs",
            f"{type(error).__name__}: {error}",
            "python -m pip install --force-reinstall torch torchvision",
        )
    threads = torch.get_num_threads()
    device = f"CPU, {threads} thread{'s' * (threads != 1)}"
    if torch.cuda.is_available():
        device = f"{torch.cuda.device_count()} GPU ({torch.cuda.get_device_name(0)}), {device}"
    elif torch.backends.mps.is_available():
        device = f"Apple GPU (mps), {device}"
    return Check(total == 64.0, "PyTorch runs", device, "python -m pip install --force-reinstall torch torchvision")


def _torchvision() -> Check:
    try:
        importlib.import_module("torchvision.transforms.v2")
    except Exception as error:  # built for another PyTorch, it fails with RuntimeError or OSError
        fix = "python -m pip install --upgrade torch torchvision   (both in one command: each release fits one PyTorch)"
        return Check(False, "torchvision fits", f"{type(error).__name__}: {error}", fix)
    return Check(True, "torchvision fits", "imports beside this PyTorch")


def _kernel() -> Check:
    """Jupyter's `python3` kernel may belong to another Python, and the notebooks would run there."""
    fix = "python -m ipykernel install --sys-prefix"
    try:
        spec = importlib.import_module("jupyter_client.kernelspec").KernelSpecManager().get_kernel_spec("python3")
    except Exception as error:
        return Check(False, "Jupyter kernel", f"{type(error).__name__}: {error}", fix)
    ours = {"python", "python3", f"python3.{sys.version_info.minor}", sys.executable}
    ok = spec.argv[0] in ours
    return Check(ok, "Jupyter kernel", "python3 runs this Python" if ok else "python3 runs another Python", fix)


def _disk() -> Check:
    free = shutil.disk_usage(".").free / 1e9
    fix = f"free {MINIMUM_FREE_GB} GB here, or move the project to a disk that has them"
    return Check(
        free >= MINIMUM_FREE_GB,
        "Free disk",
        f"more than {MINIMUM_FREE_GB} GB" if free >= MINIMUM_FREE_GB else f"{free:.1f} GB",
        fix,
    )


if __name__ == "__main__":
    report = check_environment(*sys.argv[1:])
    print(report)
    raise SystemExit(not report.ok)
