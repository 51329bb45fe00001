"""A golden set made on the spot by transformers and peft themselves, in the layout of the published one, read back.

What the published implementation computed stands outside the repository (`make parity`); this checks reader and model
against the libraries' own classes, head and adapters included, wherever the tests run.
"""

import json

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2VLForConditionalGeneration
from transformers.models.qwen2_vl import Qwen2VLConfig

from mmret.models.backbones.vlm import tiny_tokenizer, vlm_spec
from mmret.parity import Report, compare_folder
from mmret.parity.vlm2vec import recognises

CASES = {
    "train_query": (["<|image_pad|> which flag", "who", "where is it"], [1, 0, 0]),
    "train_pos": (["red", "a map of the town", "<|image_pad|> picture"], [0, 0, 1]),
    "train_pos_and_neg": (["red", "blue", "a map of the town", "a", "<|image_pad|> picture", "b"], [0, 0, 0, 0, 1, 0]),
}
TEMPERATURE = 0.05
IMAGE = "<|image_pad|>"


class Theirs:
    """The library's model, one row at a time: no padding, no batching, no code of ours but the tiny vocabulary."""

    def __init__(self):
        spec = vlm_spec("tiny")
        self.config, self.pictures = spec.config, spec.pictures
        self.tokenizer = tiny_tokenizer("qwen2_vl")
        self.model = Qwen2VLForConditionalGeneration(Qwen2VLConfig.from_dict(spec.config)).eval()
        self.pixels = torch.randint(0, 255, (56, 56, 3), dtype=torch.uint8)

    def row(self, text, images):
        from PIL import Image
        from transformers import Qwen2VLImageProcessorPil

        processor = Qwen2VLImageProcessorPil(**self.pictures)
        if not images:
            return self.tokenizer.ids([text])[0], None
        seen = processor(images=[Image.fromarray(self.pixels.numpy())], return_tensors="pt")
        count = int(seen["image_grid_thw"].prod()) // 4
        return self.tokenizer.ids([text.replace(IMAGE, IMAGE * count)])[0], seen

    def vectors(self, case, model):
        pooled = []
        for text, images in zip(*CASES[case]):
            ids, seen = self.row(text, images)
            pictures = {} if seen is None else dict(seen)
            positions = torch.arange(len(ids)).expand(3, 1, -1)
            output = model(input_ids=torch.tensor([ids]), position_ids=positions, output_hidden_states=True, **pictures)
            pooled.append(output.hidden_states[-1][0, -1])
        return torch.stack(pooled)

    def inputs(self, case):
        rows = [self.row(text, images) for text, images in zip(*CASES[case])]
        longest = max(len(ids) for ids, _ in rows)
        stored = {
            "input_ids": torch.tensor([[0] * (longest - len(ids)) + ids for ids, _ in rows]),
            "attention_mask": torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids, _ in rows]),
            "image_row": torch.tensor([i for i, (_, seen) in enumerate(rows) if seen is not None]),
            "pixel_values": torch.cat([seen["pixel_values"] for _, seen in rows if seen is not None]),
            "image_grid_thw": torch.cat([seen["image_grid_thw"] for _, seen in rows if seen is not None]),
        }
        stored |= {f"raw_image.row{i}.0": self.pixels for i, (_, seen) in enumerate(rows) if seen is not None}
        return {f"{case}.{name}": value for name, value in stored.items()}

    def loss(self, documents, model):
        queries, targets = (
            torch.nn.functional.normalize(self.vectors(case, model), dim=1) for case in ("train_query", documents)
        )
        for side in (queries, targets):
            side.retain_grad()
        own = torch.arange(len(queries)) * (len(targets) // len(queries))
        value = torch.nn.functional.cross_entropy(queries @ targets.T / TEMPERATURE, own)
        value.backward()
        return value.detach().view(1), queries, targets


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden") / "library"
    folder.mkdir()
    torch.manual_seed(4)
    theirs = Theirs()
    with torch.no_grad():
        for parameter in theirs.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    weights = {key: value.contiguous().clone() for key, value in theirs.model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(theirs.config))
    (folder / "preprocessor_config.json").write_text(json.dumps(theirs.pictures))
    theirs.tokenizer.save(folder)

    stored, gradients = {}, {}
    for case in CASES:
        with torch.no_grad():
            pooled = theirs.vectors(case, theirs.model)
        stored |= theirs.inputs(case)
        stored |= {f"{case}.pooled": pooled, f"{case}.embedding": torch.nn.functional.normalize(pooled, dim=1)}
    for name, documents in (("inbatch", "train_pos"), ("hardneg", "train_pos_and_neg")):
        theirs.model.zero_grad()
        value, queries, targets = theirs.loss(documents, theirs.model)
        stored |= {f"loss.{name}": value}
        stored |= {f"loss.{name}.grad_query_emb": queries.grad, f"loss.{name}.grad_target_emb": targets.grad}
        for key, parameter in theirs.model.named_parameters():
            if parameter.grad is not None and not key.startswith("lm_head"):
                gradients[f"{name}.{key}"] = parameter.grad.clone()
    save_file(gradients, folder / "param_grads.safetensors")
    _adapter(theirs, folder / "dora", stored)
    save_file(
        {key: value.detach().clone().contiguous() for key, value in stored.items()}, folder / "train_cases.safetensors"
    )
    save_file({}, folder / "cases.safetensors")
    about = {
        "model_rule": {"temperature": TEMPERATURE},
        "cases": {case: {"texts": texts, "images": images} for case, (texts, images) in CASES.items()},
        "gradcache_check": {"inbatch": {"1/2": {}}, "hardneg": {"2/5": {}}},
        "tensors": {name: {} for name in stored},
    }
    (folder / "golden.json").write_text(json.dumps(about))
    return folder


def _adapter(theirs, folder, stored):
    """A DoRA adapter by peft's own wrapper and files."""
    targets = ["q_proj", "up_proj"]
    wrapped = peft.get_peft_model(
        theirs.model, peft.LoraConfig(r=3, lora_alpha=6, use_dora=True, target_modules=targets, lora_dropout=0.1)
    ).eval()
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    wrapped.save_pretrained(folder)
    wrapped.zero_grad()
    value, queries, targets = theirs.loss("train_pos_and_neg", wrapped)
    stored |= {
        "dora.loss.hardneg": value,
        "dora.train_query.embedding": queries.detach(),
        "dora.train_pos_and_neg.embedding": targets.detach(),
        "dora.merged.train_query.embedding": queries.detach(),
    }
    gradients = {name: p.grad.clone() for name, p in wrapped.named_parameters() if p.grad is not None}
    save_file(gradients, folder / "adapter_grads.safetensors")


def test_the_librarys_own_embeddings_losses_gradients_and_adapters_are_reproduced(golden):
    report = compare_folder(golden, Report())
    assert report.compared > 100
    assert not report.failures, "\n".join(map(str, report.failures[:10]))


def test_a_wrong_embedding_is_found(golden):
    path = golden / "train_cases.safetensors"
    stored = load_file(path)
    kept = stored["train_pos.embedding"].clone()
    try:
        stored["train_pos.embedding"][0, 0] += 1e-4
        save_file(stored, path)
        failures = compare_folder(golden, Report()).failures
    finally:
        stored["train_pos.embedding"] = kept
        save_file(stored, path)
    assert [failure.name for failure in failures] == ["library: train_pos.embedding"]


def test_sets_of_other_kinds_are_left_alone(tmp_path):
    (tmp_path / "golden.json").write_text(json.dumps({"tensors": {"train_query.embedding": {}}}))
    assert not recognises(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "flmr"}))
    assert not recognises(tmp_path)
