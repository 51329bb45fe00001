"""Phi-3.5-V against a slow second writing of it, at sizes of our choice, and the reader of its golden sets."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mmret.models import VLM2Vec, VLM2VecConfig
from mmret.models.backbones.vlm import VLMSpec, tiny_tokenizer, vlm_spec
from mmret.models.backbones.vlm_phi3_v import Phi3VFamily
from mmret.parity import Report, compare_folder
from mmret.types import Content
from tests.parity import slow_phi3_v
from tests.unit.models.toys import picture

SIZES = [
    {},
    {"hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "num_hidden_layers": 3},
    {"original_max_position_embeddings": 16, "rope_theta": 500.0, "rms_norm_eps": 1e-3},
    {"tower": {"image_size": 28, "patch_size": 7, "num_hidden_layers": 4, "num_attention_heads": 4}, "crops": 2},
]
TEMPERATURE = 0.05


def published(seed=3, **sizes):
    """A random state dict in the published layout, a configuration, and how many crops."""
    tower, crops = sizes.pop("tower", {}), sizes.pop("crops", 4)
    base = vlm_spec("tiny:phi3_v").config
    config = {**base, **sizes, "num_key_value_heads": sizes.get("num_key_value_heads")}
    half = config["hidden_size"] // config["num_attention_heads"] // 2
    config["rope_scaling"] = {
        "type": "su",
        "short_factor": [1 + 0.2 * i for i in range(half)],
        "long_factor": [1 + 0.9 * i for i in range(half)],
    }
    config["img_processor"] = {"vision_config": {**base["img_processor"]["vision_config"], **tower}}
    config = Phi3VFamily.completed(config)
    torch.manual_seed(seed)
    vlm = Phi3VFamily.build(config, torch.float32, "eager")
    state = {f"model.{key}": value + 0.1 * torch.randn_like(value) for key, value in vlm.state_dict().items()}
    return state, config, {"num_crops": crops}


def write(folder, state, config, pictures):
    folder.mkdir(parents=True)
    save_file({**{k: v.detach().contiguous() for k, v in state.items()}, "lm_head.weight": torch.zeros(2, 2)},
              folder / "model.safetensors")  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    tiny_tokenizer("phi3_v").save(folder)
    return folder


def rows_of(inputs, model):
    """ids without padding, pictures, and the width of the batch, row by row."""
    px = model.family.processor.crop_px
    for row, (ids, mask) in enumerate(zip(inputs.dense["input_ids"], inputs.dense["attention_mask"].bool())):
        sizes = inputs.ragged["image_sizes"][row].tolist() if inputs.ragged else []
        counts = [1 + height * width // px**2 for height, width in sizes]
        views = inputs.ragged["pixel_values"][row].split(counts) if counts else []
        yield ids[mask].tolist(), list(zip(views, sizes)), inputs.dense["input_ids"].shape[1]


@pytest.mark.parametrize("sizes", SIZES, ids=["tiny", "shared heads", "long", "small patches"])
@torch.no_grad()
def test_every_row_equals_the_slow_writing(sizes, tmp_path):
    state, config, pictures = published(**sizes)
    model = VLM2Vec.load(write(tmp_path / "base", state, config, pictures), attention="sdpa").eval()
    contents = [
        Content("which flag", (picture(1, (20, 50)),)),
        Content("red"),
        Content("both", (picture(2, (30, 30)), picture(3, (60, 20)))),
    ]
    inputs = model.processor(contents, "query")
    ours = model.encode_query(inputs).vectors
    theirs = torch.stack([slow_phi3_v.vector(state, config, *row) for row in rows_of(inputs, model)])
    torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=0)


CASES = {
    "train_query": (["<|image_1|> which flag", "who"], [1, 0]),
    "train_pos": (["red", "<|image_1|> a"], [0, 1]),
    "train_pos_and_neg": (["red", "blue", "<|image_1|> a", "b"], [0, 0, 1, 0]),
}


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """A set as the published one is laid out, by the slow writing; tower of three layers, the decoder of one."""
    state, config, pictures = published(num_hidden_layers=1, original_max_position_embeddings=20)
    folder = write(tmp_path_factory.mktemp("golden") / "slow", state, config, pictures)
    prepare = VLM2Vec(VLM2VecConfig(backbone="tiny:phi3_v"), spec=VLMSpec(config, pictures))
    raw = torch.randint(0, 255, (30, 45, 3), dtype=torch.uint8)
    stored, gradients, leaves = {}, {}, {}
    for case, (texts, counts) in CASES.items():
        inputs = prepare.processor.rows(texts, [[Image.fromarray(raw.numpy())] * count for count in counts])
        leaves[case] = list(rows_of(inputs, prepare))
        shown = [i for i, count in enumerate(counts) if count]
        full = [torch.cat([inputs.ragged["pixel_values"][i], torch.zeros(5, 3, 28, 28)])[:5] for i in shown]
        stored |= {f"{case}.{key}": value for key, value in inputs.dense.items()}
        stored |= {
            f"{case}.pixel_values": torch.stack(full),
            f"{case}.image_sizes": torch.cat([inputs.ragged["image_sizes"][i] for i in shown]),
            f"{case}.image_row": torch.tensor(shown),
            **{f"{case}.raw_image.row{i}.0": raw for i in shown},
        }
        pooled = torch.stack([slow_phi3_v.states(state, config, *row)[-1] for row in leaves[case]])
        stored |= {f"{case}.pooled": pooled, f"{case}.embedding": torch.nn.functional.normalize(pooled, dim=1)}
    for name, documents in (("inbatch", "train_pos"), ("hardneg", "train_pos_and_neg")):
        live = {key: value.detach().clone().requires_grad_() for key, value in state.items()}
        queries, targets = (
            torch.stack([slow_phi3_v.vector(live, config, *row) for row in leaves[case]])
            for case in ("train_query", documents)
        )
        for side in (queries, targets):
            side.retain_grad()
        own = torch.arange(len(queries)) * (len(targets) // len(queries))
        loss = torch.nn.functional.cross_entropy(queries @ targets.T / TEMPERATURE, own)
        loss.backward()
        stored |= {
            f"loss.{name}": loss.detach().view(1),
            f"loss.{name}.grad_query_emb": queries.grad,
            f"loss.{name}.grad_target_emb": targets.grad,
        }
        gradients |= {f"{name}.{key}": leaf.grad for key, leaf in live.items() if leaf.grad is not None}
    save_file(gradients, folder / "param_grads.safetensors")
    stored = {key: value.detach().clone().contiguous() for key, value in stored.items()}
    save_file(
        {key: value for key, value in stored.items() if key.startswith("train_pos")}, folder / "cases.safetensors"
    )
    save_file(
        {key: value for key, value in stored.items() if not key.startswith("train_pos")},
        folder / "train_cases.safetensors",
    )
    about = {
        "model_rule": {"temperature": TEMPERATURE},
        "cases": {case: {"texts": texts, "images": counts, "num_crops": 4} for case, (texts, counts) in CASES.items()},
        "gradcache_check": {"inbatch": {"1/2": {}}, "hardneg": {"2/3": {}}},
        "tensors": {name: {} for name in stored},
    }
    (folder / "golden.json").write_text(json.dumps(about))
    return folder


def test_the_reader_finds_embeddings_losses_and_gradients_equal(golden):
    report = compare_folder(golden, Report())
    assert report.compared > 200
    assert not report.failures, "\n".join(map(str, report.failures[:10]))


@pytest.mark.parametrize("wrong", ["train_pos.embedding", "train_pos.pixel_values"])
def test_the_reader_finds_what_is_wrong(golden, wrong, tmp_path):
    path = golden / "cases.safetensors"
    stored = load_file(path)
    broken = {**stored, wrong: stored[wrong].clone()}
    broken[wrong].view(-1)[0] += 1e-3
    try:
        save_file(broken, path)
        names = [failure.name for failure in compare_folder(golden, Report()).failures]
    finally:
        save_file(stored, path)
    assert f"slow: {wrong.replace('.pixel', ' processor pixel')}" in names
