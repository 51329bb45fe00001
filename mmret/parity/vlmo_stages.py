"""VLMo's golden stages: another image size, the language stage from BEiT's entries, hand-over, optimizer steps."""

from __future__ import annotations

from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file

from mmret.models.vlmo import LANGUAGE_STAGE, VLMo, from_published, to_published
from mmret.models.vlmo.convert import published_name
from mmret.models.vlmo.infer import infer_config
from mmret.models.weights import load_strictly
from mmret.objectives import MLM, MLMConfig, Step
from mmret.parity.vlmo_losses import INDEX, given, sum_of, weighted_losses
from mmret.parity.vlmo_set import VLMoSet
from mmret.recipe.schema import OptimizerConfig
from mmret.training.handover import hand_over
from mmret.training.optim import build_optimizer, scale_of_parameters
from mmret.types import Batch


@torch.no_grad()
def compare_resize(case: VLMoSet) -> None:
    """The same weights in a model of another image size."""
    stored = case["resize"]
    if not stored:
        return
    model = case.model(image_px=stored["in.image"].shape[-1])
    published = to_published(model.state_dict())
    for key in ("relative_position_bias_table", "transformer.pos_embed"):
        if key in stored:
            case.check("resize", key, published[key])
    text, image = case.text(part="resize")[0], case.image("resize")
    case.check("resize", "out.infer.cls_feats", model.encode_pair(text, image).pooled)
    case.check("resize", "out.infer_image_ft.cls_feats", model.encode_document(image).vectors)
    case.check("resize", "out.infer_text_ft.cls_feats", model.encode_query(text).vectors)


def compare_language(case: VLMoSet) -> None:
    """BEiT's entries into a fresh model, the stage's own pass and loss, and its weights into the next stage."""
    stored = case["textmlm"]
    if not stored:
        return
    facts = case.golden["textmlm"]
    weights = {key.removeprefix("weights."): value for key, value in stored.items() if key.startswith("weights.")}
    parts = from_published(weights)
    span = case.config["max_text_len_of_initckpt"]
    config = infer_config(
        parts.model, "language stage", heads=case.config["num_heads"], relative_text_span=span, tokenizer="tiny"
    )
    _from_beit(case, VLMo(config))

    model = VLMo(config).eval()
    load_strictly(model, parts.model, "language stage")
    mlm = MLM.for_model(MLMConfig(text_only=True), model)
    heads = {key.removeprefix("mlm."): value for key, value in parts.objectives.items()}
    load_strictly(mlm, heads, "language stage's head")
    text, masked = case.text("_mlm", "textmlm")
    with torch.no_grad():
        step = Step(model, Batch(text, None, 1, masked_query=masked))
        states = model.encode_text(step.masked_text)
        case.check("textmlm", "out.infer_text_mlm.text_feats", states)
        case.check("textmlm", "out.mlm_logits", mlm.logits(states), relative=True)
        case.scalar("textmlm_loss", mlm(step).loss)

    names = [f"model.{name}" for name, _ in model.named_parameters()]
    names += [f"objectives.mlm.{name}" for name, _ in mlm.named_parameters()]
    scales = scale_of_parameters(names, LANGUAGE_STAGE)
    trained = {published_name(name.removeprefix("model.")) for name in names if scales[name]}
    unused = {"text_embeddings.position_embeddings.weight"} if config.shape["positions"] == "relative" else set()
    case.exact("language stage trains", trained | unused, set(facts["trainable"]) | unused)

    following = case.model()
    report = hand_over(following, model.state_dict(), "language stage")
    published = to_published(following.state_dict())
    key = "text_embeddings.position_embeddings.weight"
    case.check("textmlm", f"handover.{key}", published[key])
    heads = {name for name in case["weights"] if published_name_is_head(name)}
    new = {published_name(name) for name in report.new} | (heads - {name for name in weights if name in heads})
    case.exact("hand-over to the next stage leaves fresh", new, set(case.golden["handover_text_to_vl"]["missing_keys"]))
    case.exact(
        "hand-over to the next stage drops", report.dropped, case.golden["handover_text_to_vl"]["unexpected_keys"]
    )
    case.asked |= {("textmlm", name) for name in stored if name.startswith("weights.")}


