"""Read the words of a command line into options dataclasses: one reader, which records what was given.

    parsed = parse(words, "train", "Train one run.", TrainOptions, RunConfig, groups={"agent": AGENT})
    parsed.given(RunConfig)      # {"epochs": 3}: what was said, also where it equals the default
    parsed.build(TrainOptions)   # the whole dataclass
    parsed.group("agent")        # {"beta": 0.3}, from --agent.beta

Of two equal options the last wins. Fields are bool, int, float, str, ``Path``, tuples of these, and optional ones;
``NAME_OF`` becomes ``--name-of``, a bool a flag (``--flag`` and ``--no-flag``; help is silent of the latter where the
default is False). Metadata of a field says more: ``positional`` (True: a word without a dash), ``choices`` (names, or a
function that returns them, for help), ``name`` (another word than the field's), ``common`` (True, or shorter words:
``--help`` shows it; where any field of a command has it, the others are in ``--help-all`` alone). The docstring under a
field is its help.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from dus_gym.errors import ConfigError, unknown_name
from dus_gym.json_text import read_json
from dus_gym.options import build_options, option_table

T = TypeVar("T")
Given = Mapping[str, Any]
"""Values by name, ``epochs`` or ``agent.beta``, of options that were given."""
Owner = tuple[str, type[Any]]
"""Whose options ``--GROUP.NAME`` are, in words such as ``"agent 'score'"``, and their dataclass."""
PASSES = 5
"""Readings of one line until the groups that it names are the groups it was read with; two are usual."""


@dataclass(frozen=True)
class Group:
    """Options ``--GROUP.NAME``, which belong to what another option of the same line names.

    Args:
        named_by: the options that name it, such as ``("agent",)``. Help shows the group where one of them is given:
            a default's options would be imported with all their libraries.
        find: finds the owner in what is given; None if there is none.
    """

    named_by: tuple[str, ...]
    find: Callable[[Given], Owner | None]


@dataclass(frozen=True)
class Parsed:
    """Content of one command line, and a settings file beneath it.

    Args:
        values: what was given, by name: ``epochs``, ``agent.beta``.
        groups: dataclass of each group of options that the line has.
    """

    values: Given
    groups: Mapping[str, type[Any]]

    def build(self, kind: type[T]) -> T:
        """Return one of the command's dataclasses, defaults where nothing was given."""
        return build_options(kind, _of(kind, self.values), "option")

    def given(self, kind: type[Any]) -> dict[str, Any]:
        """Return the fields of one of the command's dataclasses that were given, typed."""
        built = self.build(kind)
        return {name: getattr(built, name) for name in _of(kind, self.values)}

    def group(self, name: str) -> dict[str, Any]:
        """Return the options ``--NAME.OPTION`` that were given, typed; none if the line has no such group."""
        if name not in self.groups:
            return {}
        kind = self.groups[name]
        chosen = _of(kind, self.values, f"{name}.")
        built = build_options(kind, chosen, f"option of {name}:")
        return {field: getattr(built, field) for field in chosen}


def read(kind: type[T], words: Sequence[str], command: str, description: str) -> T:
    """Return the dataclass of a command that has no other options; see :func:`parse`."""
    return parse(words, command, description, kind).build(kind)


