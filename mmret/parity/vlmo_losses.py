"""VLMo's golden losses: logits, ITC, ITM with given negatives, MLM, their weighted sum and its gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmret.models.vlmo import VLMo
from mmret.models.vlmo.convert import published_name
from mmret.objectives import ITC, ITCConfig, Step
from mmret.objectives.itm import Drawn, negative_weights
from mmret.parity.vlmo_set import VLMoSet


def compare_losses(case: VLMoSet) -> None:
    """Each loss, the total, and the gradient of every parameter."""
    stored = case["io"]
    if "in.itm.neg_image_index" not in stored:
        return
    model = case.model()
    objectives = case.objectives(model)
    step = case.step(model)
    drawn = given(case, "io", "in.itm.")
    scale, vl_scale = objectives["itc"].scale, objectives["itc_vl"].scale
    t2i, i2t = step.scores() * scale, step.reverse_scores() * scale
    case.check("io", "out.itc.t2i_logits", t2i, relative=True)
    case.check("io", "out.itc.i2t_logits", i2t, relative=True)
    case.check("io", "out.itc.vl_i2t_logits", step.reverse_scores("vl") * vl_scale, relative=True)
    for name, logits in (("out.itm.weights_t2i", t2i), ("out.itm.weights_i2t", i2t)):
        # Theirs are not normalised without the match: our probabilities times all but the match's share.
        others = 1 - logits.softmax(1).diagonal()
        case.check("io", name, negative_weights(logits, step.targets, None) * others[:, None])
    itm_logits = objectives["itm"].logits(step, drawn)
    case.check("io", "out.itm.logits", itm_logits, relative=True)
    labels = torch.cat([torch.ones(len(itm_logits) // 3), torch.zeros(2 * len(itm_logits) // 3)])
    case.check("io", "out.itm.labels", labels.long())
    case.check("io", "out.mlm.logits", objectives["mlm"].logits(step.pair(masked=True).text), relative=True)

    losses = weighted_losses(objectives, step, drawn)
    total = sum_of(losses)
    case.scalar("itc_loss", losses["itc"] + losses["itc_vl"])
    case.scalar("itm_loss", losses["itm"])
    case.scalar("mlm_loss", losses["mlm"])
    case.scalar("mlm_loss_unweighted", losses["mlm"] / objectives["mlm"].config.weight)
    case.scalar("total_loss", total)
    case.scalar("logit_scale_exp", scale)
    case.scalar("logit_vl_scale_exp", vl_scale)
    total.backward()
    gradients = published_gradients(model, objectives)
    for key in sorted(case["grads"]):
        if key in gradients:
            case.gradient("grads", key, gradients[key])
        else:
            case.report.fail(f"{case.name}.grads {key}", "no gradient here")
    without = set(case.golden.get("parameters_without_gradient", []))
    case.exact("parameters without gradient", set(case["weights"]) - set(gradients) - INDEX, without - INDEX)

    step = case.step(model)
    loss = ITC(ITCConfig(temperature=0.07, mask_false_negatives=False))
    loss.fixed_scale = float(scale.detach())
    case.check("io", "out.irtr.i2t_logits", step.reverse_scores() * scale, relative=True)
    case.scalar("irtr_loss", loss(step).loss)


INDEX = {"text_embeddings.position_ids"}


def given(case: VLMoSet, part: str, prefix: str, order: Tensor | None = None) -> Drawn:
    """The stored negatives; `order` maps their numbering to rank order."""
    image, text = f"{prefix}neg_image_index", f"{prefix}neg_text_index"
    case.asked |= {(part, image), (part, text)}
    rows = [case[part][key] for key in (image, text)]
    return Drawn(*(rows if order is None else [order[row] for row in rows]))


def weighted_losses(objectives: dict[str, Any], step: Step, drawn: Drawn) -> dict[str, Tensor]:
    """Each loss times its weight, ITM with given negatives."""
    outputs = {
        name: objective.loss(step, drawn) if name == "itm" else objective(step)
        for name, objective in objectives.items()
    }
    return {name: objectives[name].config.weight * output.loss for name, output in outputs.items()}


def sum_of(losses: dict[str, Tensor]) -> Tensor:
    """Their sum."""
    return torch.stack(list(losses.values())).sum()


def published_gradients(model: VLMo, objectives: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Gradients under the published names; parameters without one are left out."""
    own = dict(model.named_parameters())
    for name, objective in objectives.items():
        own |= {f"objectives.{name}.{key}": p for key, p in objective.named_parameters()}
    named = {published_name(key): p.grad for key, p in own.items()}
    return {name: grad for name, grad in named.items() if name is not None and grad is not None}
