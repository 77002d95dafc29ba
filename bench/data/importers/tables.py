"""The user's tables: labels and ids of the exams that an importer has found."""

import csv
import io
from collections import Counter, defaultdict
from pathlib import Path

from sslm_core.errors import UserError
from sslm_core.exams import check_id, read_table

from .shared import Exam, Found

PATIENT = "patient"  # a column of the labels' table that is no label


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, cells) of a csv file with commas or semicolons. Raises UserError."""
    text = read_table(path)
    first = text.lstrip().split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text), delimiter=";" if ";" in first and "," not in first else ",")
    rows = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append((reader.line_num, [cell.strip() for cell in row]))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: not a readable csv file ({error})") from None
    if not rows:
        raise UserError(f"{path}: no rows; expected the name of an exam and its values on each line")
    for line, cells in rows:
        if len(cells) != len(rows[0][1]) or len(cells) < 2:
            raise UserError(
                f"{path}:{line}: {len(cells)} cells, expected {max(2, len(rows[0][1]))} on every line: the name of an "
                "exam and its values"
            )
    return rows


def read_label_table(path: Path) -> tuple[tuple[str, ...], dict[str, tuple[list[int], str]]]:
    """(labels, name -> (0 or 1 a label, patient)) of a table: a column of names, and one a label; a header line or
    none; a column `patient` is told by its header. Raises UserError with file and line."""
    rows = read_rows(path)
    head = rows[0][1][1:]
    if all(cell in ("0", "1") for cell in head):
        names = [path.stem] if len(head) == 1 else [f"label{i + 1}" for i in range(len(head))]
    else:
        names, rows = head, rows[1:]
    patient = names.index(PATIENT) if PATIENT in names else None
    labels = tuple(name for name in names if name != PATIENT)
    if not labels or len(set(names)) != len(names):
        raise UserError(f"{path}: the header names {', '.join(names)[:80]!r}; expected one column a label, each once")
    for name in labels:
        check_id(name, str(path))
    found: dict[str, tuple[list[int], str]] = {}
    for line, (name, *cells) in rows:
        values = [cell for i, cell in enumerate(cells) if i != patient]
        if odd := [cell for cell in values if cell not in ("0", "1")]:
            raise UserError(f"{path}:{line}: {odd[0][:40]!r} is no label; expected 0 or 1")
        if not name or name in found:
            raise UserError(
                f"{path}:{line}: {'no name' if not name else 'a name that stands here twice'}; mend the row"
            )
        found[name] = [int(value) for value in values], "" if patient is None else cells[patient]
    if not found:
        raise UserError(f"{path}: a header and no rows; expected one row an exam")
    return labels, found


def matched(names: list[str], exams: list[Exam], path: Path) -> dict[str, Exam]:
    """Name of a table's row -> exam, for the names that are known. Raises UserError where a name fits two exams, or two
    names fit one."""
    by_name: dict[str, list[Exam]] = defaultdict(list)
    for exam in exams:
        for name in {exam.name, exam.id, *exam.known}:
            by_name[name].append(exam)
    found: dict[str, Exam] = {}
    taken: dict[str, str] = {}
    for name in names:
        fits = by_name.get(name, [])
        if len(fits) > 1:
            raise UserError(
                f"{path}: {name[:60]!r} fits {len(fits)} exams (a patient with several studies?); name each exam as "
                "--key writes it"
            )
        if fits:
            if fits[0].id in taken:
                raise UserError(f"{path}: {taken[fits[0].id][:60]!r} and {name[:60]!r} are one exam; keep one row")
            found[name], taken[fits[0].id] = fits[0], name
    return found


def rename(exams: list[Exam], path: Path) -> None:
    """Give exams the ids of the table `name,id`. Raises UserError where an exam has none or two have the same."""
    rows = {}
    for line, cells in read_rows(path):
        check_id(cells[1], f"{path}:{line}")
        if cells[0] in rows:
            raise UserError(f"{path}:{line}: a name that stands here twice; keep one row")
        rows[cells[0]] = cells[1]
    found = matched(list(rows), exams, path)
    ids = {exam.id: rows[name] for name, exam in found.items()}
    missing = [exam for exam in exams if exam.id not in ids]
    if missing:
        raise UserError(
            f"{path}: no id for {len(missing)} of {len(exams)} exams, as {missing[0].name[:80]!r}; add a row `name,id`"
        )
    if twice := [name for name, n in Counter(ids.values()).items() if n > 1]:
        raise UserError(f"{path}: the id {twice[0]} is given to two exams; ids must differ")
    for exam in exams:
        exam.known, exam.id = (*exam.known, exam.id), ids[exam.id]


def add_labels(found: Found, path: Path) -> None:
    """Labels of the table for the exams found; those without a row are left out and counted."""
    labels, rows = read_label_table(path)
    pairs = matched(list(rows), found.exams, path)
    if not pairs:
        raise UserError(
            f"{path}: none of its {len(rows)} names, as {next(iter(rows))[:60]!r}, is an exam's; --key FILE.csv lists "
            f"the {len(found.exams)} that were found"
        )
    for name, exam in pairs.items():
        exam.labels = dict(zip(labels, rows[name][0]))
        exam.patient = rows[name][1] or exam.patient
    if extra := sorted(rows.keys() - pairs.keys()):
        found.notices.append(f"{path}: {len(extra)} rows of exams that were not found, as {extra[0][:60]!r}")
    for exam in found.exams:
        if not exam.labels:
            found.leave_out("exams without a row in the labels", exam.name)
    found.exams = [exam for exam in found.exams if exam.labels]
