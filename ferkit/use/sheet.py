"""The contact sheet: a page with every face and what networks say of it, to look through and to doubt."""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from jinja2 import Environment

from ferkit.files import replacing
from ferkit.plots import colour
from ferkit.use.journal import Journal
from ferkit.use.networks import Ensemble, Network

#: Faces on a page: more of them make a page that no browser likes. The table of answers has all.
MOST = 2000
SHOWN = 3  # classes in a face's bars

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{ counts.faces }} faces and what networks say of them</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff; }
h1 { font-size: 1.3em; margin: 0 0 .4em; }
.worth { max-width: 60em; }
.tally span { display: inline-block; margin: 0 .9em .2em 0; }
.dot { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .35em; }
.faces { display: grid; grid-template-columns: repeat(auto-fill, minmax(18em, 1fr)); gap: .8em; margin-top: 1em; }
.face { border: 1px solid #ddd; border-radius: 6px; padding: .6em; display: flex; gap: .7em; overflow: hidden; }
.face img, .face .none { width: 96px; height: 96px; flex: none; border-radius: 3px; background: #eee; }
.said { min-width: 0; flex: 1; }
.file { font-size: 12px; color: #555; overflow-wrap: anywhere; margin-bottom: .3em; }
.answer { font-weight: 600; }
.bar { display: grid; grid-template-columns: 5.5em 1fr 2.6em; gap: .4em; font-size: 11px; align-items: center; }
.bar span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.bar u { background: #f1f1f1; height: .8em; } .bar i { display: block; height: 100%; }
.open { font-size: 12px; color: #555; margin-bottom: .3em; }
.problem { color: #b00020; overflow-wrap: anywhere; }
li { white-space: pre-line; }
</style></head><body>
<h1>{{ "{:,}".format(counts.pictures) }} pictures, {{ "{:,}".format(counts.faces) }} faces{%
 if counts.problems %}, {{ "{:,}".format(counts.problems) }} with a problem{% endif %}</h1>
<div class="worth"><p>What these answers are worth:</p><ol>
{% for network in networks %}<li>{{ network }}</li>{% endfor %}</ol>
<p>Networks name how raters would label a face, not what a person feels. Not for decisions about people.</p></div>
{% for name, tally in tallies %}<p class="tally">{% if networks|length > 1 %}{{ loop.index }} · {% endif %}{{ name }}:
 {% for answer, n in tally %}<span>
 <i class="dot" style="background:{{ colour(answer) }}"></i>{{ answer }} {{ n }}</span>{% endfor %}</p>{% endfor %}
{% if counts.faces + counts.problems > most %}<p>These are the first {{ "{:,}".format(most) }}.</p>{% endif %}
<div class="faces">
{% for rows, picture in faces %}<div class="face">
{% if picture %}<img alt="face {{ rows[0].face }} of {{ rows[0].file }}" src="data:image/jpeg;base64,{{ picture }}">{%
 else %}<div class="none"></div>{% endif %}
<div class="said"><div class="file" title="{{ rows[0].file }}">{{ name_of(rows[0].file) }}{%
 if rows[0].face %}, face {{ rows[0].face }}{% endif %}</div>
{% for row in rows %}{% if row.problem %}<div class="problem">{{ row.problem }}</div>{% else %}
<div class="answer" title="{{ row.network }}">{%
 if networks|length > 1 %}{{ loop.index }} · {% endif %}{{ row.answer }}</div>
{% for name, p in top(row) %}<div class="bar"><span title="{{ name }}">{{ name }}</span>
<u><i style="width:{{ "%.1f" % (100 * p) }}%;background:{{ colour(name) }}"></i></u>
<span>{{ "%.0f" % (100 * p) }} %</span></div>{% endfor %}
{% if row.likely|length > 1 %}<div class="open">not ruled out: {{ row.likely|join(", ") }}</div>{% endif %}
{% endif %}{% endfor %}</div></div>
{% endfor %}</div></body></html>
"""


def write_sheet(file: str | os.PathLike[str], journal: Journal, networks: Sequence[Network | Ensemble]) -> None:
    """Write the page from a journal whose faces were kept, face by face, so that no more than one is held."""
    tallies: dict[str, Counter[str]] = {network.name: Counter() for network in networks}
    for row in journal.rows():
        if row["network"]:
            tallies[row["network"]][row["answer"]] += 1
    page = Environment(autoescape=True).from_string(PAGE)
    pieces = page.generate(
        counts=journal.counts(),
        networks=[str(network) for network in networks],
        tallies=[(name, tally.most_common()) for name, tally in tallies.items()],
        faces=_faces(journal),
        most=MOST,
        colour=colour,
        name_of=os.path.basename,
        top=_top,
    )
    with replacing(file) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(pieces)


def _faces(journal: Journal) -> Iterator[tuple[list[dict[str, Any]], str]]:
    for rows, jpeg in islice(journal.faces(), MOST):
        yield rows, base64.b64encode(jpeg or b"").decode()


def _top(row: dict[str, Any]) -> list[tuple[str, float]]:
    """The most probable classes, the first one first."""
    return sorted(row["probabilities"].items(), key=lambda item: -item[1])[:SHOWN]
