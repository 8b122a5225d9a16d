"""The account of a preparation for people: ``report.html`` and ``data_card.md`` in the prepared folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from chelys.data.prepare import data_card, page
from chelys.data.prepare.account import Account, gather
from chelys.files import output_file

PAGE = "report.html"
CARD = "data_card.md"


class Report(NamedTuple):
    """What was written.

    Attributes:
        page: The page, all in one file.
        card: The data section of a model card.
        account: What they say.
    """

    page: Path
    card: Path
    account: Account


def write_report(out: Path, *, references: Path | None = None, clips: int = 20, seed: int = 1) -> Report:
    """Write both.

    Args:
        out: Folder that ``chelys data prepare`` wrote.
        references: File of given transcripts (see ``references``), to count wrong words by.
        clips: How many clips to draw at random for the page.
        seed: Of the drawing.

    Raises:
        ManifestError: If there is no ledger, or the references name none of its recordings.
        OutputError: If the folder cannot be written to.
    """
    account = gather(out, references=references, clips=clips, seed=seed)
    report = Report(out / PAGE, out / CARD, account)
    for path, text in ((report.page, page.render(account, out)), (report.card, data_card.render(account, out))):
        with output_file(path) as file:
            file.write(text.encode("utf8", "backslashreplace"))  # names of files need not be UTF-8
    return report
