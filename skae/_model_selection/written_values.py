"""Numbers and dates that are written as text, as spreadsheets write them."""

from __future__ import annotations

from typing import Any

import numpy as np

from skae._data.optional_imports import import_optional

GAP_MARKS = {
    *("", "?", "-", "--", "–", "—", ".", "na", "n/a", "n.a.", "#n/a", "nan", "null", "none"),
    *("missing", "unknown", "k.a.", "#div/0!", "#value!", "#ref!", "#num!", "<na>"),
}
UNIT = r"^(?:[€$£¥₹]|EUR|USD|GBP|CHF|JPY)\s*|\s*(?:[€$£¥₹%]|EUR|USD|GBP|CHF|JPY)$"
LABEL = r"0\d+"  # as postal codes; no number is written so
NUMBER = r"[-−]?(?:\d+|[1-9]\d{0,2}(?:[MARKS'’\s]\d{3})+)(?:DECIMAL\d+)?(?:[eE][-+]?\d+)?"
WITH_POINT = NUMBER.replace("MARKS", ",").replace("DECIMAL", r"\.")
WITH_COMMA = NUMBER.replace("MARKS", r"\.").replace("DECIMAL", ",")
DAY = r"(?:\d{4}[-/]\d\d?[-/]\d\d?|\d\d?[./-]\d\d?[./-]\d{4})(?: \d\d?:\d\d(?::\d\d)?)?"
DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y")
TIMES = ("", " %H:%M", " %H:%M:%S")


def is_gap(texts: Any) -> Any:
    """Which texts of a column say that a value is missing."""
    return texts.str.strip().str.lower().isin(GAP_MARKS)


def numbers_of(texts: Any, *, takes_digits: bool = False) -> Any:
    """Floats that a column of texts writes; None if it writes anything else.

    Texts such as "?" and "n/a" are gaps. Currencies, per cent and marks of thousands are left
    out. Digits alone are no numbers, as they may be labels, unless `takes_digits` is set or there
    are marks of gaps. Neither is what may be two numbers, such as "1,234".

    Parameters
    ----------
    texts : Series of str
        With gaps or without.
    takes_digits : bool, default=False
    """
    known = texts.dropna().str.strip()
    gaps = is_gap(known)
    written = known[~gaps]
    bare = written.str.replace(UNIT, "", regex=True)
    says_number = takes_digits or gaps.any() or (bare != written).any()
    if written.empty or bare.str.fullmatch(LABEL).any():
        return None
    if bare.str.fullmatch(r"\d+").all() and not says_number:
        return None
    has_comma = bare.str.contains(",", regex=False).any()
    with_point = bare.str.fullmatch(WITH_POINT).all()
    with_comma = has_comma and bare.str.fullmatch(WITH_COMMA).all()
    if with_point == with_comma:  # neither, or either
        return None
    thousands, decimal = (",", ".") if with_point else (".", ",")
    plain = bare.str.replace(rf"[{thousands}'’\s]", "", regex=True)
    plain = plain.str.replace(decimal, ".", regex=False).str.replace("−", "-", regex=False)
    return plain.astype(float).reindex(texts.index)


def dates_of(texts: Any) -> Any:
    """Dates that a column of texts writes, all in one way; None if this is not certain.

    Of days and months between slashes or hyphens it is, if one of them exceeds 12.
    """
    pandas = import_optional("pandas", extra="compare")
    known = texts.dropna().str.strip()
    if known.empty or not known.str.fullmatch(DAY).all():
        return None
    found = []
    for format_ in (day + time for day in DAYS for time in TIMES):
        times = known.iloc[:1]
        for part in (known.iloc[:1], known):  # most formats do not fit the first text
            times = pandas.to_datetime(part, format=format_, errors="coerce", utc=True)
            if times.isna().any():
                break
        else:
            found.append(times)
    is_certain = bool(found) and all(times.equals(found[0]) for times in found)
    return found[0].reindex(texts.index) if is_certain else None


def may_be_values(texts: Any) -> bool:
    """Whether texts look like numbers or dates that can be read in two ways."""
    known = texts.dropna().str.strip()
    bare = known.str.replace(UNIT, "", regex=True)
    is_number = bare.str.fullmatch(WITH_POINT) & bare.str.fullmatch(WITH_COMMA)
    has_mark = bare.str.contains(",", regex=False).any()
    return bool(np.all(is_number) and has_mark) or bool(known.str.fullmatch(DAY).all())