def parse(
    words: Sequence[str],
    command: str,
    description: str,
    *kinds: type[Any],
    groups: Mapping[str, Group] | None = None,
    beneath: Callable[[Given], Given] | None = None,
    epilog: str = "",
) -> Parsed:
    """Return what the words behind a command say; ``--help`` prints the options and ends the process with 0.

    Args:
        words: everything behind the command.
        command: such as ``"data scan"``.
        description: one sentence, for help.
        kinds: dataclasses, whose fields are the options; no two have a field of the same name.
        groups: options whose names depend on the line, by the word before their dot.
        beneath: returns values that hold where the line says nothing, such as those of a settings file that the line
            names (:func:`read_settings`). Those of a group are dropped where the line names another agent, say.
        epilog: stands below the options of help.

    Raises:
        ConfigError: for an option or name that there is none of (with the nearest one), a value of another type, a
            word too many or one that is missing.
    """
    groups = groups or {}
    own = [option for i, kind in enumerate(kinds) for option in _options_of(kind, _title(kind) if i else "options")]
    found: dict[str, Owner] = {}
    for _ in range(PASSES):
        options = own + [
            option
            for name, (label, kind) in found.items()
            for option in _options_of(kind, f"options of {label}", f"{name}.")
        ]
        line = _read_line(options, words)
        below = {} if beneath is None else _kept(beneath(line.values), line.values, groups, options)
        values = {**below, **line.values}
        wanted = {name: group for name, group in groups.items() if not line.help or set(group.named_by) & set(values)}
        now = {name: owner for name, group in wanted.items() if (owner := group.find(values)) is not None}
        if now == found:
            break
        found = now
    else:
        raise ConfigError(f"{' '.join(words)!r} can be read in two ways; write --NAME=VALUE in place of --NAME VALUE.")
    if line.help:
        few = any(option.common for option in own) and not line.help_all
        shown = [_in_short(option) for option in options if option.common or "." in option.key] if few else options
        print(_parser(shown, command, description, epilog).format_help(), end="")
        if few:
            print(f"\ndus {command} --help-all shows {len(options) - len(shown)} options more.")
        for name in [] if few else [name for name in groups if name not in found]:
            by = " or ".join(option.flag for option in own if option.key in groups[name].named_by)
            print(f"\n--{name}.NAME: options of what {by} names; name it beside --help to see them.")
        sys.exit(0)
    _check_line(line, options, found, groups, words, command)
    known = {option.key: option for option in options}
    if wrong := [_with_nearest(key, known) for key in below if key not in known]:
        raise ConfigError(f"unknown settings in the file: {', '.join(wrong)}.")
    for option in options:
        if option.required and option.key not in values:
            raise ConfigError(f"dus {command} needs {option.flag}: {option.doc}")
    parsed = Parsed(values, {name: kind for name, (_, kind) in found.items()})
    for kind in kinds:
        parsed.build(kind)
    for name in found:
        parsed.group(name)
    return parsed


