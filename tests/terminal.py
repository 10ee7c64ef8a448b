"""The command line on a pseudo terminal: what stays on the screen, and how wide it ever was."""

import json
import os
import pty
import re
import subprocess
import sys
from typing import NamedTuple

CHILD = """
import fcntl, json, struct, sys, termios
from dus_gym.cli import main

for width, words in json.loads(sys.argv[1]):
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    try:
        main(words)
    except SystemExit as end:
        assert not end.code, end.code
    print("\\x1b]end\\x07", end="", flush=True)
"""
"""Every command sees a terminal of its own width; a process per command would import everything anew."""
_CODES = re.compile(r"\x1b\[\??([0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Screen(NamedTuple):
    text: str
    """What stays, without colours."""
    widest: int
    """Columns of the widest line, of a progress bar that is gone too."""
    colours: set[str]


def screen(raw):
    """What a terminal without end shows of the bytes that were sent to it."""
    lines, y, x, widest, colours = [""], 0, 0, 0, set()
    place = 0
    while place < len(raw):
        found = _CODES.match(raw, place)
        assert found, f"a code that this terminal does not know: {raw[place : place + 20]!r}"
        place = found.end()
        number, letter, move, text = found.groups()
        if text:
            lines[y] = lines[y].ljust(x)[:x] + text + lines[y][x + len(text) :]
            x += len(text)
            widest = max(widest, len(lines[y].rstrip()))
        elif move == "\r":
            x = 0
        elif move == "\n":  # the terminal's driver sends \r before it
            y += 1
            lines += [""] * (y == len(lines))
        elif letter == "m":
            colours.add(number)
        elif letter == "K":
            lines[y] = "" if number == "2" else lines[y][:x]
        elif letter == "A":
            y -= int(number or 1)
        else:
            assert letter in "hl", f"a code that this terminal does not know: {found[0]!r}"
    return Screen("\n".join(line.rstrip() for line in lines), widest, colours - {"0", ""})


def on_terminal(commands, cwd):
    """The screens of ``dus`` commands, ``(width, words)`` each, run one after another on a terminal."""
    own, theirs = pty.openpty()
    said = [(width, [str(word) for word in words]) for width, words in commands]
    hidden = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE")
    env = {name: value for name, value in os.environ.items() if name not in hidden} | {"TERM": "xterm-256color"}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(said)], cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    sent = b""
    with open(own, "rb", buffering=0) as terminal:
        while True:
            try:
                part = terminal.read(65536)
            except OSError:  # how a terminal says that nobody is left who writes to it
                break
            if not part:
                break
            sent += part
    *parts, rest = sent.decode().split("\x1b]end\x07")
    assert child.wait() == 0, rest
    assert len(parts) == len(said), rest
    return [screen(part) for part in parts]
