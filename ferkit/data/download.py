"""Fetching a data set whose terms allow it, after it was asked for: taken up after an interruption, checked,
then put in place.

A file arrives in `.partial` beside its place, is compared with its checksum there, and is moved under its name only
then; so a folder never holds half a file under a good name, and what is there already is never replaced.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tqdm.auto import tqdm

from ferkit import labels
from ferkit.data import fer2013, sources
from ferkit.data.ferplus import VOTES_NAME
from ferkit.data.io.lists import picture_name
from ferkit.files import sha256

_CHUNK = 1 << 20
_TIMEOUT = 30


class Plan(NamedTuple):
    """What would be fetched: from where, in words; on what terms; how big; and the deed itself, which returns files."""

    source: str
    terms: str
    size: str
    fetch: Callable[[], list[Path]]


def plan(name: str, folder: str | os.PathLike[str], *, origin: str | None = None, progress: bool = True) -> Plan:
    """Say what fetching a data set means; nothing is transferred before `fetch` is called.

    Args:
        name: of the data set, as in `ferkit.data.list_datasets()`.
        folder: where it shall lie.
        origin: "hf:OWNER/NAME" or "hf:OWNER/NAME@REVISION", a data set repository at Hugging Face, for `folder` and for
            copies of FER2013 that others have put there; default: the source in `ferkit.data.sources`. The size of such
            a repository is asked of it here.
        progress: show bars.

    Raises:
        ValueError: for a set whose terms do not allow it, or an origin that does not fit.
        ImportError: where the package that does it is not installed.
        OSError: where the repository cannot be asked.
    """
    entry, target = sources.source(name), Path(folder).expanduser()
    if not entry.get:
        raise ValueError(
            f"Expected a data set that may be fetched, found {name}: {entry.terms}. Get it yourself "
            f"({entry.how}): {entry.where}"
        )
    if target.exists() and not target.is_dir():
        raise ValueError(f"Expected a folder to put {entry.title} into, found a file at {target}.")
    if origin is not None:
        if name not in ("folder", "fer2013"):
            raise ValueError(f"Expected {name} from its own source, found --from {origin}; leave it out.")
        repository, _, revision = origin.removeprefix("hf:").partition("@")
        if not origin.startswith("hf:") or repository.count("/") != 1:
            raise ValueError(f"Expected --from hf:OWNER/NAME or hf:OWNER/NAME@REVISION, found {origin!r}.")
        files, commit = _hub_files(repository, revision or None)
        size = sum(file.size for file in files)
        return Plan(
            f"https://huggingface.co/datasets/{repository} at {commit}: {len(files):,} files",
            entry.terms
            if name == "folder"
            else f"{entry.terms}; this copy was put there by {repository.split('/')[0]}, who answers for it",
            f"{size / 1e6:,.1f} MB",
            lambda: _hub(repository, commit, files, target, progress),
        )
    if entry.get == "hf":
        raise ValueError(f"Expected --from hf:OWNER/NAME for {name}, found none: it has no source of its own.")
    if entry.get == "kaggle":
        return Plan(
            f"{entry.where} (kagglehub, with your account)",
            f"{entry.terms}; accept them there first",
            entry.size,
            lambda: _contest(target),
        )
    return Plan(
        sources.VOTES_URL,
        entry.terms,
        entry.size,
        lambda: [fetch_file(sources.VOTES_URL, target / VOTES_NAME, sources.VOTES_SHA256, progress=progress)],
    )


# ------------------------------------------------------------------------------------------------------ plain addresses


def fetch_file(
    url: str,
    target: Path,
    right: str | Callable[[Path], bool],
    *,
    headers: dict[str, str] | None = None,
    progress: bool = True,
) -> Path:
    """Fetch a file; what an interrupted call left is taken up.

    Args:
        url: address.
        target: where it shall lie.
        right: its sha256, or a function that says whether a file is the one expected.
        headers: sent with the request, such as a login.
        progress: show a bar.

    Raises:
        FileExistsError: where another file has the name already.
        ValueError: where what arrived has another digest; it is removed.
        OSError: where the transfer failed; call again to go on.
    """
    good = right if callable(right) else lambda path: sha256(path) == right
    if target.exists():
        return _kept(target, good(target))
    part = target.parent / ".partial" / target.name
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={**(headers or {}), **({"Range": f"bytes={have}-"} if have else {})})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            if answer.status != 206:  # the server begins anew, whatever was asked
                have = 0
            total = have + int(answer.headers.get("Content-Length") or 0)
            with (
                part.open("ab" if have else "wb") as stream,
                tqdm(
                    total=total or None,
                    initial=have,
                    desc=target.name,
                    unit="B",
                    unit_scale=True,
                    disable=None if progress else True,
                ) as bar,
            ):
                while data := answer.read(_CHUNK):
                    stream.write(data)
                    bar.update(len(data))
        if total and part.stat().st_size < total:
            raise OSError(f"the connection ended after {part.stat().st_size:,} of {total:,} bytes")
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the whole file is here already
            raise OSError(
                f"Expected {target.name} from {url}, found: {error}. Check the address, or try later."
            ) from None
    except OSError as error:
        raise OSError(
            f"Expected {target.name} from {url}, but {error}; what arrived is kept, and the same call "
            "goes on from there."
        ) from None
    if not good(part):
        part.unlink()
        raise ValueError(
            f"Expected {target.name} with the known checksum, found another; what arrived was removed. Try again; if "
            "it stays so, the source has changed."
        )
    return _settle(part, target)


def _kept(target: Path, same: bool) -> Path:
    if not same:
        raise FileExistsError(
            f"Expected no other file at {target}, found one of other content; nothing is replaced. Move it away, or "
            "choose another folder."
        )
    return target


def _settle(part: Path, target: Path) -> Path:
    os.replace(part, target)
    with suppress(OSError):  # another file may be under way
        part.parent.rmdir()
    return target


# --------------------------------------------------------------------------------------------------------- Hugging Face


class _File(NamedTuple):
    name: str
    size: int
    digest: str  # sha256 of large files, the name git gives small ones otherwise
    large: bool


def _hub_files(repository: str, revision: str | None) -> tuple[list[_File], str]:
    """Return the files of a data set repository with their digests, and the commit they are of."""
    hub = _module("huggingface_hub")
    try:
        info = hub.HfApi().dataset_info(repository, revision=revision, files_metadata=True)
    except (hub.errors.HfHubHTTPError, OSError) as error:
        raise OSError(
            f"Expected the data set {repository} at Hugging Face, but {_line(error)}; check name, revision and login."
        ) from None
    files = []
    for entry in info.siblings or []:
        try:
            name = picture_name(entry.rfilename)
        except ValueError as error:
            raise ValueError(f"{repository}: {error}.") from None
        files.append(_File(name, entry.size or 0, entry.lfs.sha256 if entry.lfs else entry.blob_id, bool(entry.lfs)))
    files = [file for file in files if not file.name.startswith(".git")]
    if not files or not info.sha:
        raise ValueError(f"Expected files in {repository}, found none.")
    return files, str(info.sha)


def _hub(repository: str, commit: str, files: Sequence[_File], target: Path, progress: bool) -> list[Path]:
    """Fetch the files of a repository. huggingface_hub itself (2.4) keeps nothing of a file that was interrupted,
    so it only tells the addresses.
    """
    hub = _module("huggingface_hub")
    done = []
    for file in files:
        address = hub.hf_hub_url(repository, file.name, repo_type="dataset", revision=commit)
        goal = target / file.name
        place, login = address, {}
        if not goal.exists():
            try:
                place = hub.get_hf_file_metadata(address).location
            except (hub.errors.HfHubHTTPError, OSError) as error:
                raise OSError(
                    f"Expected {file.name} of {repository}, but {_line(error)}; the same call goes on from there."
                ) from None
            if urlsplit(place).netloc == urlsplit(address).netloc:  # a login is for nobody else
                login = {
                    key: value for key, value in hub.utils.build_hf_headers().items() if key.lower() == "authorization"
                }
        done.append(fetch_file(place, goal, partial(_same, file=file), headers=login, progress=progress))
    return done


def _same(path: Path, file: _File) -> bool:
    if file.large:
        return sha256(path) == file.digest
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == file.digest


# --------------------------------------------------------------------------------------------------------------- Kaggle


def _contest(target: Path) -> list[Path]:
    """Let kagglehub fetch the contest's files into its own cache (it goes on after interruptions), count,
    and copy the csv.
    """
    hub = _module("kagglehub")
    try:
        folder = Path(hub.competition_download(sources.CONTEST))
    except Exception as error:  # kagglehub raises classes of several packages
        raise OSError(
            f"Expected the contest's files from Kaggle, but {_line(error)}; log in (kagglehub.login()) and accept "
            f"the rules at {sources.source('fer2013').where}"
        ) from None
    csv = fer2013.find_source(folder)
    faces = fer2013.load_fer2013(csv)
    names = labels.order("fer2013")
    found = {split: tuple(faces.select(split).counts()[name] for name in names) for split in faces.splits()}
    if found != fer2013.OFFICIAL_COUNTS:
        raise ValueError(
            f"Expected FER2013 with the published counts in {csv}, found {faces.splits()}; nothing was put into "
            f"{target}. See python -m ferkit doctor {csv}"
        )
    goal = target / csv.name
    if goal.exists():
        return [_kept(goal, sha256(goal) == sha256(csv))]
    part = target / ".partial" / csv.name
    part.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(csv, part)
    return [_settle(part, goal)]


def _module(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise ImportError(
            f'Expected the package {name}, which fetches data sets, found none; pip install "ferkit[datasets]".'
        ) from None


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
