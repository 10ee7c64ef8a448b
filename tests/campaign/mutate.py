"""Damage bytes and JSON values at random: the same generator gives the same damage."""

import json
import random
import re

TOKENS = [
    b"", b"\0", b"\n", b"\r\n", b",", b'"', b"'", b"\xff", b"\xef\xbb\xbf", b"NaN", b"Infinity", b"-1", b"0",
    b"99999999999999999999", b"1e999", b"2147483647", b"[red]", b"[/x]", b"../..", b"{}", b"[]", b"\xe9", b"\\ud800",
    b"null", b"true", b"=1+1", b"[" * 2000, b'{"a":' * 2000, b"9" * 5000, b" ", b"\t", b"&a [*a,*a]", b"\xe2\x80\xa8",
]  # fmt: skip
VALUES = [
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 10**30, 10**400, 2**63, "", "x", "[red]", "q[/x]", "\ud800", "a/b",
    "../..", [], {}, [1], [None], ["x"], [[]], {"a": 1}, {"accuracy": None}, "NaN", "0" * 3000,
]  # fmt: skip
DEEP = 3000


def mutated(data, rng):
    """Damaged bytes: one to three changes, each a flip, cut, splice, token or number."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice((_flipped, _flipped, _cut, _spliced, _token, _number, _zeroed))(data, rng)
    return data


def _flipped(data, rng):
    changed = bytearray(data)
    for _ in range(min(len(changed), rng.choice((1, 1, 2, 8)))):
        # Headers lie at the front: half of the flips too.
        end = len(changed) if rng.random() < 0.5 else min(len(changed), 200)
        changed[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data, rng):
    start = rng.randrange(len(data) + 1)
    return data[:start] if rng.random() < 0.5 else data[:start] + data[start + rng.choice((1, 2, 16, 500)) :]


def _spliced(data, rng):
    start, place = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    return data[:place] + data[start : start + rng.choice((1, 4, 40, 1000))] + data[place:]


def _token(data, rng):
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(TOKENS) + data[place + rng.choice((0, 1, 4)) :]


def _number(data, rng):
    found = list(re.finditer(rb"\d+", data[:100_000]))
    if not found:
        return _token(data, rng)
    chosen = rng.choice(found)
    return data[: chosen.start()] + rng.choice(TOKENS) + data[chosen.end() :]


def _zeroed(data, rng):
    start = rng.randrange(len(data) + 1)
    length = min(len(data) - start, rng.choice((1, 4, 64)))
    return data[:start] + bytes([rng.choice((0, 255))]) * length + data[start + length :]


def mutated_json(data, rng):
    """Damaged JSON: another value, a missing or another key, a deep nest; or damaged as any bytes are."""
    if rng.random() < 0.3:
        return mutated(data, rng)
    if rng.random() < 0.03:
        opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
        return (opening * DEEP + "1" + closing * DEEP).encode()
    value = json.loads(data)
    for _ in range(rng.choice((1, 1, 2))):
        value = retyped(value, rng)
    return json.dumps(value).encode()


def mutated_lines(data, rng):
    """Damaged JSON lines: one of them damaged, left out or repeated."""
    lines = data.splitlines()
    chosen = rng.randrange(len(lines))
    change = rng.choice(("damage", "damage", "damage", "drop", "repeat", "swap"))
    if change == "damage":
        lines[chosen] = mutated_json(lines[chosen], rng)
    elif change == "drop":
        del lines[chosen]
    elif change == "repeat":
        lines.insert(chosen, lines[chosen])
    else:
        other = rng.randrange(len(lines))
        lines[chosen], lines[other] = lines[other], lines[chosen]
    return b"\n".join(lines) + rng.choice((b"\n", b"\n", b""))


def retyped(value, rng):
    """A JSON value with one part of it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        change = rng.random()
        if change < 0.1:
            return {name: child for name, child in value.items() if name != key}
        if change < 0.15:
            return {(name + "x" if name == key else name): child for name, child in value.items()}
        if change < 0.2:
            return {**value, rng.choice(("x", "", "[red]", "\ud800")): rng.choice(VALUES)}
        return {**value, key: retyped(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        i = rng.randrange(len(value))
        return rng.choice((value[:i] + value[i + 1 :], [*value, value[i]], [*value[:i], retyped(value[i], rng),
                           *value[i + 1 :]]))  # fmt: skip
    return rng.choice(VALUES)


def generator(*parts):
    """The random numbers of one input."""
    return random.Random("/".join(map(str, parts)))
