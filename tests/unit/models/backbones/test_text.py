import json

import pytest
import torch
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, XLMRobertaConfig, XLMRobertaModel

from mmret.errors import CheckpointError, ConfigError
from mmret.models import PreFLMR, PreFLMRConfig
from mmret.models.backbones import TextTokenizer, build_text, load_text, text_spec
from mmret.types import Content

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
VOCABULARY = len(TextTokenizer.tiny())


def encoder_folder(folder, kind="bert"):
    if kind == "bert":
        model = BertModel(BertConfig(vocab_size=VOCABULARY, **SIZES))
    elif kind == "xlm-roberta":
        model = XLMRobertaModel(XLMRobertaConfig(vocab_size=VOCABULARY, max_position_embeddings=66, **SIZES))
    else:
        model = DistilBertModel(DistilBertConfig(vocab_size=VOCABULARY, dim=16, n_layers=1, n_heads=2, hidden_dim=24))
    model.save_pretrained(folder)
    TextTokenizer.tiny().save(folder)
    return model.eval()


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "distilbert"])
def test_a_local_folder_gives_its_encoder_without_pooler(tmp_path, kind):
    theirs = encoder_folder(tmp_path, kind)
    ours, projection = load_text(str(tmp_path), 8)
    ids, on = torch.tensor([[101, 110, 120, 102]]), torch.ones(1, 4, dtype=torch.long)
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=on).last_hidden_state
        assert torch.allclose(ours.eval()(input_ids=ids, attention_mask=on).last_hidden_state, expected, atol=1e-6)
    assert projection is None
    assert not any("pooler" in name for name, _ in ours.named_parameters())
    spec = text_spec(str(tmp_path))
    assert spec.width == 16
    assert spec.max_tokens == {"bert": 512, "xlm-roberta": 64, "distilbert": 512}[kind]
    assert build_text(spec).state_dict().keys() == ours.state_dict().keys()


@pytest.mark.parametrize("binary", [False, True])
def test_a_colbert_checkpoint_brings_encoder_and_projection(tmp_path, binary):
    from safetensors.torch import save_file

    theirs = encoder_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    projection = torch.randn(8, 16)
    state = {f"bert.{key}": value for key, value in theirs.state_dict().items()} | {"linear.weight": projection}
    if binary:
        torch.save(state, tmp_path / "pytorch_model.bin")
    else:
        save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}))
    settings = {"vision": None, "dim": 8, "query_tokens": 12, "document_tokens": 20}
    model = PreFLMR.from_config(PreFLMRConfig(text=str(tmp_path), **settings))
    for side in ("query", "document"):
        assert torch.equal(model.get_submodule(f"{side}_text_linear").weight, projection)
        assert torch.equal(
            model.get_submodule(f"{side}_text").embeddings.word_embeddings.weight,
            theirs.embeddings.word_embeddings.weight,
        )
    with pytest.raises(ConfigError, match="projects to 8; set"):
        PreFLMR.from_config(PreFLMRConfig(text=str(tmp_path), **{**settings, "dim": 4}))


def test_an_encoder_outside_berts_family_trains_as_a_variant(tmp_path):
    encoder_folder(tmp_path, "xlm-roberta")
    config = PreFLMRConfig(
        text=str(tmp_path),
        vision="tiny",
        dim=8,
        query_tokens=12,
        document_tokens=20,
        query_marker=None,
        document_marker=None,
        fill_query=False,
        mapping_heads=2,
    )
    model = PreFLMR.from_config(config).eval()
    with torch.no_grad():
        found = model.encode_query(model.processor([Content("find: red")], "query"))
    assert found.mask[0, :12].sum() < 12
    model.save(tmp_path / "saved")
    again = PreFLMR.load(tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.equal(again.encode_query(again.processor([Content("find: red")], "query")).vectors, found.vectors)


def test_part_of_an_encoder_missing_is_an_error(tmp_path):
    from safetensors.torch import load_file, save_file

    encoder_folder(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["encoder.layer.1.output.dense.bias"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"lacks 1 tensors of its text encoder: encoder\.layer\.1\.output\.dense\.bias"
    ):
        load_text(str(tmp_path), 8)


@pytest.mark.parametrize(
    "name, message",
    [
        ("someone/encoder", "no folder here and the model hub does not give it"),
        ("./nowhere", "no such file or folder"),
        ("package:no_such_package/model", "no_such_package is not installed"),
        ("package:mmret/nowhere", "mmret has no nowhere"),
        ("package:no.such/model", "the Python package no.such is not installed"),
        ("package:.mmret/model", "the Python package .mmret is not installed"),
    ],
)
def test_what_is_not_here_says_what_to_do(name, message):
    with pytest.raises(ConfigError, match=message):
        text_spec(name)


@pytest.mark.parametrize(
    "config, message",
    [
        ('{"model_type": "bert"', "config.json is not JSON"),
        ("[]", "config.json is no JSON object"),
        ('{"model_type": "resnet"}', "holds a 'resnet' model, which reads no text"),
        ('{"model_type": "nothing"}', "holds a 'nothing' model that transformers cannot build"),
    ],
)
def test_a_folder_that_holds_no_text_encoder_says_why(tmp_path, config, message):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ConfigError, match=rf"^model\.text: .*{message}"):
        text_spec(str(tmp_path))


def test_a_preflmr_checkpoint_gives_the_architecture_but_not_the_weights(tmp_path):
    from mmret.models.preflmr import to_published
    from tests.unit.models.toys import toy_model

    model = toy_model()
    model.save(tmp_path / "ours")
    to_published(model, tmp_path / "published")
    for name in ("ours", "published"):
        folder = str(tmp_path / name)
        assert text_spec(folder).width == 16
        config = PreFLMRConfig(text=folder, vision=folder, dim=8, document_tokens=32, prefix_tokens=2, mapping_heads=2)
        assert PreFLMR(config).vision_spec.px == 8
        with pytest.raises(ConfigError, match="init_from"):
            PreFLMR.from_config(config)
