"""Reads one table of any spelling as rows of strings, None where a cell is empty."""

import csv
import json
import re
from io import StringIO
from pathlib import Path

import pandas

NUMBER = re.compile(r"(-?(?:0|[1-9]\d*))(?:\.0+)?")


def read_rows(file: Path) -> pandas.DataFrame:
    """Reads a CSV file of whatever separator, or one of JSON lines.

    Raises:
        ValueError: when it is no such table.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8; save it so") from error
    rows = _of_json_lines(text) if file.suffix.lower() == ".jsonl" else _of_csv(text)
    return rows.rename(columns=lambda column: str(column).strip())


def _of_json_lines(text: str) -> pandas.DataFrame:
    try:
        records = [json.loads(line) for line in text.splitlines() if line.strip()]
    except RecursionError as error:
        raise ValueError("a line is nested too deeply") from error
    if not all(isinstance(record, dict) for record in records):
        raise ValueError("a line is no JSON object")
    columns = dict.fromkeys(column for record in records for column in record)
    cells = {column: [_text(record.get(column)) for record in records] for column in columns}
    return pandas.DataFrame(cells, dtype=object)


def _text(cell: object) -> str | None:
    return None if cell is None or cell != cell or isinstance(cell, dict | list) else str(cell).strip() or None


def _of_csv(text: str) -> pandas.DataFrame:
    header = text.partition("\n")[0]
    try:
        lines = list(csv.reader(StringIO(text), delimiter=max(",;\t", key=header.count), skipinitialspace=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    lines = [[cell.strip() for cell in line] for line in lines if any(map(str.strip, line))]
    if not lines:
        raise ValueError("it is empty")
    width = len(lines[0])
    wrong = next((number for number, line in enumerate(lines) if len(line) != width), None)
    if wrong is not None:
        raise ValueError(f"row {wrong} has {len(lines[wrong])} cells and its header {width}")
    return pandas.DataFrame([[cell or None for cell in line] for line in lines[1:]], columns=lines[0], dtype=object)


def are_numbers(cells: pandas.Series) -> bool:
    """Tells whether all labels are whole numbers; with a leading zero they are names."""
    return all(NUMBER.fullmatch(cell) for cell in cells if cell is not None)


def as_numbers(cells: pandas.Series) -> list[int | None]:
    """Gives the labels as whole numbers; spreadsheets write 1.0 for 1."""
    return [None if cell is None else int(cell.partition(".")[0]) for cell in cells]
