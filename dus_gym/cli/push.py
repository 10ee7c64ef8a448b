"""``dus push``: a policy to the Hugging Face hub."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from dus_gym.agents.policy_files import ON_HUB
from dus_gym.cli.arguments import read
from dus_gym.cli.console import open_console
from dus_gym.cli.tables import print_command, print_line
from dus_gym.hub import HubFile


@dataclass(frozen=True)
class PushOptions:
    """The policy and its place."""

    policy: str = field(metadata={"positional": True})
    """A file of `dus meta-train` or of a run that learned, or the name of a policy that comes with the package."""
    repo: str = field(metadata={"positional": True})
    """OWNER/NAME on the hub; made if it is not there."""
    filename: str = ON_HUB
    """The policy's name in the repository."""
    revision: str | None = None
    """The branch; main if not given."""
    private: bool = False
    """Make a new repository private."""
    card: bool = True
    """Also write the model card, the repository's README.md."""
    trained_on: str | None = None
    """For the card: the tasks it was trained on, where its file or its run's folder does not say."""
    command: str | None = None
    """For the card: the command that trains it again, where its file or its run's folder does not say."""
    quiet: bool = False
    """Print nothing but errors and the --json line."""
    json: bool = False
    """Print the result as one JSON object on the last line."""


def main(words: list[str]) -> None:
    """Publish the policy and print the address of exactly this one."""
    options = read(PushOptions, words, "push", "Publish a policy on the Hugging Face hub.")

    from dus_gym.experiments.policy_hub import push_to_hub

    commit = push_to_hub(
        options.policy,
        options.repo,
        filename=options.filename,
        revision=options.revision,
        private=options.private,
        card=options.card,
        trained_on=options.trained_on,
        command=options.command,
    )
    address = str(HubFile(options.repo, options.filename, commit))
    console = open_console(quiet=options.quiet)
    print_line(console, f"published: {address}")
    print_command(console, "next: ", f"dus train ENV --policy {address}")
    if options.json:
        print(json.dumps({"repo_id": options.repo, "commit": commit, "address": address}))
