"""BERT and CLIP against transformers' own answers on text as it comes: unpadded, one by one."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel

from dus_gym.data.media.tokens import TokenBatch
from dus_gym.encoders import build_encoder
from dus_gym.encoders.bert import attended, segments
from dus_gym.encoders.tokens import last_token, padded_length
from dus_gym.errors import ConfigError

CLS, SEP = 101, 102


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    """A checkpoint as transformers saves one: two layers, 120 tokens."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=120, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=40, initializer_range=0.5,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bert")
    BertModel(config).save_pretrained(folder)
    return folder


def clip_model(eos=119):
    torch.manual_seed(0)
    text = {
        "vocab_size": 120, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 20, "eos_token_id": eos, "bos_token_id": 118,
        "initializer_range": 0.5, "projection_dim": 12,
    }  # fmt: skip
    image = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": 24, "patch_size": 8, "projection_dim": 12,
    }  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=12, initializer_factor=5.0))


@pytest.fixture(scope="module", params=[119, 2], ids=["eos-by-id", "eos-by-argmax"])
def clip_folder(request, tmp_path_factory):
    """Configurations before transformers 4.31 say eos_token_id=2, whereupon the largest id counts as the end."""
    folder = tmp_path_factory.mktemp("clip")
    clip_model(request.param).save_pretrained(folder)
    return folder


def padded(rows, length):
    return torch.tensor([row + [0] * (length - len(row)) for row in rows])


TINY = "weights=none:hidden=16:layers=3:heads=2:vocab=120:out=8"
ALL = [f"bert:{TINY}", f"bert:{TINY}:output=cls", f"clip-text:{TINY}"]
"""Every text encoder, with random weights."""


# -- padding and attention ---------------------------------------------------------------------------


@pytest.mark.parametrize(("longest", "length"), [(1, 8), (8, 8), (9, 16), (16, 16), (17, 20), (20, 20)])
def test_lengths_are_multiples_of_eight_and_at_most_the_stored_one(longest, length):
    assert padded_length(longest, 20) == length


@pytest.fixture
def in_float64():
    """New tensors are of float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("word", ALL)
def test_cut_padding_changes_neither_features_nor_gradients(word, in_float64):
    torch.manual_seed(0)
    encoder = build_encoder(word, (24,)).eval()
    for parameter in encoder.parameters():
        parameter.data.normal_(std=0.3)  # Weights as small as they begin would hide differences.
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 120, (5, 24)).astype(np.int32)
    # One text of the cut length, one of a single token, an empty one.
    ids *= np.arange(24) < np.array([[7], [12], [16], [1], [0]])
    cut = TokenBatch()(ids, np.zeros(5, np.uint64), True, torch.device("cpu"))
    weights = torch.from_numpy(rng.normal(size=(5, 8)))

    def answer(batch):
        encoder.zero_grad()
        features = encoder(batch)
        (features * weights).sum().backward()
        return features.detach(), {name: p.grad.clone() for name, p in encoder.named_parameters()}

    (features, gradients), (expected, whole) = answer(cut), answer(torch.from_numpy(ids).long())
    assert cut.shape == (5, 16)
    assert features.abs().max() > 0.1
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(gradients, whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("word", ALL)
def test_no_value_of_a_batch_is_asked_for_on_the_device(word):
    # A tensor of the meta device has no values: whatever needs one on the host raises.
    encoder = build_encoder(word, (9,)).to("meta")
    encoder(torch.zeros(4, 9, dtype=torch.int64, device="meta")).sum().backward()


def attention_calls(monkeypatch, encoder, batch):
    """How often a forward pass asks for PyTorch's own attention."""
    plain, calls = torch.nn.functional.scaled_dot_product_attention, []
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *given, **named: calls.append(1) or plain(*given, **named),
    )
    encoder(batch)
    return len(calls)


@pytest.mark.parametrize("word", [*ALL, f"clip-image:{TINY}:patch=8".replace(":vocab=120", "")])
def test_every_layer_attends_by_pytorchs_fused_attention(word, monkeypatch):
    shape = (3, 24, 24) if word.startswith("clip-image") else (9,)
    batch = torch.ones(2, *shape) if len(shape) == 3 else torch.ones(2, *shape, dtype=torch.int64)
    assert attention_calls(monkeypatch, build_encoder(word, shape), batch) == 3


