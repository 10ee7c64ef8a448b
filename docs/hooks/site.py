"""What the site does beyond Markdown: equations become MathML, and roles in docstrings become links.

MkDocs calls the functions, Griffe the class. MathML is what browsers draw themselves: no script, no other host.
"""

import re
from typing import Any

import griffe
from latex2mathml.converter import convert

ROLE = re.compile(r":(?:class|func|meth|data|attr|mod|exc):`~?([\w.]+)`")


def display(source: str, *_: Any, **__: Any) -> str:
    """Return a fence ```` ```math ```` (LaTeX, one equation per paragraph) as HTML.

    Raises:
        ValueError: for a command that the converter does not know, which it would print as it is.
    """
    shown = []
    for part in re.split(r"\n\s*\n", source.strip()):
        mathml = convert(" ".join(part.split()), display="block")
        if unknown := re.findall(r"\\\w+", mathml):
            raise ValueError(f"{', '.join(unknown)} is not known to latex2mathml; write the equation without it.")
        shown.append(f'<div class="equation">{mathml}</div>')
    return "".join(shown)


def on_config(config: Any) -> Any:
    """Add the fence, which the configuration can't name: this file is no installed module."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "math", "format": display})
    return config


class Roles(griffe.Extension):
    """Docstrings name others as Sphinx does; here they become code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(lambda role: f"`{role[1].removeprefix('dus_gym.')}`", obj.docstring.value)
