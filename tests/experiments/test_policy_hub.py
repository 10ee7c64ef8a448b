"""Policies on the hub: what is published comes back to the same bits, and what can't be is refused in one line."""

import json
import re
import shlex
import sys

import gymnasium as gym
import numpy as np
import pytest
from command import dus
from hub_server import Hub, local_hub, running

import dus_gym
from dus_gym.agents import policy_files
from dus_gym.agents.policy_files import agent_from_policy, policy_path, shipped_policies
from dus_gym.agents.sb3 import make_sb3
from dus_gym.errors import CheckpointError, ConfigError, FetchError, NotOnHubError
from dus_gym.experiments.drivers import split_word
from dus_gym.experiments.spec import make_spec
from dus_gym.hub import HubFile

GAIN = shipped_policies()["gain"].read_bytes()
FILE = "policy.safetensors"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with local_hub(tmp_path, monkeypatch) as found:
        yield found


@pytest.fixture
def reinforce():
    """An agent that has learned a little, on three modalities."""
    agent = dus_gym.make_agent("reinforce", 3, seed=4, lr=0.1)
    dus_gym.run_episode(gym.make("DUS-Digits3-v0", trainer="fake", epochs=5), agent, seed=0)
    agent.policy_lever = "samples"
    return agent


@pytest.fixture
def sb3(tmp_path):
    """A model of stable-baselines3 and its file."""
    model = make_sb3("ppo", gym.make("DUS-Fake-v0", epochs=3), horizon=3)
    model.save(tmp_path / "model.zip")
    return model, tmp_path / "model.zip"


def test_a_file_comes_back_to_the_same_bits_and_its_card_says_what_it_is(hub):
    commit = dus_gym.push_to_hub("gain", "someone/gain")
    assert hub.file("model", "someone/gain", FILE, commit) == GAIN
    agent = dus_gym.load_from_hub("someone/gain", num_modalities=4)
    with_file = agent_from_policy("gain", 4)
    scores, info = np.array([0.1, 0.9, 0.4, 0.5]), {"epoch": 3, "epochs": 10}
    np.testing.assert_array_equal(agent.act(scores, info), with_file.act(scores, info))
    card = hub.file("model", "someone/gain", "README.md").decode()
    for part in (
        "library_name: dus-gym\n",
        "# gain\n",
        "| agent | `transfer` |",
        "| modalities | any number |",
        "| lever | samples: how many samples each modality gets |",
        "| trained on | DUS-Digits-v0, DUS-DigitsControl-v0, DUS-Digits3-v0 (360 runs; seeds 100 to 119; ",
        "```sh\ndus meta-train DUS-Digits-v0,DUS-DigitsControl-v0,DUS-Digits3-v0 --runs 360 ",
        "dus train DUS-Digits-v0 --policy hf://someone/gain\n",
        "| DUS-Digits-v0 | 1.246 | 1.178 | 81.1 | 78.8 |",
    ):
        assert part in card


def test_an_agent_comes_back_as_it_stood(hub, reinforce):
    dus_gym.push_to_hub(reinforce, "someone/r", filename="sub/r.safetensors", trained_on="mine", command="python m.py")
    again = dus_gym.load_from_hub("someone/r", "sub/r.safetensors")
    scores = np.array([0.2, 0.7, 0.4])
    for _ in range(3):  # draws from the policy, by the generator that was saved
        np.testing.assert_array_equal(again.act(scores, {}), reinforce.act(scores, {}))
    card = hub.file("model", "someone/r", "README.md").decode()
    assert "| modalities | 3 |" in card
    assert "| trained on | mine |" in card
    assert "```sh\npython m.py\n```" in card
    assert 'load_from_hub("someone/r", "sub/r.safetensors", num_modalities=3)' in card


def test_the_command_on_the_card_of_a_run_s_policy_trains_it_again_to_the_same_bits(hub, tmp_path):
    words = ("DUS-Fake-v0", "--agent", "reinforce", "--agent.lr", ".2", "--epochs", "4", "--seed", "3", "--quiet")
    dus("train", *words, "--out", "first", cwd=tmp_path, check=0)
    printed = dus("push", f"first/{FILE}", "someone/run", "--json", cwd=tmp_path, check=0).stdout
    said = json.loads(printed.splitlines()[-1])
    assert said["address"] == f"hf://someone/run@{said['commit']}/{FILE}"
    card = hub.file("model", "someone/run", "README.md").decode()
    assert "| trained on | DUS-Fake-v0, baseline under reinforce:lr=0.2, seed 3 |" in card
    (command,) = re.findall(r"^dus train DUS-Fake-v0 --agent .*", card, re.MULTILINE)
    dus(*shlex.split(command)[1:], "--quiet", "--out", "again", cwd=tmp_path, check=0)
    assert (tmp_path / "again" / FILE).read_bytes() == hub.file("model", "someone/run", FILE)


