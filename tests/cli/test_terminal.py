"""What `dus train` and `dus compare` show on a terminal of 80 and of 120 columns, and through a pipe."""

import io
import re
import shlex

import pytest
from command import dus
from rich.console import Console
from terminal import on_terminal, screen

from dus_gym.cli.tables import print_command, print_prose

COMPARE = ("compare", "DUS-Fake-v0,DUS-Digits-v0", "--trainer", "fake", "--epochs", 3, "--seeds", 6, "--out", "c",
           "--force", "--agents", "half,reinforce:policy=literal,lr-matched")  # fmt: skip
TRAIN = ("train", "DUS-Digits-v0", "--trainer", "fake", "--epochs", 3, "--agent", "score", "--agent.rule", "softmax",
         "--loss-norm", "fixed", "--min-fraction", .25, "--force", "--out",
         "a/folder/whose/name/is/as/long/as/those/below/runs")  # fmt: skip
WIDTHS = (80, 120)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The screen of a command at a width, and its text through a pipe."""
    folder = tmp_path_factory.mktemp("terminal")
    wanted = [(width, words) for width in WIDTHS for words in (TRAIN, COMPARE)]
    found = {(words[0], width): one for (width, words), one in zip(wanted, on_terminal(wanted, folder), strict=True)}
    for words in (TRAIN, COMPARE):
        found[words[0], "pipe"] = dus(*words, cwd=folder, check=0).stdout
    return found


def words_of(text):
    """Words, in order of the alphabet: a table sets its cells in another order where it breaks them.

    The mark that a command goes on in the next line is none, and a name of an agent may be broken behind its colon.
    """
    return sorted(re.sub(r"[\d.]+ s\b", "", text.replace(" \\\n", "\n")).replace(":", ": ").split())


def test_the_terminal_of_these_tests_does_what_terminals_do():
    sent = "one\r\n\x1b[1mtwo\x1b[0m\r\x1b[2K\x1b[1A\rab\r\n\x1b[?25lthree and more\r\x1b[2Kthree\x1b[?25h\r\n"
    assert screen(sent) == ("abe\nthree\n", 14, {"1"})


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_terminal_cuts_no_word_and_no_line_is_wider(shown, command, width):
    text, widest, colours = shown[command, width]
    assert widest <= width
    assert "1" in colours, "the sentence that matters is bold"
    # A word that is cut in two is two other words.
    assert words_of(text) == words_of(shown[command, "pipe"])


@pytest.mark.parametrize("medium", [*WIDTHS, "pipe"])
@pytest.mark.parametrize("command", ["train", "compare"])
def test_no_p_is_printed_as_zero_and_blank_lines_stand_between_the_parts(shown, command, medium):
    text = shown[command, medium] if medium == "pipe" else shown[command, medium].text
    assert not re.search(r"p\s*[=<]?\s*0?\.000", text)
    assert "\n\n\n" not in text
    if command == "train":
        assert text.count("\n\n") - text.endswith("\n\n") == 1, "one before the sentence"
        assert "\n\nscore:rule=softmax reached " in text
    else:
        for part in ("DUS-Digits-v0, baseline. Verdict: ", "Verdict on all: ", "written to c"):
            assert text.count(f"\n\n{part}") == 1
        assert text.startswith("DUS-Fake-v0, baseline. Verdict: ")


@pytest.mark.parametrize("command", ["train", "compare"])
def test_through_a_pipe_there_is_no_code_and_a_record_is_a_line(shown, command):
    text = shown[command, "pipe"]
    assert "\x1b" not in text
    assert "\r" not in text
    cells = [line.split("\t") for line in text.splitlines() if "\t" in line]
    fused = [f"fused, {name}" for name in ("method", "concat", "sum", "entropy")]
    agents = ["agent", "uniform", "half", "half, at equal samples", "reinforce:policy=literal", "lr-matched"]
    names = {"train": ["test split", "pixels", "columns", *fused], "compare": 2 * agents}[command]
    assert [row[0] for row in cells] == names
    assert {len(row) for row in cells} == {6}
    sentences = [line for line in text.splitlines() if line and "\t" not in line]
    assert all(re.match(r"[A-Z]|gap |score:|written to |next: ", line) for line in sentences), "none is broken"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_next_command_is_pasted_as_it_is_printed(shown, width):
    (line,) = [line for line in shown["train", "pipe"].splitlines() if line.startswith("next: ")]
    pasted = shown["train", width].text.partition("\nnext: ")[2]
    assert ("\\\n" in pasted) == (len(line) > width)
    assert shlex.split(pasted.replace("\\\n", "")) == shlex.split(line.removeprefix("next: "))


def test_what_is_wider_than_the_terminal_stays_whole():
    console = Console(file=io.StringIO(), force_terminal=True, width=40, color_system=None)
    path = "/".join(["folder"] * 9)
    print_prose(console, f"written to {path}, and so on")
    print_command(console, "next: ", shlex.join(["dus", "report", "a folder", "--out", path]))
    assert console.file.getvalue().splitlines() == [
        "written to", f"{path},", "and so on",
        "next: dus report 'a folder' --out \\", f"      {path}",
    ]  # fmt: skip


JARGON = r"N_B|a_j|ŝ\w*|Eqs?\.|Algorithm|pathwise|literal|logits?|simplex|surrogate|advantage|Holm|MAP|entropy|softmax"
"""Nobody knows these words who has not read the paper, or a book on reinforcement learning."""


@pytest.mark.parametrize("command", ["train", "compare"])
def test_help_is_a_screen_in_plain_words(command, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = dus(command, "--help", cwd=tmp_path, check=0).stdout
    words = re.findall(r"[^\s(),;:]+", text)
    jargon = [word for word in words if re.fullmatch(JARGON, word)]
    assert len(words) > 100
    assert len(jargon) / len(words) < 0.02, jargon
    assert len(text.splitlines()) <= 45
    assert re.fullmatch(JARGON, "Eq.")
    assert re.fullmatch(JARGON, "N_B")
