"""What a notebook of this workbook needs besides its subject: profiles, records, figures, ledger tables, provenance.

A notebook has one parameters cell of literals; the next cell turns `PROFILE` into settings with `profile`. Numbers that
a test asserts or the text quotes go through `record`. Pictures and tables get number and caption from `figure` and
`table`. What a paper says comes out of its ledger with `ledger_table`. `footer` ends it.
"""

from ferkit.notebook.exercises import check
from ferkit.notebook.figures import figure, numbered, table
from ferkit.notebook.ledger import STATUS, LedgerTable, ledger_table
from ferkit.notebook.recording import RECORD_MIME, UNITS, record, records, records_in
from ferkit.notebook.session import PROFILES, footer, parameters_given, profile

__all__ = [
    "PROFILES",
    "RECORD_MIME",
    "STATUS",
    "UNITS",
    "LedgerTable",
    "check",
    "figure",
    "footer",
    "ledger_table",
    "numbered",
    "parameters_given",
    "profile",
    "record",
    "records",
    "records_in",
    "table",
]