def test_an_address_is_a_policy_wherever_a_file_is_one(hub, tmp_path):
    (tmp_path / FILE).write_bytes(GAIN)
    hub.commit("model", "someone/gain", {FILE: GAIN})

    def figures(*words):
        done = dus("train", "DUS-Fake-v0", "--epochs", "12", "--alone", "--json", *words, cwd=tmp_path, check=0)
        found = json.loads(done.stdout.splitlines()[-1])
        return found["fused"], found["modalities"]

    from_file = figures("--policy", FILE)
    assert figures("--policy", "hf://someone/gain") == from_file
    assert figures("--policy", f"hf://someone/gain@main/{FILE}") == from_file
    assert figures("--agent", "transfer:policy=hf://someone/gain") == from_file
    assert figures() != from_file
    found = dus_gym.compare("DUS-Fake-v0", ["hf://someone/gain", "gain"], seeds=2, epochs=12).parts[0].agents
    assert found["hf://someone/gain"].by_seed == found["gain"].by_seed
    assert dus_gym.DUS(["a", "b"], agent="hf://someone/gain", epochs=12).agent.name == "transfer"


@pytest.mark.parametrize(
    ("word", "mark", "found"),
    [
        ("hf://a/b", ":", ("hf://a/b", {})),
        ("hf://a/b@v1/c.safetensors:learn=True", ":", ("hf://a/b@v1/c.safetensors", {"learn": True})),
        ("transfer:policy=hf://a/b/c:learn=True", ":", ("transfer", {"policy": "hf://a/b/c", "learn": True})),
        ("hf://a/b/c/learn=True", "/", ("hf://a/b/c", {"learn": True})),
    ],
)
def test_the_colon_of_an_address_begins_no_option(word, mark, found):
    assert split_word(word, mark) == found


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("hf://a/b", HubFile("a/b", FILE)),
        ("hf://a/b@v1.0", HubFile("a/b", FILE, "v1.0")),
        ("hf://a/b@refs%2Fpr%2F1/c/d.safetensors", HubFile("a/b", "c/d.safetensors", "refs/pr/1")),
        ("hf://datasets/a/b/d.csv", HubFile("a/b", "d.csv", kind="dataset")),
    ],
)
def test_addresses(address, file):
    assert HubFile.of(address, FILE) == file
    assert HubFile.of(str(file), "other") == file


@pytest.mark.parametrize(
    "address", ["hf://", "hf://a", "hf://a/", "hf://a/b@/c", "hf://a/b/../c", "hf://a/b//c", "hf:///a/b"]
)
def test_an_address_of_another_form_is_refused(address):
    with pytest.raises(ConfigError, match=r"is no address on the hub .* Write hf://OWNER/NAME/FILE"):
        HubFile.of(address, FILE)


# -- what can't be -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("hf://someone/wrong", NotOnHubError, "no such repository, or not for you; check OWNER/NAME, and log in"),
        ("hf://someone/gain@v9", NotOnHubError, "no such revision"),
        ("hf://someone/gain/other.safetensors", NotOnHubError, "no such file"),
        ("hf://someone/gain/README.md", CheckpointError, r"only \.safetensors files are read from the hub"),
        ("hf://someone/gain/text.safetensors", CheckpointError, "is damaged or not a policy"),
        ("hf://someone/gain/flipped.safetensors", CheckpointError, "by its checksum"),
        ("hf://someone/gain/zip.safetensors", CheckpointError, "is a ZIP file, which may hold pickles"),
        ("hf://someone/gain/large.safetensors", ConfigError, "has 65,000 bytes, and at most 60,000 are read here"),
    ],
)
def test_what_is_no_policy_is_refused_in_one_line(hub, sb3, monkeypatch, tmp_path, address, error, message):
    flipped = bytearray(GAIN)
    flipped[-3] ^= 1
    monkeypatch.setattr(policy_files, "MOST_BYTES", 60_000)
    hub.commit("model", "someone/gain", {
        FILE: GAIN, "README.md": b"words", "text.safetensors": b"words" * 10, "large.safetensors": bytes(65_000),
        "flipped.safetensors": bytes(flipped), "zip.safetensors": sb3[1].read_bytes(),
    })  # fmt: skip
    with pytest.raises(error, match=message) as caught:
        # Trust is for files of one's own: what the hub holds anybody may have written.
        agent_from_policy(address, 2, trust=True)
    assert "\n" not in str(caught.value)
    assert not any(one.startswith("GET") and "large" in one for one in hub.requests)
    done = dus("train", "DUS-Fake-v0", "--policy", address, cwd=tmp_path)
    assert done.returncode == (2 if issubclass(error, ConfigError) else 1)
    assert len(done.stderr.splitlines()) == 1


def test_a_policy_of_another_lever_or_number_of_modalities_is_refused(hub, reinforce):
    reinforce.policy_lever = "rates"
    dus_gym.push_to_hub(reinforce, "someone/rates")
    assert (
        "| lever | rates: each modality's learning rate |" in hub.file("model", "someone/rates", "README.md").decode()
    )
    with pytest.raises(ConfigError, match=r"was learned under lever='rates' and this run has lever='samples'"):
        make_spec("DUS-Digits3-v0", policy="hf://someone/rates").check()
    with pytest.raises(ConfigError, match=r"not allowed with this policy, which was learned under 'rates'"):
        dus_gym.DUS(["a", "b", "c"], agent="hf://someone/rates")
    with pytest.raises(ConfigError, match="for 3 modalities, and this task has 2"):
        dus_gym.load_from_hub("someone/rates", num_modalities=2)