def test_pretrained_weights_do_so_too(bert_folder, clip_folder, monkeypatch):
    for word in (f"bert:weights={bert_folder}", f"clip-text:weights={clip_folder}"):
        encoder = build_encoder(word, (12,))
        assert attention_calls(monkeypatch, encoder, padded([[CLS, 7, 8]], 12)) == 2


# -- BERT --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["pooler", "cls"])
def test_a_bert_folder_answers_as_transformers_does_on_unpadded_text(bert_folder, output):
    encoder = build_encoder(f"bert:weights={bert_folder}:out=0:output={output}", (12,)).eval()
    assert encoder.out_features == 16
    model = BertModel.from_pretrained(bert_folder).eval()
    # One sentence, a pair of two segments, and the shortest there is.
    rows = [[CLS, 7, 8, 9, SEP], [CLS, 7, 8, SEP, 20, 21, SEP], [CLS, SEP]]
    kinds = [[0] * 5, [0, 0, 0, 0, 1, 1, 1], [0, 0]]
    with torch.no_grad():
        found = encoder(padded(rows, 12))
        for row, kind, feature in zip(rows, kinds, found, strict=True):
            own = model(torch.tensor([row]), token_type_ids=torch.tensor([kind]))
            expected = own.pooler_output[0] if output == "pooler" else own.last_hidden_state[0, 0]
            torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-5)
    # The segments matter to this model, so the pair above would have failed without them.
    one_segment = build_encoder(f"bert:weights={bert_folder}:out=0:output={output}:sep=0", (12,)).eval()
    with torch.no_grad():
        assert not torch.allclose(one_segment(padded(rows, 12))[1], found[1], atol=1e-3)
        torch.testing.assert_close(one_segment(padded(rows, 12))[0], found[0])


def test_segments_and_mask_by_hand():
    ids = torch.tensor([[5, 9, 3, 4, 9, 0], [5, 9, 0, 0, 0, 0], [5, 6, 7, 8, 4, 3], [0, 0, 0, 0, 0, 0]])
    assert segments(ids, 9).tolist() == [[0, 0, 1, 1, 1, 0], [0] * 6, [0] * 6, [0] * 6]
    assert segments(ids, 0).tolist() == [[0] * 6] * 4
    assert attended(ids).tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0], [1] * 6, [1, 0, 0, 0, 0, 0]]
    assert last_token(ids).tolist() == [4, 1, 5, 0]


def test_empty_text_is_no_nan(bert_folder):
    encoder = build_encoder(f"bert:weights={bert_folder}", (12,))
    assert encoder(torch.zeros(2, 12, dtype=torch.int64)).isfinite().all()


def test_bert_is_projected_linearly_to_1024(bert_folder):
    encoder = build_encoder(f"bert:weights={bert_folder}", (12,)).eval()
    plain = build_encoder(f"bert:weights={bert_folder}:out=0", (12,)).eval()
    ids = padded([[CLS, 7, SEP], [CLS, 8, 9, SEP]], 12)
    layer = encoder.projection
    assert layer.weight.shape == (1024, 16)
    torch.testing.assert_close(encoder(ids), plain(ids) @ layer.weight.T + layer.bias)


def test_the_cls_output_has_no_pooler_and_needs_none(bert_folder, tmp_path):
    model = BertModel.from_pretrained(bert_folder, add_pooling_layer=False)
    model.save_pretrained(tmp_path)
    encoder = build_encoder(f"bert:weights={tmp_path}:output=cls", (12,))
    assert not [name for name, _ in encoder.named_parameters() if "pooler" in name]
    with pytest.raises(
        ConfigError,
        match=r"lack 2 entries.*pooler.dense.*saved without a pooler: give the encoder the option output=cls",
    ):
        build_encoder(f"bert:weights={tmp_path}", (12,))


