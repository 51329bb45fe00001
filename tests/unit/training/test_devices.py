"""What a GPU would refuse, or wait for, in a step: found without one (`tests/pretended_cuda.py`)."""

import pytest
import torch

from mmret.evaluation.encode import encode, evaluating
from mmret.index import search
from mmret.models import MODELS, PreFLMR, VLM2VecConfig, VLMoConfig
from mmret.objectives import HardNegativeConfig, ITCConfig, ITMConfig, KLDistillationConfig, MIMConfig, MLMConfig
from mmret.recipe.schema import FeatureCacheConfig, GradCacheConfig, MixtureConfig, OptimizerConfig, Stage
from mmret.training.contrastive import ContrastiveModule
from mmret.training.late_interaction import LateInteractionModule
from mmret.training.module import RetrievalModule
from mmret.training.optim import build_optimizer
from mmret.training.precompute import fill_feature_cache
from mmret.types import Batch, Inputs
from tests.pretended_cuda import OnGPU, pretended_cuda
from tests.unit.models.test_contract import DOCUMENTS, PICTURES, QUERIES

TEXTS, IMAGES = [*DOCUMENTS, DOCUMENTS[0]], [*PICTURES, PICTURES[0]]
ITC = ITCConfig(temperature=0.1, learn_temperature=True, mask_margin=0.1, hardness=0.5)
VLMO = VLMoConfig(size="tiny", tokenizer="tiny", image_px=32)
VLM = "models/vlm2vec/model.py"  # which places of a padded part of a batch are used: once a pass
CASES = {
    "preflmr": (
        PreFLMR.SIZES["tiny"],
        QUERIES,
        TEXTS,
        {"hard": HardNegativeConfig(), "kl": KLDistillationConfig()},
        {},
    ),
    "preflmr/cached": (PreFLMR.SIZES["tiny"], QUERIES, TEXTS, {"hard": HardNegativeConfig()}, {"ops/grad_cache.py": 2}),
    "vlm2vec": (VLM2VecConfig(backbone="tiny"), QUERIES, IMAGES, {"itc": ITC}, {VLM: 2}),
    "vlm2vec/mrope": (
        *(VLM2VecConfig(backbone="tiny", positions="mrope"), QUERIES, IMAGES, {"itc": ITC}),
        {VLM: 2, "models/backbones/vlm_qwen.py": 4},  # words, and sizes of pictures
    ),
    "vlm2vec/phi": (
        *(VLM2VecConfig(backbone="tiny:phi3_v"), QUERIES, IMAGES, {"itc": ITC}),
        {VLM: 2, "models/backbones/phi3_v.py": 4},  # sizes of pictures, and number of their places
    ),
    "vlmo": (VLMO, TEXTS, IMAGES, {"itc": ITC, "itm": ITMConfig(), "mlm": MLMConfig()}, {"objectives/mlm.py": 1}),
    "vlmo/mim": (VLMO, IMAGES, IMAGES, {"mim": MIMConfig(tokenizer="tiny")}, {"objectives/mim.py": 1}),
}
"""Configuration, queries, documents, objectives; and how often a step waits for the GPU where, libraries left out."""


def model_of(name):
    torch.manual_seed(1)
    return MODELS[name.partition("/")[0]].from_config(CASES[name][0])


def batch_of(model, queries, documents):
    query, ids = model.processor(queries, "query"), torch.arange(len(queries))
    words = query.dense.get("input_ids")
    hidden = torch.zeros(len(query), 4, dtype=torch.bool)
    hidden[:, 3] = True
    return Batch(
        query,
        model.processor(documents, "document"),
        1,
        document_ids=ids % 3,
        positive_ids=ids.unsqueeze(1) % 3,
        teacher_scores=torch.zeros(len(query), 1),
        masked_query=None
        if words is None
        else Inputs({**query.dense, "labels": words.where(torch.arange(words.shape[1]) == 1, -100)}),
        masked_image=hidden,
    )


