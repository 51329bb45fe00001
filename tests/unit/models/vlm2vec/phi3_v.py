"""A tiny Phi-3.5-V with every weight moved, and what it encodes."""

import torch

from mmret.models import VLM2Vec, VLM2VecConfig
from mmret.models.backbones.vlm import VLMSpec, vlm_spec
from mmret.types import Content
from tests.unit.models.toys import picture

SPEC = vlm_spec("tiny:phi3_v")
CONTENTS = [
    Content("which flag is this", (picture(1, (60, 90)),)),
    Content("red"),
    Content("compare both", (picture(2, (120, 40)), picture(3, (50, 50)))),
    Content("the capital of the country, and its people"),
]


def model_of(original=256, **settings):
    torch.manual_seed(2)
    spec = VLMSpec({**SPEC.config, "original_max_position_embeddings": original}, SPEC.pictures)
    config = VLM2VecConfig(backbone="tiny:phi3_v", **settings)
    model = VLM2Vec(config, spec=spec).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def vectors(model, contents):
    with torch.no_grad():
        return model.encode_query(model.processor(contents, "query")).vectors
