"""Our model against the slow one, at random tiny sizes, through the published layout on disk."""

import json

import pytest
import torch
from safetensors.torch import load_file

from mmret.models.preflmr import to_published
from mmret.objectives import HardNegative, HardNegativeConfig, Step
from mmret.types import Batch, Content
from tests.parity.slow_preflmr import SlowPreFLMR, slow_loss, slow_score
from tests.unit.models.toys import picture, toy_model

SIZES = {
    "released shape": {},
    "two mapping layers, exact gelu": {"mapping_layers": 2, "activation": "gelu", "prefix_tokens": 3, "dim": 6},
    "deeper, more heads": {"text_layers": 3, "vision_layers": 3, "mapping_heads": 4, "mapping_ffn": 20},
    "query shorter than the cross-attention": {"query_tokens": 10, "cross_attention_tokens": 16},
    "shared text encoder, no mapping, two pictures": {"separate_text_encoders": False, "use_mapping": False},
    "no instruction mask": {"instruction_separator": None},
    "pictures in documents": {"document_vision": True},
}


def slow_twin(model, folder):
    to_published(model, folder)
    config = json.loads((folder / "config.json").read_text())
    defaults_text = {"layer_norm_eps": 1e-12}
    defaults_vision = {"layer_norm_eps": 1e-5, "hidden_act": "quick_gelu"}
    config["text_config"] = {**defaults_text, **config["text_config"]}
    config["vision_config"] = {**defaults_vision, **config["vision_config"]}
    config["separator_id"] = model.processor.tokens.separator
    base = config["transformer_mapping_config_base"]
    mapping = json.loads((folder / base).read_text()) if base else None
    return SlowPreFLMR(load_file(folder / "model.safetensors"), config, mapping)


def pixels_of(inputs, row):
    if "pixel_values" not in inputs:
        return []
    values = inputs.dense["pixel_values"][row]
    return [values] if values.dim() == 3 else list(values)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_vectors_scores_and_loss_equal_the_slow_model(sizes, tmp_path):
    model = toy_model(**sizes)
    several = not model.config.use_mapping
    slow = slow_twin(model, tmp_path)
    queries = [
        Content("what is this?", (picture(1), picture(2)) if several else (picture(1),), "find a document:"),
        Content("who: where", (picture(3), picture(4)) if several else (picture(3),)),
    ]
    images = (picture(5),) if model.config.document_vision else ()
    texts = ["a red flag, a star.", "the capital (city) of", "!b!", "orange square square 42: blue"]
    documents = [Content(text, images) for text in texts]
    q, d = model.processor(queries, "query"), model.processor(documents, "document")
    skip = model.processor.tokens.document_skip_ids
    slow_q = [
        slow.query(ids.tolist(), on.tolist(), pixels_of(q, i))
        for i, (ids, on) in enumerate(zip(q.dense["input_ids"], q.dense["attention_mask"]))
    ]
    slow_d = [
        slow.document(ids.tolist(), on.tolist(), pixels_of(d, i), skip)
        for i, (ids, on) in enumerate(zip(d.dense["input_ids"], d.dense["attention_mask"]))
    ]
    with torch.no_grad():
        step = Step(model, Batch(q, d, 2))
        for ours, theirs in ((step.queries, slow_q), (step.documents, slow_d)):
            assert torch.allclose(ours.vectors, torch.stack([torch.stack(v) for v, _ in theirs]), atol=2e-5)
            assert ours.mask.tolist() == [mask for _, mask in theirs]
        slow_scores = [[slow_score(vectors, *document) for document in slow_d] for vectors, _ in slow_q]
        assert torch.allclose(step.scores(), torch.tensor(slow_scores), atol=1e-4)
        loss = HardNegative(HardNegativeConfig(mask_false_negatives=False))(step).loss
    assert float(loss) == pytest.approx(slow_loss(slow_scores, 2), abs=1e-4)