def module_of(name, model):
    cache = GradCacheConfig(tokens_per_chunk=64) if name.endswith("cached") else None
    late = LateInteractionModule if name.startswith("preflmr") else RetrievalModule
    stage = Stage(
        name="toy",
        steps=2,
        data=MixtureConfig(sources={}, batch_size=4),
        objectives=CASES[name][3],
        optimizer=OptimizerConfig(lr=1e-2, eps_added="before_correction"),
        grad_cache=cache,
    )
    module = (late if cache is None else ContrastiveModule)(model, stage)
    module.log = module.log_dict = lambda *args, **settings: None
    module.manual_backward = lambda loss: loss.backward()
    return module


def gradient(module, batch):
    torch.manual_seed(2)
    if isinstance(module, ContrastiveModule):
        module.cached_backward(batch)
    else:
        module.training_step(batch, 0).backward()


@pytest.mark.parametrize("name", CASES)
def test_a_step_keeps_to_the_gpu_and_waits_for_it_only_where_it_must(name):
    module = module_of(name, model_of(name))
    batch = batch_of(module.model, *CASES[name][1:3])
    gradient(module, batch)
    expected = {key: p.grad for key, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    with pretended_cuda() as waits:
        module.to("cuda:0")
        optimizer = build_optimizer(module, module.stage.optimizer, module.scales)
        waits.clear()
        gradient(module, batch.to("cuda:0", non_blocking=True))
        found = dict(waits)
        for key, parameter in module.named_parameters():
            assert isinstance(parameter, OnGPU), key
            if parameter.grad is not None:
                torch.testing.assert_close(parameter.grad.cpu(), expected[key], rtol=1e-3, atol=1e-5, msg=key)
        for _ in range(2):
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
    assert found == CASES[name][4]


@pytest.mark.parametrize("name", ["preflmr", "vlm2vec", "vlmo"])
def test_what_is_encoded_on_a_gpu_is_sought_there_and_found_alike(name):
    def found(device):
        model = model_of(name)
        documents = CASES[name][2]
        with evaluating(model, device):
            parts = encode(model, documents.__getitem__, range(4), "document", batch_size=2)
            corpus = [embeddings.to("cpu") for _, embeddings in parts]
            inputs = model.processor(CASES[name][1], "query").to(device)
            return search(model, model.encode_query(inputs), corpus, 3)

    expected = found("cpu")
    with pretended_cuda():
        scores, rows = found("cuda:0")
    torch.testing.assert_close(scores, expected[0])
    assert not isinstance(rows, OnGPU)


def test_frozen_towers_fill_the_feature_cache_on_the_gpu(tmp_path):
    model, seen = model_of("preflmr"), []
    model.vision.register_forward_pre_hook(lambda tower, inputs: seen.append(inputs[0]))
    contents = [("query", content) for content in QUERIES]
    with pretended_cuda():
        made = fill_feature_cache(
            model, contents, FeatureCacheConfig(str(tmp_path)), frozen={"vision"}, device="cuda:0"
        )
    assert made == {"vision": 3}
    assert seen and all(isinstance(pixels, OnGPU) for pixels in seen)
    assert not any(isinstance(parameter, OnGPU) for parameter in model.parameters())


def test_the_pretended_gpu_refuses_what_a_gpu_refuses_and_counts_waits_of_ours_alone():
    with pretended_cuda() as waits:
        there, here = torch.ones(2, device="cuda:0"), torch.ones(2)
        with pytest.raises(RuntimeError, match="of a GPU and of the CPU"):
            there + here
        assert (there * here.sum()).tolist() == [2.0, 2.0]
        batch = Inputs({"x": there}).select(torch.tensor([1]))
    assert isinstance(batch.dense["x"], OnGPU)
    assert not waits


def test_ragged_rows_are_picked_by_numbers_from_a_gpu():
    with pretended_cuda() as waits:
        rows = torch.tensor([1, 0]).to("cuda:0")
        inputs = Inputs(ragged={"x": [torch.zeros(1), torch.ones(2)]}).select(rows)
        assert waits == {"types.py": 1}
    assert [len(row) for row in inputs.ragged["x"]] == [2, 1]
