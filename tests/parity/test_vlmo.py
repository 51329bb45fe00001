"""VLMo against a slow second writing of it, at sizes and seeds of our choice, and the reader of its golden sets."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mmret.models.vlmo import to_published
from mmret.parity import Report, vlmo
from tests.parity import slow_vlmo
from tests.unit.models.vlmo.toys import pictures, texts, toy_model

CASES = [
    {},
    {"positions": "absolute", "layer_scale": 0.0},
    {"depth": 4, "vl_layers": 2, "heads": 4, "image_px": 24, "relative_text_span": 20},
]


@pytest.mark.parametrize("settings", CASES)
@torch.no_grad()
def test_every_path_equals_the_slow_writing(settings):
    model = toy_model(seed=7, **settings)
    state, config = to_published(model.state_dict()), model.config
    sizes = {
        **{"depth": config.shape["depth"], "start": config.vl_start, "heads": config.shape["heads"]},
        **{"window": config.window, "span": config.relative_text_span},
    }
    text, image = texts(), pictures(px=config.image_px)
    joint, alone, shown = model.encode_pair(text, image), model.encode(text), model.encode(image)
    for row, length in enumerate((6, 3, 5)):
        ids, pixels = text.dense["input_ids"][row, :length].tolist(), image.dense["pixel_values"][row]
        states, pooled = slow_vlmo.pair(state, ids, pixels, **sizes)
        ours = torch.cat([joint.text[row, :length], joint.image[row]])
        torch.testing.assert_close(ours, states, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(joint.pooled[row], pooled, atol=1e-5, rtol=1e-5)
        for kind, given, found in (("text", ids, alone), ("imag", pixels, shown)):
            for head, vl in (("main", False), ("vl", True)):
                expected = slow_vlmo.vector(state, kind, given, vl, **sizes)
                torch.testing.assert_close(found.head(head).vectors[row], expected, atol=1e-5, rtol=1e-5)


def golden(folder, model, **wrong):
    """A set as small as the reader takes: weights, and what the model gives for them."""
    config = model.config
    text, image = texts(width=9), pictures()
    labels = torch.full_like(text.dense["input_ids"], -100)
    with torch.no_grad():
        states = model.encode_pair(text, image)
    io = {
        "in.text_ids": text.dense["input_ids"],
        "in.text_masks": text.dense["attention_mask"],
        "in.text_ids_mlm": text.dense["input_ids"].clone(),
        "in.text_labels_mlm": labels,
        "in.image": image.dense["pixel_values"],
        "out.infer.text_feats": states.text.contiguous(),
        "out.infer.cls_feats": states.pooled,
        **wrong,
    }
    save_file(to_published(model.state_dict()), folder / "toy.weights.safetensors")
    save_file(io, folder / "toy.io.safetensors")
    facts = {
        **{"embed_dim": model.width, "num_heads": config.shape["heads"], "vlffn_start_layer_index": config.vl_start},
        "max_text_len_of_initckpt": config.relative_text_span,
    }
    files = {f"toy.{part}.safetensors": {"tensors": {}} for part in ("weights", "io")}
    (folder / "toy.json").write_text(json.dumps({"config": facts, "files": files}))


def test_the_reader_reads_sets_of_any_size_and_a_wrong_tensor_fails(tmp_path):
    model = toy_model(seed=3)
    golden(tmp_path, model)
    assert vlmo.recognises(tmp_path)
    report = Report()
    vlmo.compare(tmp_path, report)
    assert report.compared > 5
    assert not report.failures
    golden(tmp_path, model, **{"out.infer.cls_feats": torch.zeros(3, 16)})
    report = Report()
    vlmo.compare(tmp_path, report)
    assert [failure.name for failure in report.failures] == ["toy.io out.infer.cls_feats"]


def test_a_missing_file_is_a_failure(tmp_path):
    golden(tmp_path, toy_model())
    described = json.loads((tmp_path / "toy.json").read_text())
    described["files"]["toy.grads.safetensors"] = {"tensors": {}}
    (tmp_path / "toy.json").write_text(json.dumps(described))
    report = Report()
    vlmo.compare(tmp_path, report)
    assert [failure.name for failure in report.failures] == ["toy.grads.safetensors"]