def read_settings(path: Path, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a YAML or JSON file of settings gives, such as a run's own ``config.json``, by option.

    An object under ``agent_options`` becomes ``agent.NAME``; the names in any other object stand for themselves.

    Args:
        path: the file.
        without: names in it that are left out, with all below them.

    Raises:
        ConfigError: for a file that is not there or holds no object.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config={path} can't be read ({error}); give a YAML or JSON file.") from error
    try:
        if path.suffix == ".json":
            found = read_json(text)
        else:
            # Aliases stand for other parts of the text: a few lines of them can be more than any memory holds.
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
                raise ValueError("aliases such as *name are not allowed")
            found = yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise ConfigError(f"config={path} is no {kind} ({' '.join(str(error).split())}); mend it.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"config={path} must hold names and values, such as 'epochs: 20'.")
    flat: dict[str, Any] = {}
    for key, value in found.items():
        if key in without:
            continue
        if not isinstance(value, dict):
            flat[str(key)] = value
            continue
        group = f"{key.removesuffix('_options')}." if str(key).endswith("_options") else ""
        flat |= {f"{group}{name}": child for name, child in value.items()}
    return flat


def dispatch(words: list[str], command: str, commands: Mapping[str, tuple[Callable[[list[str]], None], str]]) -> None:
    """Call the sub-command that the first word names, with the other words; ``--help`` lists them.

    Args:
        words: everything behind the command.
        command: such as ``"data"``.
        commands: name to the function and what it does.

    Raises:
        ConfigError: for another word, or none.
    """
    if not words or words[0] in ("-h", "--help"):
        width = max(map(len, commands)) + 2
        print(f"usage: dus {command} COMMAND [options]\n")
        print("".join(f"  {name:<{width}}{does}\n" for name, (_, does) in commands.items()))
        print(f"dus {command} COMMAND --help shows a command's options.")
        if not words:
            raise ConfigError(f"{command} needs a command: {', '.join(commands)}.")
        return
    if words[0] not in commands:
        raise unknown_name(f"{command} command", words[0], commands)
    commands[words[0]][0](words[1:])


# -- options of a dataclass --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Option:
    """One option, or one word without a dash."""

    key: str
    """Its name among the given values."""
    flag: str
    """``--name``; of a word without a dash what help calls it."""
    kind: Any
    many: bool
    positional: bool
    required: bool
    default: Any
    doc: str
    common: bool | str
    """True, or shorter words, if short help shows it."""
    choices: Any
    """Names, or a function that returns them; None: anything."""
    section: str

    def names(self) -> list[str]:
        """Return what it may be, where that is known."""
        return list(self.choices() if callable(self.choices) else self.choices or ())

    def help(self) -> str:
        """Return its docstring, with choices and default behind it."""
        notes = [f"one of {', '.join(self.names())}"] if self.choices is not None else []
        if self.kind is bool:
            notes += ["default: on"] if self.default is True else []
        elif not self.required and self.default not in (None, "", ()):
            notes.append(f"default: {' '.join(map(str, self.default)) if self.many else self.default}")
        return self.doc + (f" ({'; '.join(notes)})" if notes else "")


def _options_of(kind: type[Any], section: str, prefix: str = "") -> list[_Option]:
    hints, docs = typing.get_type_hints(kind), {row["name"]: row["doc"] for row in option_table(kind)}
    options = []
    for field in dataclasses.fields(kind):
        hint, positional = hints[field.name], bool(field.metadata.get("positional"))
        if typing.get_origin(hint) in (types.UnionType, typing.Union):
            hint = next(part for part in typing.get_args(hint) if part is not type(None))
        many = typing.get_origin(hint) is tuple
        word = field.metadata.get("name", field.name.replace("_", "-"))
        options.append(
            _Option(
                key=prefix + field.name,
                flag=word.upper() if positional else f"--{prefix}{word}",
                kind=typing.get_args(hint)[0] if many else hint,
                many=many,
                positional=positional,
                required=field.default is dataclasses.MISSING,
                default=field.default,
                doc=docs[field.name],
                common=field.metadata.get("common", False),
                choices=field.metadata.get("choices"),
                section=section,
            )
        )
    return options


def _in_short(option: _Option) -> _Option:
    """Return an option as short help has it: in its shorter words, without the names that a listing shows."""
    doc = option.common if isinstance(option.common, str) else option.doc
    section = option.section if "." in option.key else "options"
    return dataclasses.replace(option, doc=doc, section=section, choices=None if option.positional else option.choices)


def _title(kind: type[Any]) -> str:
    """The first part of a dataclass's docstring."""
    return re.split(r"[;.,:]", str(kind.__doc__))[0].lower()


def _of(kind: type[Any], values: Given, prefix: str = "") -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(kind)]
    return {name: values[prefix + name] for name in names if prefix + name in values}


# -- one line ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Line:
    """One reading of a line."""

    values: dict[str, Any]
    unknown: list[str]
    """Options that there are none of."""
    strays: list[str]
    """Words that belong to nothing."""
    help: bool
    help_all: bool


class _Switch(argparse.Action):
    """``--flag`` and ``--no-flag``, of which the first is True."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        """Keep which of the two was said."""
        setattr(namespace, self.dest, option_string == self.option_strings[0])


ELSEWHERE = {
    "--batch-size": ("--total-batch", "Did you mean --total-batch, the samples per iteration over all modalities?"),
    "--lr": (
        "--task.lr",
        "Did you mean --task.lr, the network's learning rate? --lr-scale multiplies it, by one number per modality.",
    ),
}
"""Options of other libraries: which of ours is nearest, and what to say where the command has that."""
ELSEWHERE["--learning-rate"] = ELSEWHERE["--lr"]
METAVARS = {int: "N", float: "X", Path: "PATH"}


def _parser(
    options: Sequence[_Option], command: str = "", description: str = "", epilog: str = ""
) -> argparse.ArgumentParser:
    """The parser of all options; with a command one whose help names the other words too."""
    usage = [option.flag if option.required else f"[{option.flag}]" for option in options if option.positional]
    usage += [f"{option.flag} {METAVARS.get(option.kind, 'WORD')}" for option in options if option.required
              and not option.positional]  # fmt: skip
    parser = argparse.ArgumentParser(
        usage=" ".join(["dus", command, *usage, "[options]"]),
        description=description,
        epilog=epilog,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28),
    )
    sections = {option.section: parser.add_argument_group(option.section) for option in options}
    parser.add_argument("-h", "--help", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--help-all", action="store_true", help=argparse.SUPPRESS)
    for option in sorted(options, key=lambda option: not option.positional):
        add, text = sections[option.section].add_argument, option.help().replace("%", "%%") if command else None
        if option.positional:
            if command:
                add(option.key, metavar=option.flag, nargs="*" if option.many else "?", help=text)
        elif option.kind is bool:
            head, dot, word = option.flag.rpartition(".") if "." in option.flag else ("--", "", option.flag[2:])
            negative = f"{head}{dot}no-{word}"
            if option.default is True:
                add(option.flag, negative, action=_Switch, nargs=0, dest=option.key, help=text)
            else:
                add(option.flag, action="store_true", dest=option.key, help=text)
                # For what a settings file or a data folder sets.
                add(negative, action="store_false", dest=option.key, help=argparse.SUPPRESS)
        else:
            metavar = METAVARS.get(option.kind, "WORD")
            add(option.flag, nargs="+" if option.many else None, metavar=metavar, dest=option.key, help=text)
    return parser


def _read_line(options: Sequence[_Option], words: Sequence[str]) -> _Line:
    """Read the options; what is left are the other words, in order, or options that there are none of."""
    try:
        namespace, left = _parser(options).parse_known_args(list(words))
    except argparse.ArgumentError as error:
        flag = str(error.argument_name).partition("/")[0]
        option = next((option for option in options if option.flag == flag), None)
        if option is None or option.kind is bool:
            raise ConfigError(f"{flag} takes no value; leave it out.") from error
        raise ConfigError(f"{flag} needs a value; write {flag} VALUE, or {flag}=VALUE if it begins with -.") from error
    end = left.index("--") if "--" in left else len(left)
    unknown = [word.partition("=")[0] for word in left[:end] if re.match(r"-[^\d.]", word)]
    strays = [word for word in left[:end] if not re.match(r"-[^\d.]", word)] + left[end + 1 :]
    said = vars(namespace)
    help_all = said.pop("help_all", False)
    wanted = said.pop("help", False) or help_all
    said |= _assign([option for option in options if option.positional], strays, not unknown)
    return _Line({option.key: _typed(option, said[option.key]) for option in options if option.key in said},
                 unknown, strays, wanted, help_all)  # fmt: skip


def _assign(positionals: Sequence[_Option], strays: list[str], certain: bool) -> dict[str, Any]:
    """Take the words without a dash out of ``strays``, by option.

    Args:
        positionals: what they may be, in order.
        strays: the words.
        certain: False: some are values of options that are not known yet, so that only a word is taken that is one of
            an option's choices, or several with commas between.
    """
    said: dict[str, Any] = {}
    room = len(strays) if any(option.many for option in positionals) else len(positionals)
    if not certain or len(strays) > room:
        for option in positionals:
            names = set(option.names())
            if named := [word for word in strays if names >= set(word.split(","))]:
                said[option.key] = named[-1]
                strays.remove(named[-1])
    if certain:
        for option in positionals:
            if option.key not in said and strays:
                said[option.key] = strays[:] if option.many else strays[0]
                del strays[: len(strays) if option.many else 1]
    return said


def _typed(option: _Option, said: Any) -> Any:
    if option.kind is bool:
        return said
    return tuple(_read_word(option, word) for word in said) if option.many else _read_word(option, said)


def _read_word(option: _Option, word: str) -> Any:
    if option.kind is Path and not word:
        raise ConfigError(f"{option.key}='' is not allowed; give a path.")
    try:
        return option.kind(word)
    except ValueError:
        wanted = "a whole number" if option.kind is int else "a finite number"
        raise ConfigError(f"{option.key}={word!r} is not allowed; it must be {wanted}.") from None


def _kept(below: Given, said: Given, groups: Mapping[str, Group], options: Sequence[_Option]) -> dict[str, Any]:
    """Leave out nulls of options that are unset by default, and the options of an agent, say, in whose place the line
    names another.
    """
    if not below:
        return {}
    unset = {option.key for option in options if option.default is None}
    below = {key: value for key, value in below.items() if value is not None or key not in unset}
    for key in [key for group in groups.values() for key in group.named_by]:
        if not isinstance(below.get(key, ""), str):
            raise ConfigError(f"{key}={below[key]!r} is not allowed; it must be text.")
    gone = {name for name, group in groups.items() if group.find(below) != group.find({**below, **said})}
    return {key: value for key, value in below.items() if key.partition(".")[0] not in gone or "." not in key}


# -- what a line can't say ---------------------------------------------------------------------------


def _check_line(
    line: _Line,
    options: Sequence[_Option],
    found: Mapping[str, Owner],
    groups: Mapping[str, Group],
    words: Sequence[str],
    command: str,
) -> None:
    """Raise ConfigError for options that there are none of, and for words too many."""
    for name in line.unknown:
        group = name.removeprefix("--").partition(".")[0]
        if group in groups and group not in found and line.strays:
            # Whose options these are is what another word names: it is that word that is not known.
            for option in options:
                if option.choices is not None and option.positional and option.key not in line.values:
                    names = option.names()
                    near = [word for word in line.strays if get_close_matches(word, names, 1, 0.5)]
                    raise unknown_name(option.key, (near or line.strays)[0], names)
    if line.unknown:
        said = "; ".join(_unknown(name, options, found, groups) for name in line.unknown)
        raise ConfigError(f"{said} `dus {command} --help-all` lists all options.")
    if line.strays:
        before = list(words[: words.index(line.strays[0])])
        takes = [option.flag for option in options if option.kind is not bool]
        flag = next((flag for flag in takes if before[-2:-1] == [flag]), None)
        values = ",".join([before[-1], *line.strays]) if flag else "a,b"
        raise ConfigError(
            f"{line.strays[0]!r} is one word too many"
            + (f": {flag} takes one" if flag else "")
            + f"; separate several by commas: {flag + ' ' if flag else ''}{values}."
        )


def _unknown(name: str, options: Sequence[_Option], found: Mapping[str, Owner], groups: Mapping[str, Group]) -> str:
    """One option that there is none of, and where there is one of that or a like name."""
    flags = [option.flag for option in options if not option.positional]
    group, _, tail = name.removeprefix("--").rpartition(".")
    near = [flag for flag in flags if flag.removeprefix("--").rpartition(".")[2] == tail]
    owned = {flag.rpartition(".")[2]: flag for flag in flags if flag.startswith(f"--{group}.")}
    if not near and group in found:
        near = [owned[word] for word in get_close_matches(tail, owned, 1, 0.6)]
        if not near:
            return f"unknown option {name!r}: {found[group][0]} has {', '.join(owned.values()) or 'no options'}."
    if name in ELSEWHERE:
        ours, said = ELSEWHERE[name]
        there = ours in flags or ours.removeprefix("--").partition(".")[0] in groups
        if there and near in ([], [ours]):
            return f"unknown option {name!r}. {said}"
    near = near or get_close_matches(name, flags, 1, 0.6)
    return f"unknown option {name!r}." + (f" Did you mean {' or '.join(near)}?" if near else "")


def _with_nearest(key: str, known: Collection[str]) -> str:
    """A key of a file that there is none of, and the keys of that name elsewhere or the nearest one."""
    elsewhere = ELSEWHERE.get(f"--{key.replace('_', '-')}", ("",))[0].removeprefix("--").replace("-", "_")
    near = [name for name in known if name == elsewhere or name.rpartition(".")[2] == key]
    near = near or get_close_matches(key, list(known), 1, 0.5)
    return f"{key!r}" + (f" (did you mean {' or '.join(map(repr, near))}?)" if near else "")