def test_a_published_bert_with_its_training_heads_loads(bert_folder, tmp_path):
    from transformers import BertForPreTraining

    torch.manual_seed(1)
    whole = BertForPreTraining(BertConfig.from_pretrained(bert_folder))
    whole.save_pretrained(tmp_path)
    encoder = build_encoder(f"bert:weights={tmp_path}", (12,))
    expected = whole.bert.state_dict()
    found = encoder.network.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_ids_beyond_the_vocabulary_are_named(bert_folder):
    encoder = build_encoder(f"bert:weights={bert_folder}", (12,))
    with pytest.raises(ConfigError, match=r"token id 120 .*120 entries.*vocabulary"):
        encoder(padded([[CLS, 120, SEP]], 12))
    with pytest.raises(ConfigError, match=r"token id -1 "):
        encoder(padded([[CLS, -1, SEP]], 12))
    with pytest.raises(ConfigError, match=r"\(41,\).*1 to 40"):
        build_encoder(f"bert:weights={bert_folder}", (41,))


def test_weights_saved_in_half_precision_train_in_single(bert_folder, tmp_path):
    BertModel.from_pretrained(bert_folder).half().save_pretrained(tmp_path)
    encoder = build_encoder(f"bert:weights={tmp_path}", (12,))
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


def test_dropout_draws_from_the_default_generator(bert_folder):
    encoder = build_encoder(f"bert:weights={bert_folder}", (12,))
    ids = padded([[CLS, 7, 8, 9, SEP]] * 2, 12)
    torch.manual_seed(0)
    first = encoder(ids)
    second = encoder(ids)
    torch.manual_seed(0)
    assert torch.equal(encoder(ids), first)
    assert not torch.equal(first, second)


# -- CLIP --------------------------------------------------------------------------------------------


def test_a_clip_folder_gives_both_halves(clip_folder):
    model = CLIPModel.from_pretrained(clip_folder).eval()
    text = build_encoder(f"clip-text:weights={clip_folder}:out=0", (14,)).eval()
    image = build_encoder(f"clip-image:weights={clip_folder}:out=0", (3, 24, 24)).eval()
    # The end-of-text token 119 is the largest id; the second text holds id 0, a real token, inside.
    rows = [[118, 5, 6, 119], [118, 0, 7, 0, 8, 119], [118, 119]]
    pixels = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        found = text(padded(rows, 14))
        assert found.shape == (3, 12)
        for row, feature in zip(rows, found, strict=True):
            ids = torch.tensor([row])
            hidden = model.text_model(ids).pooler_output
            torch.testing.assert_close(feature, model.text_projection(hidden)[0], rtol=1e-4, atol=1e-5)
        expected = model.visual_projection(model.vision_model(pixels).pooler_output)
        torch.testing.assert_close(image(pixels), expected, rtol=1e-4, atol=1e-5)


def test_the_adapters_are_linear_to_1024(clip_folder):
    text = build_encoder(f"clip-text:weights={clip_folder}", (14,))
    image = build_encoder(f"clip-image:weights={clip_folder}", (3, 24, 24))
    assert (text.out_features, image.out_features) == (1024, 1024)
    assert text.adapter.weight.shape == image.adapter.weight.shape == (1024, 12)
    assert text(padded([[118, 119]] * 2, 14)).shape == image(torch.randn(2, 3, 24, 24)).shape == (2, 1024)


def test_pictures_of_another_size_than_the_weights_are_refused(clip_folder):
    with pytest.raises(ConfigError, match=r"clip-image.*\(3, 32, 32\).*take \(3, 24, 24\)"):
        build_encoder(f"clip-image:weights={clip_folder}", (3, 32, 32))


def test_one_kind_of_model_is_not_taken_for_another(clip_folder, bert_folder):
    with pytest.raises(ConfigError, match=r"'bert:.*model of type 'clip' instead of bert"):
        build_encoder(f"bert:weights={clip_folder}", (14,))
    with pytest.raises(ConfigError, match=r"'clip-text:.*model of type 'bert' instead of clip"):
        build_encoder(f"clip-text:weights={bert_folder}", (14,))
