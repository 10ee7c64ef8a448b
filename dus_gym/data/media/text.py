"""Cleaning of a text before it is tokenised: presets by name, each a plain function."""

from __future__ import annotations

import re
from collections.abc import Callable

_ENGLISH = re.compile(r"\b[A-Za-z]+\b")
_MARKS = re.compile(r"[,.'!?\"()*#:;~]")
_RETWEET = re.compile(r"^RT[\s]+")
_LINK = re.compile(r"https?://.*[\r\n]*")
_SPACES = re.compile(r"\s{2,}")


def plain(text: str) -> str:
    """Return the text as published."""
    return text


def bss_words(text: str) -> str:
    """Clean as BSS on Twitter2015: the first twenty words of plain letters, in lower case; the rest, ``#`` and ``@``
    with it, is dropped. Words with a digit or ``_`` are no such words, and ``$T$`` becomes ``t``.
    """
    return " ".join(_ENGLISH.findall(text)[:20]).lower()


def bss_caption(text: str) -> str:
    """Clean as BSS on Sarcasm: lower case, no punctuation, ``-`` and ``/`` read as spaces, the first fifty words."""
    bare = _MARKS.sub("", text.lower()).replace("-", " ").replace("/", " ").replace("<person>", "person")
    return " ".join(_SPACES.sub(" ", bare).rstrip("\n").strip(" ").split(" ")[:50])


def title(text: str) -> str:
    """Clean as BalanceBenchmark on Food-101: without ``RT`` at the beginning, links and all that follows them in a
    line, and ``#``.
    """
    return _LINK.sub("", _RETWEET.sub("", text)).replace("#", "")


CLEANERS: dict[str, Callable[[str], str]] = {
    "plain": plain,
    "bss_words": bss_words,
    "bss_caption": bss_caption,
    "title": title,
}
