"""Text to token ids: BERT's and CLIP's vocabularies from disk, presets, truncation, batches."""

import json
import pickle

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from dus_gym.data.media.text import CLEANERS
from dus_gym.data.media.tokens import TokenBatch, TokenDecoder, load_vocabulary, text_row
from dus_gym.data.store import open_store
from dus_gym.encoders import pretrained
from dus_gym.errors import ConfigError, DatasetNotFoundError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "our", "team", "is", "pro", "##ud", "$", "t", "!"]
PAD, UNK, CLS, SEP = range(4)


@pytest.fixture
def bert(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n")
    return path


@pytest.fixture
def clip(tmp_path):
    """A vocabulary built as CLIP's: pairs of bytes, a start and an end, nothing for padding."""
    words = {"!": 0, "a</w>": 1, "b</w>": 2, "<|startoftext|>": 3, "<|endoftext|>": 4}
    tokenizer = Tokenizer(models.BPE(words, [], end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("<|endoftext|>", 4), ("<|startoftext|>", 3))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def ids_of(vocabulary, text, target="", **options):
    decoder = TokenDecoder(load_vocabulary(str(vocabulary)), **{"length": 12, **options})
    ids = decoder(text_row("s", text, target))
    assert ids.shape == decoder.fixed_shape
    assert ids.dtype == np.dtype(decoder.dtype)
    return ids.tolist()


def test_text_is_lower_cased_split_into_wordpieces_and_padded_behind(bert):
    assert ids_of(bert, "Our TEAM is proud!") == [CLS, 4, 5, 6, 7, 8, 11, SEP, *[PAD] * 4]
    assert ids_of(bert, "") == [CLS, SEP, *[PAD] * 10]
    assert ids_of(bert, "☂") == [CLS, UNK, SEP, *[PAD] * 9]


def test_a_target_is_the_second_segment(bert):
    assert ids_of(bert, "$T$ is proud", "our team") == [CLS, 9, 10, 9, 6, 7, 8, SEP, 4, 5, SEP, PAD]


def test_too_long_a_text_loses_its_end_and_keeps_separator_and_target(bert):
    assert ids_of(bert, "our team is proud !", length=6) == [CLS, 4, 5, 6, 7, SEP]
    assert ids_of(bert, "our team is proud !", "team", length=8) == [CLS, 4, 5, 6, 7, SEP, 5, SEP]


def test_without_special_tokens_there_are_only_wordpieces(bert):
    assert ids_of(bert, "our team is", special=False, length=4) == [4, 5, 6, PAD]
    assert ids_of(bert, "our team is proud", special=False, length=4) == [4, 5, 6, 7]


def test_a_vocabulary_with_capitals_keeps_them(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*WORDS, "Our"]) + "\n")
    assert ids_of(tmp_path, "Our our", length=4) == [CLS, 12, 4, SEP]


def test_clip_has_a_start_an_end_and_zeros_behind(clip):
    assert ids_of(clip, "a b a", length=8) == [3, 1, 2, 1, 4, 0, 0, 0]
    assert ids_of(clip, "a b a b a b", length=5) == [3, 1, 2, 1, 4]
    assert load_vocabulary(str(clip)).sep == 0


def test_a_folder_saved_by_transformers_gives_the_same_ids(bert, tmp_path):
    from transformers import BertTokenizerFast

    theirs = BertTokenizerFast(str(bert))
    theirs.save_pretrained(tmp_path / "saved")
    text, target = "Our team is proud of $T$!", "our team"
    expected = theirs(text, target, max_length=10, truncation="longest_first")["input_ids"]
    assert ids_of(tmp_path / "saved", text, target, length=10) == expected
    assert ids_of(bert, text, target, length=10) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["[UNK]", "[PAD]", "[CLS]", "[SEP]"], "at another place than 0"),
        (["[PAD]", "[UNK]", "a"], "can't be read"),
        (["[UNK]", "[CLS]", "[SEP]"], r"kind WordPiece without \[PAD\]"),
    ],
)
def test_a_vocabulary_that_encoders_can_not_be_fed_from_is_refused(tmp_path, words, message):
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(ConfigError, match=message):
        load_vocabulary(str(tmp_path / "vocab.txt"))