def test_nothing_that_holds_pickles_is_published(hub, sb3):
    model, file = sb3
    driver = make_spec("DUS-Fake-v0", "ppo").make_agent(2)
    for policy, error in ((file, CheckpointError), (model, ConfigError), (driver, ConfigError)):
        with pytest.raises(error, match="saves a model as pickles, whose loading can run code"):
            dus_gym.push_to_hub(policy, "someone/sb3")
    with pytest.raises(ConfigError, match="policy=dict is not allowed: give an agent, or the path"):
        dus_gym.push_to_hub({}, "someone/sb3")
    with pytest.raises(ConfigError, match=r"end in \.safetensors"):
        dus_gym.push_to_hub("gain", "someone/sb3", filename="policy.zip")
    with pytest.raises(ConfigError, match="write OWNER/NAME"):
        dus_gym.push_to_hub("gain", "gain")
    assert hub.requests == []


def test_a_readme_of_somebody_s_own_is_not_replaced(hub):
    hub.commit("model", "someone/else", {"README.md": b"---\nlicense: mit\n---\nnot about dus-gym"})
    with pytest.raises(ConfigError, match=r"README\.md that is no card of a policy"):
        dus_gym.push_to_hub("gain", "someone/else")
    dus_gym.push_to_hub("gain", "someone/else", card=False)
    assert hub.file("model", "someone/else", "README.md").endswith(b"not about dus-gym")
    for policy in ("gain", "gap"):  # a card of ours is
        dus_gym.push_to_hub(policy, "someone/own", revision="trial")
    assert b"--runs 600" in hub.file("model", "someone/own", "README.md", "trial")
    assert FILE not in hub.at("model", "someone/own", hub.repos["model", "someone/own"][0][0][0])[1]


def test_who_may_not_write_is_told_to_log_in(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(FetchError, match=r"lets you write nothing there \(HTTP 401\).*hf auth login, or HF_TOKEN"):
        dus_gym.push_to_hub("gain", "someone/gain")
    assert hub.repos == {}


def test_without_the_library_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    done = dus("train", "DUS-Fake-v0", "--policy", "hf://a/b", cwd=tmp_path, check=2)
    assert done.stderr == (
        'dus: the Hugging Face hub needs huggingface_hub, which is not installed: pip install "dus-gym[hub]".\n'
    )


# -- how often the hub is asked ----------------------------------------------------------------------


def test_a_run_asks_the_hub_once_and_loading_asks_anew(hub, tmp_path):
    hub.commit("model", "someone/gain", {FILE: GAIN})
    dus("compare", "DUS-Fake-v0", "--agents", "hf://someone/gain", "--seeds", "2", "--epochs", "2", "--quiet",
        cwd=tmp_path, check=0)  # fmt: skip
    assert len([one for one in hub.requests if one.startswith("GET")]) == 1
    assert len(hub.requests) <= 3  # two for its size and its commit
    other = shipped_policies()["gap"].read_bytes()
    hub.commit("model", "someone/gain", {FILE: other})
    assert policy_path("hf://someone/gain").read_bytes() == GAIN
    dus_gym.load_from_hub("someone/gain")
    assert policy_path("hf://someone/gain").read_bytes() == other


def test_a_run_does_not_go_on_with_another_policy_behind_its_address(hub, tmp_path):
    hub.commit("model", "someone/gain", {FILE: GAIN})
    words = ("train", "DUS-Fake-v0", "--policy", "hf://someone/gain", "--epochs", "2", "--quiet", "--out", "run")
    dus(*words, cwd=tmp_path, check=0)
    dus(*words, "--resume", cwd=tmp_path, check=0)
    hub.commit("model", "someone/gain", {FILE: shipped_policies()["gap"].read_bytes()})
    dus_gym.load_from_hub("someone/gain")  # another process would ask anew by itself
    assert "agent_digest" in dus(*words, "--resume", cwd=tmp_path, check=2).stderr


def test_an_earlier_copy_serves_where_the_hub_is_away(hub, monkeypatch):
    commit = hub.commit("model", "someone/gain", {FILE: GAIN})
    dus_gym.load_from_hub("someone/gain")
    before = len(hub.requests)
    dus_gym.load_from_hub("someone/gain", revision=commit)
    assert len(hub.requests) == before, "a commit never changes: its copy needs no hub"
    with running(Hub()) as gone:
        pass
    monkeypatch.setenv("HF_ENDPOINT", gone)
    assert dus_gym.load_from_hub("someone/gain", num_modalities=2).name == "transfer"
    with pytest.raises(
        FetchError, match=r"is not reachable .*, and there is no copy from an earlier time; check"
    ) as it:
        dus_gym.load_from_hub("someone/other")
    assert "\n" not in str(it.value)
