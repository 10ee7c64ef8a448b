"""Read JSON texts that may be damaged or hostile: everything of ours and of others that is JSON is read here."""

from __future__ import annotations

import json
import math
import re
from typing import Any

MOST_NESTED = 64
"""Levels of objects and lists in a JSON file; ours have fewer than ten."""


def read_json(text: str | bytes) -> Any:
    """Return the value of a JSON text that may be damaged or hostile.

    Raises:
        ValueError: for a text that is no JSON, is no UTF-8, has NaN or infinity in it (which JSON has not), or is
            nested deeper than :data:`MOST_NESTED`.
    """
    text = text if isinstance(text, str) else text.decode()
    # A text with few brackets has few levels: most lines are never walked through.
    if text.count("[") + text.count("{") > MOST_NESTED:
        _check_depth(text)
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)


def _check_depth(text: str) -> None:
    depth = 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if depth > MOST_NESTED:
            raise ValueError(f"nested deeper than {MOST_NESTED} levels")


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON")


def _finite(word: str) -> float:
    number = float(word)
    if math.isinf(number):
        raise ValueError(f"{word[:20]} is too large a number")
    return number
