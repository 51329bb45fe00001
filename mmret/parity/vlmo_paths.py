"""VLMo's golden values on the way: weights in and out, index tables, every path block by block, classifiers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmret.models.vlmo import VLMo, from_published, to_published
from mmret.models.vlmo.resize import resize_state
from mmret.objectives import Classify, ClassifyConfig, Step
from mmret.parity.vlmo_set import VLMoSet
from mmret.types import Batch, Inputs


def compare_weights(case: VLMoSet) -> None:
    """Published names to ours and back, bit for bit."""
    stored = case["weights"]
    model = case.model()
    back = to_published(model.state_dict(), from_published(stored).objectives)
    stored = {"text_embeddings.position_ids": back["text_embeddings.position_ids"], **stored}
    case.exact("weights, names in and out", set(back), set(stored))
    equal = all(torch.equal(back[key], value) for key, value in stored.items() if key in back)
    case.exact(f"weights, values in and out ({len(back)} tensors)", equal, True)
    case.asked |= {("weights", key) for key in stored}


@torch.no_grad()
def compare_paths(case: VLMoSet) -> None:
    """Fused, text-only, picture-only; both branches; states after each block."""
    model = case.model()
    backbone = model.backbone
    text, image = case.text()[0], case.image()
    if backbone.positions is not None:
        longest = text.dense["input_ids"].shape[1]
        for key, tokens, pictured in (
            ("aux.relative_position_index", 0, True),
            ("aux.text_relative_position_index", longest, False),
            ("aux.text_imag_relative_position_index", longest, True),
        ):
            case.check("io", key, backbone.positions.index(tokens, pictured))
    case.check("io", "out.visual_embed", backbone.image(image.dense["pixel_values"]))
    case.check("io", "out.text_embed", backbone.text(text.dense["input_ids"]))

    joined = backbone.join(model.embed_text(text), model.embed_image(image))
    hidden = joined.hidden
    for layer in range(backbone.depth):
        hidden = backbone.run(joined, hidden, layer, layer + 1)
        case.check("io", f"out.infer.block{layer}", hidden)
    for name, read in (("infer", text), ("infer_masked", case.text("_mlm")[0])):
        states = model.encode_pair(read, image)
        case.check("io", f"out.{name}.text_feats", states.text)
        case.check("io", f"out.{name}.image_feats", states.image)
        case.check("io", f"out.{name}.cls_feats", states.pooled)
        case.check("io", f"out.{name}.raw_cls_feats", states.text[:, 0])

    for kind, inputs, sequence in (
        ("text", text, model.embed_text(text)),
        ("image", image, model.embed_image(image)),
    ):
        last = backbone.run(sequence)
        embeddings = model.encode(inputs)
        for name in (f"infer_{kind}", f"infer_{kind}_ft"):
            case.check("io", f"out.{name}.{kind}_feats", backbone.norm(last))
            case.check("io", f"out.{name}.raw_cls_feats", last[:, 0])
            case.check("io", f"out.{name}.cls_feats", embeddings.vectors)
        if "vl" in embeddings.aux:
            case.check("io", f"out.infer_{kind}.cls_vlffn_feats", embeddings.aux["vl"].vectors)
    _true_length(case, model)


def _true_length(case: VLMoSet, model: VLMo) -> None:
    """Each text alone, cut to its own tokens: the same values on them as in the padded batch."""
    texts, images = case.text()[0], case.image()
    for row, length in enumerate(texts.dense["attention_mask"].sum(1).tolist()):
        one = texts.select([row])
        cut = Inputs({name: value[:, :length] for name, value in one.dense.items()})
        states, padded = model.encode_pair(cut, images.select([row])), case["io"]["out.infer.text_feats"]
        case.report.compare(
            f"{case.name} row {row} at its true length {length}", states.text, padded[row : row + 1, :length], 1e-5
        )


def compare_heads(case: VLMoSet) -> None:
    """VQA and NLVR2."""
    stored = case["heads"]
    if "out.vqa.logits" in stored:
        head, model = _head(case, "vqa", images=1), case.model()
        with torch.no_grad():
            step = Step(model, Batch(case.text()[0], case.image(), 1, targets=stored["out.vqa.targets"]))
            case.check("heads", "out.vqa.logits", head.logits(step), relative=True)
            output = head(step)
        case.scalar("vqa_loss", output.loss)
        case.scalar("vqa_score", output.metrics["accuracy"])
        wanted = _soft_targets(case.golden.get("vqa_targets", {}), stored["out.vqa.targets"])
        case.check("heads", "out.vqa.targets", wanted)
    if "out.nlvr2.logits" in stored:
        head = _head(case, "nlvr2", images=2)
        model = case.model(image_types=2)
        types = model.backbone.modality.weight
        case.check("heads", "nlvr2.token_type_embeddings.weight.at_init", types)
        with torch.no_grad():
            types.copy_(resize_state({"backbone.modality.weight": stored["nlvr2.token_type_embeddings.weight"]},
                                     model.config)["backbone.modality.weight"])  # fmt: skip
            dense = {"input_ids": stored["in.nlvr2.text_ids"], "attention_mask": stored["in.nlvr2.text_masks"]}
            pixels = torch.stack([stored["in.nlvr2.image_0"], stored["in.nlvr2.image_1"]], 1)
            batch = Batch(Inputs({**dense, "pixel_values": pixels}), None, 0, targets=stored["in.nlvr2.labels"])
            step = Step(model, batch)
            case.check("heads", "out.nlvr2.logits", head.logits(step), relative=True)
            case.scalar("nlvr2_loss", head(step).loss)
    case.asked |= {("heads", key) for key in stored if key.startswith(("in.nlvr2.", "nlvr2", "vqa_classifier"))}


def _head(case: VLMoSet, name: str, images: int) -> Classify:
    own = from_published({k: v for k, v in case["heads"].items() if k.startswith(f"{name}_classifier.")}).objectives
    own = {key.removeprefix(f"{name}."): value for key, value in own.items()}
    head = Classify(ClassifyConfig(num_classes=len(own["output.bias"]), images=images), case.config["embed_dim"])
    head.load_state_dict(own)
    return head


def _soft_targets(answers: dict[str, Any], like: Tensor) -> Tensor:
    targets = torch.zeros_like(like)
    for row, (labels, scores) in enumerate(zip(answers.get("labels", []), answers.get("scores", []))):
        for label, score in zip(labels, scores):
            targets[row, label] = score
    return targets