def test_other_kinds_and_damaged_files_are_refused(tmp_path):
    Tokenizer(models.WordLevel({"a": 0}, "a")).save(str(tmp_path / "other.json"))
    with pytest.raises(ConfigError, match="kind WordLevel; the text encoders take BERT's and CLIP's"):
        load_vocabulary(str(tmp_path / "other.json"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match=r"broken\.json can't be read"):
        load_vocabulary(str(tmp_path / "broken.json"))


def test_what_is_not_there_is_named_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(pretrained, "_unreachable", lambda url: pytest.fail("asked the network"))
    with pytest.raises(
        DatasetNotFoundError, match="tokenizer='dus-gym-tests/none' is not in the local cache"
    ) as caught:
        load_vocabulary("dus-gym-tests/none")
    assert "hf download dus-gym-tests/none" in str(caught.value)
    assert "tokenizer=FOLDER" in str(caught.value)
    with pytest.raises(DatasetNotFoundError, match=r"has no tokenizer\.json and no vocab\.txt"):
        load_vocabulary(str(tmp_path))
    with pytest.raises(DatasetNotFoundError, match=r"there is no file .*words\.txt"):
        load_vocabulary(str(tmp_path / "words.txt"))
    with pytest.raises(DatasetNotFoundError, match=r"there is no folder .*nowhere\. Give a tokenizer\.json"):
        load_vocabulary(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("preset", "text", "expected"),
    [
        ("plain", "RT @a: $T$ 50% - ok/no", "RT @a: $T$ 50% - ok/no"),
        ("bss_words", "RT @ab: $T$'s 2nd x_y # Fun 9", "rt ab t s fun"),
        ("bss_words", "w " * 30, " ".join(["w"] * 20)),
        ("bss_caption", "Such 'fun' (not)! co-op/club  <person> #yes", "such fun not co op club person yes"),
        ("bss_caption", "w " * 60, " ".join(["w"] * 50)),
    ],
)
def test_presets_clean_text_as_their_repositories_do(preset, text, expected):
    assert CLEANERS[preset](text) == expected


def test_a_store_of_text_needs_no_files_and_depends_on_all_that_changes_ids(bert, tmp_path):
    rows = [text_row(f"s{i}", text) for i, text in enumerate(("our team", "is proud", "our team"))]
    base = TokenDecoder(load_vocabulary(str(bert)), length=8)
    store = open_store(tmp_path / "cache", "tweets", base, rows)
    assert store.gather(["s0", "s2", "s1"])[:, 1].tolist() == [4, 4, 6]
    others = [
        TokenDecoder(base.vocabulary, length=9),
        TokenDecoder(base.vocabulary, length=8, clean="bss_words"),
        TokenDecoder(base.vocabulary, length=8, special=False),
    ]
    (tmp_path / "other.txt").write_text("\n".join([*WORDS, "more"]))
    others.append(TokenDecoder(load_vocabulary(str(tmp_path / "other.txt")), length=8))
    paths = {open_store(tmp_path / "cache", "tweets", decoder, rows).path for decoder in (base, *others)}
    assert len(paths) == 5
    # Worker processes get the decoder pickled.
    again = pickle.loads(pickle.dumps(base))
    assert again(rows[1]).tolist() == base(rows[1]).tolist()
    assert json.loads(rows[0].payload) == ["our team", ""]


def test_batches_are_cut_to_their_longest_text_in_steps_of_eight():
    ids = np.zeros((3, 21), np.int32)
    ids[0, :3] = 5
    keys, cpu = np.zeros(3, np.uint64), torch.device("cpu")
    assert TokenBatch()(ids, keys, True, cpu).tolist() == ids[:, :8].tolist()
    ids[1, :9] = 6
    found = TokenBatch()(ids, keys, False, cpu)
    assert found.dtype == torch.int64
    assert found.shape == (3, 16)
    ids[2, :20] = 7
    assert TokenBatch()(ids, keys, False, cpu).shape == (3, 21)
    assert TokenBatch()(np.zeros((2, 21), np.int32), keys, False, cpu).shape == (2, 8)