def published_name_is_head(name: str) -> bool:
    """Does an entry of the released code belong to a loss?"""
    return bool(from_published({name: torch.zeros(())}).objectives)


def _from_beit(case: VLMoSet, model: VLMo) -> None:
    """Entries that BEiT has are taken, those it lacks stay, those we do not know are named."""
    stored = case["textmlm"]
    beit = {key.removeprefix("beit."): value for key, value in stored.items() if key.startswith("beit.")}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with TemporaryDirectory() as folder:
        save_file({key: value.contiguous() for key, value in beit.items()}, f"{folder}/beit.safetensors")
        report = model.start_from(f"{folder}/beit.safetensors")
    published = to_published(model.state_dict())
    for key in stored:
        if key.startswith("converted."):
            case.check("textmlm", key, published[key.removeprefix("converted.")])
    fresh = {published_name(name) for name in report["fresh"]}
    heads = {name for name in case.golden["textmlm"]["left_at_initialisation"] if published_name_is_head(name)}
    theirs = set(case.golden["textmlm"]["left_at_initialisation"]) - INDEX - heads
    case.exact("BEiT leaves at the start", fresh, theirs)
    case.exact("BEiT entries not understood", report["unused"], [])
    kept = all(torch.equal(before[name], model.state_dict()[name]) for name in report["fresh"])
    case.exact("what BEiT lacks is untouched", kept, True)
    case.asked |= {("textmlm", key) for key in stored if key.startswith("beit.")}


def compare_optimizer(case: VLMoSet) -> None:
    """Decay groups of the named preset, and the recorded steps on one batch with given negatives."""
    facts = case.golden.get("optimizer")
    if not facts:
        return
    model = case.model()
    objectives = torch.nn.ModuleDict(case.objectives(model))
    holder = torch.nn.ModuleDict({"model": model, "objectives": objectives})
    config = OptimizerConfig(
        lr=max(group["lr"] for group in facts["groups"] if group["params"]),
        weight_decay=max(group["weight_decay"] for group in facts["groups"]),
        betas=(0.9, 0.98),
        eps=1e-8,
        eps_added="before_correction",
        no_decay=["vlmo_released"],
    )
    optimizer = build_optimizer(holder, config, dict.fromkeys(dict(holder.named_parameters()), 1.0))
    names = {p: published_name(name.removeprefix("model.")) for name, p in holder.named_parameters()}
    for decays in (True, False):
        ours = {
            names[p]
            for group in optimizer.param_groups
            if bool(group["weight_decay"]) == decays
            for p in group["params"]
        }
        theirs = {
            name for group in facts["groups"] if bool(group["weight_decay"]) == decays for name in group["params"]
        }
        unused = set(case.golden.get("parameters_without_gradient", []))  # ours are no parameters at all
        case.exact("decayed parameters" if decays else "parameters without decay", ours - unused, theirs - unused)

    drawn = given(case, "io", "in.itm.")
    for record in facts["trajectory"]:
        for group in optimizer.param_groups:
            group["lr"] = record["lr"]
        losses = weighted_losses(dict(objectives.items()), case.step(model), drawn)
        found = {
            "itc": losses["itc"] + losses["itc_vl"],
            "itm": losses["itm"],
            "mlm": losses["mlm"],
            "total": sum_of(losses),
        }
        for name, value in found.items():
            label = f"{case.name} optimizer step {record['step']} {name}"
            case.report.compare(label, value.detach(), torch.tensor(record[name]), 1e-5, relative=True)
        optimizer.zero_grad()
        sum_of(losses).backward()
        optimizer.step()
    heads = {f"{name}.{key}": v for name, one in objectives.items() for key, v in one.state_dict().items()}
    after = to_published(model.state_dict(), heads)
    for key in case["io"]:
        if key.startswith("out.after6steps."):
            case.check("io", key, after[key.removeprefix("out.after6steps.")])
