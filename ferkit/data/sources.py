"""Where each data set comes from, on what terms, how big it is and how a copy is checked: facts, in one place.

data/README.md holds the table below word for word (a test compares them), the notebooks show it, and
`python -m ferkit data` prints it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Source:
    """What one needs to know before getting a data set.

    Attributes:
        name: as `ferkit.data.load` calls it.
        title: how people call it.
        what: what is in it.
        where: address of the authors or of the contest.
        how: what has to be done there.
        terms: in a sentence.
        size: in words.
        check: how a copy is found to be right.
        get: how `python -m ferkit data get` can fetch it; "" where the terms leave that to the reader.
    """

    name: str
    title: str
    what: str
    where: str
    how: str
    terms: str
    size: str
    check: str
    get: str = ""


#: The FER+ votes at the commit whose reader `ferkit.data.ferplus` follows. Bytes and digest are those of the copy
#: behind all our numbers; line ends do not count.
VOTES_URL = "https://raw.githubusercontent.com/microsoft/FERPlus/06447e00c28cad602381a37bd66a37313b41a1ef/fer2013new.csv"
VOTES_BYTES = 1_602_762
VOTES_SHA256 = "9206e20d62f56475939f516847d61753e4860caeac9718b560129541b776fc2c"
#: Name of FER2013's contest at Kaggle.
CONTEST = "challenges-in-representation-learning-facial-expression-recognition-challenge"

SOURCES = (
    Source(
        name="fer2013",
        title="FER2013",
        what="35,887 grey faces, 48x48, seven classes",
        where=f"https://www.kaggle.com/c/{CONTEST}/data",
        how="an account at Kaggle; the contest's rules must be accepted",
        terms="the contest's rules; the pictures come from the open web, and nothing grants the right to publish them",
        size="csv 0.3 GB, packed 0.1 GB",
        check="no published checksum: counts per class and split",
        get="kaggle",
    ),
    Source(
        name="ferplus",
        title="FER+",
        what="ten votes for each picture of FER2013",
        where="https://github.com/microsoft/FERPlus",
        how="free",
        terms="MIT licence, for the votes; the pictures are FER2013's",
        size="1.6 MB",
        check=f"{VOTES_BYTES:,} bytes, sha256 {VOTES_SHA256[:16]}…",
        get="https",
    ),
    Source(
        name="rafdb",
        title="RAF-DB",
        what="15,339 faces in colour, seven classes",
        where="http://www.whdeng.cn/RAF/model1.html",
        how="by e-mail from an academic address; the archives have a password",
        terms="non-commercial research; pictures may not be passed on, or published beyond what the agreement names",
        size="at 112 pixels 0.6 GB in the cache",
        check="no published checksum: counts per class and split",
    ),
    Source(
        name="affectnet7, affectnet8",
        title="AffectNet",
        what="291,651 faces in colour with eight classes, valence and arousal",
        where="https://mohammadmahoor.com/pages/databases/affectnet/",
        how="a signed licence",
        terms="non-commercial research; may not be passed on",
        size="at 112 pixels 11 GB in the cache",
        check="no published checksum: counts per class and split",
    ),
    Source(
        name="expw",
        title="ExpW",
        what="91,793 faces in photographs, seven classes, no official split",
        where="https://mmlab.ie.cuhk.edu.hk/projects/socialrelation/index.html",
        how="from the authors' page",
        terms="see the page; the photographs come from the open web",
        size="at 112 pixels 3.5 GB in the cache",
        check="no published checksum: counts per class",
    ),
    Source(
        name="folder",
        title="VEMO, one's own",
        what="class folders, or a csv with path and label",
        where="VEMO, the Residual Masking Network's second set, is private",
        how="make them, or a repository of your own at Hugging Face",
        terms="yours; ask the people in the pictures",
        size="as they are",
        check="the checksums that Hugging Face keeps",
        get="hf",
    ),
)

_COLUMNS = ("set", "what", "where", "how", "terms", "size", "is my copy right?", "`data get`")


def source(name: str) -> Source:
    """Return the facts of a data set by the name `load` knows. Raises ValueError listing the known names."""
    found = next((entry for entry in SOURCES if name in entry.name.split(", ")), None)
    if found is None:
        raise ValueError(f"Expected a data set among {', '.join(entry.name for entry in SOURCES)}, found {name!r}.")
    return found


def rows() -> list[tuple[str, ...]]:
    """Return the table, header first; "-" where nothing is fetched by ferkit."""
    return [_COLUMNS, *((s.title, s.what, s.where, s.how, s.terms, s.size, s.check, s.get or "-") for s in SOURCES)]


def markdown() -> str:
    """Return the table as Markdown, as it stands in data/README.md."""
    head, *body = rows()
    lines = [
        head,
        ("---",) * len(head),
        *(tuple(f"<{cell}>" if "://" in cell[:9] else cell for cell in row) for row in body),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
