"""GradCache under Lightning: accumulation, clipping, schedule, precision, and what is refused."""

from dataclasses import replace

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmret.errors import ConfigError
from mmret.models import PreFLMR, VLM2Vec, VLM2VecConfig
from mmret.objectives import ITC, ITCConfig, KLDistillationConfig, Objective, Step
from mmret.recipe.schema import GradCacheConfig, ScheduleConfig
from mmret.training import checkpointing
from mmret.training.contrastive import ContrastiveModule
from mmret.training.module import RetrievalModule
from mmret.types import Batch, Content, Embeddings, Inputs, Need
from tests.unit.models.toys import picture
from tests.unit.training.toy_towers import TwoTowers, batch_of, fit, stage_of

BATCHES = [batch_of(0, 1, seed=seed) for seed in range(4)]


def cached(chunks=3, dropout=0.0, late_interaction=False, steps=4, schedule=None, **settings):
    more = {} if schedule is None else {"schedule": schedule}
    stage = stage_of(late_interaction, GradCacheConfig(chunk_size=chunks), steps=steps, **more)
    return ContrastiveModule(TwoTowers(late_interaction, dropout), stage, **settings)


def plain(late_interaction=False, schedule=None):
    more = {} if schedule is None else {"schedule": schedule}
    return RetrievalModule(TwoTowers(late_interaction), stage_of(late_interaction, None, steps=4, **more))


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_training_in_chunks_gives_the_weights_of_training_whole():
    ours, whole = cached(), plain()
    fit(ours, BATCHES)
    fit(whole, BATCHES)
    torch.testing.assert_close(weights(ours), weights(whole), rtol=1e-5, atol=1e-5)


def test_accumulation_averages_batches_and_steps_once_for_them():
    ours = cached(accumulate=2)
    seen, trainer = fit(ours, BATCHES)
    assert trainer.global_step == len(seen.gradients) == 2

    singles = []
    for batch in BATCHES[:2]:
        alone, _ = fit(cached(), [batch])
        singles.append(alone.gradients[0])
    for gradient, first, second in zip(seen.gradients[0], *singles):
        torch.testing.assert_close(gradient, (first + second) / 2, rtol=1e-5, atol=1e-7)


def test_gradient_norm_is_clipped_after_all_chunks():
    seen, _ = fit(cached(clip_norm=0.01), BATCHES[:1])
    norm = torch.cat([g.flatten() for g in seen.gradients[0]]).norm()
    assert float(norm) == pytest.approx(0.01, rel=1e-4)


def test_schedule_steps_once_per_optimizer_step():
    schedule = ScheduleConfig(name="linear", warmup_steps=1)
    accumulated, _ = fit(cached(accumulate=2, steps=2, schedule=schedule), BATCHES)
    # Warm-up: 1/2 of the peak 0.1, then the peak.
    assert accumulated.rates == pytest.approx([0.05, 0.1])
    ours, _ = fit(cached(schedule=schedule), BATCHES)
    automatic, _ = fit(plain(schedule=schedule), BATCHES)
    assert ours.rates == pytest.approx(automatic.rates)


def test_bfloat16_autocast_reaches_every_parameter_with_the_whole_batchs_gradient():
    ours, _ = fit(cached(chunks=3), BATCHES[:1], precision="bf16-mixed")
    whole, _ = fit(plain(), BATCHES[:1], precision="bf16-mixed")
    for gradient, reference in zip(ours.gradients[0], whole.gradients[0]):
        torch.testing.assert_close(gradient, reference, rtol=0.05, atol=0.02 * float(reference.abs().max()))


def test_kept_graphs_are_counted_over_both_sides_documents_first():
    stage = stage_of(False, GradCacheConfig(chunk_size=4, keep_graph=5))  # 4 document chunks, 2 query chunks
    module = ContrastiveModule(TwoTowers(False), stage)
    calls = {"query": 0, "document": 0}
    for side in calls:
        tower = getattr(module.model, side)
        tower.register_forward_hook(lambda *_, side=side: calls.update({side: calls[side] + 1}))
    fit(module, BATCHES[:1])
    assert calls == {"query": 3, "document": 4}


def test_an_objective_that_passes_pairs_through_the_model_is_refused(monkeypatch):
    monkeypatch.setattr(ITC, "needs", frozenset({Need.PAIR, Need.NEGATIVES}))
    with pytest.raises(ConfigError, match="objective loss needs pair"):
        cached()


def test_hard_negatives_are_allowed(monkeypatch):
    monkeypatch.setattr(ITC, "needs", frozenset({Need.NEGATIVES}))
    assert isinstance(cached().objectives["loss"], Objective)


def scaled(scale):
    """What `precision: 16-mixed` is on a GPU, on the CPU."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return {"plugins": [L.pytorch.plugins.MixedPrecision("16-mixed", "cpu", scaler)]}


@pytest.mark.parametrize("keep", [0, 2])
def test_scaled_float16_gradients_are_the_whole_batchs(keep):
    def trained(module):
        fit(module, BATCHES[:2], **scaled(2.0**12))
        return weights(module)

    stage = stage_of(False, GradCacheConfig(chunk_size=3, keep_graph=keep), steps=2, lr=0.01)
    ours = trained(ContrastiveModule(TwoTowers(False), stage))
    whole = trained(RetrievalModule(TwoTowers(False), stage_of(False, None, steps=2, lr=0.01)))
    assert not torch.equal(whole, weights(RetrievalModule(TwoTowers(False), stage_of(False, None))))
    torch.testing.assert_close(ours, whole, rtol=2e-3, atol=2e-3)


def test_the_scale_of_float16_leaves_the_clipped_norm_and_the_step_as_they_are():
    found = []
    for scale in (1.0, 2.0**10):
        module = cached(clip_norm=0.01)
        seen, _ = fit(module, BATCHES[:1], **scaled(scale))
        found.append(torch.cat([g.flatten() for g in seen.gradients[0]]) / scale)  # a fused optimizer unscales itself
    assert float(found[0].norm()) == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(found[1], found[0], rtol=5e-3, atol=1e-5)


def test_a_step_whose_float16_gradient_overflows_is_left_out():
    module = cached(clip_norm=1.0)
    before = weights(module)
    _, trainer = fit(module, BATCHES[:1], **scaled(2.0**126))
    assert torch.equal(weights(module), before)
    assert trainer.precision_plugin.scaler.get_scale() == 2.0**125


def test_sharded_parameters_are_refused():
    module = cached()
    module._trainer = type("Trainer", (), {"strategy": L.pytorch.strategies.FSDPStrategy(), "precision": "32-true"})
    with pytest.raises(ConfigError, match="grad_cache with FSDPStrategy"):
        module.on_fit_start()


def test_batch_statistics_are_refused_while_they_train():
    model = TwoTowers(False)
    model.query = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))
    module = ContrastiveModule(model, stage_of(False, GradCacheConfig(chunk_size=3)))
    with pytest.raises(ConfigError, match=r"query\.1 normalises over the rows of a batch"):
        fit(module, BATCHES[:1])


class Checkpointed(TwoTowers):
    """Keeps nothing of its query tower, as transformers' models with gradient checkpointing."""

    gradient_checkpointing = True

    def encode_query(self, inputs):
        if not self.gradient_checkpointing:
            return super().encode_query(inputs)
        found = []

        def run(x):
            found.append(super(Checkpointed, self).encode_query(Inputs({**inputs.dense, "x": x})))
            return found[-1].vectors

        vectors = checkpoint(run, inputs.dense["x"], use_reentrant=False)
        return Embeddings(vectors, found[0].mask)


@pytest.mark.parametrize(
    ("size", "free", "said"),
    [
        (3, 10**9, "saves nothing here: the graph of a chunk of 3 rows"),
        (1, 10**9, "saves nothing here: the graph of a chunk of 1 rows"),
        (3, 100, "a smaller grad_cache.chunk_size saves memory without"),
        (1, 100, ""),
    ],
)
def test_checkpointing_is_warned_about_where_a_chunk_fits_without(size, free, said, caplog, monkeypatch):
    monkeypatch.setattr(checkpointing, "free_bytes", lambda device: free)
    stage = stage_of(False, GradCacheConfig(chunk_size=size), steps=2)
    module = ContrastiveModule(Checkpointed(False, dropout=0.4), stage)
    fit(module, BATCHES[:2])
    texts = [record.message for record in caplog.records if "computes each chunk three times" in record.message]
    assert len(texts) == (1 if said else 0)  # once, not each step
    assert said in "".join(texts)
    assert module.model.gradient_checkpointing is True


def test_judging_checkpointing_draws_no_random_numbers():
    gradients = []
    for kind in (Checkpointed, TwoTowers):
        module = ContrastiveModule(kind(False, 0.4), stage_of(False, GradCacheConfig(chunk_size=3)))
        gradients.append(torch.cat([g.flatten() for g in fit(module, BATCHES[:1])[0].gradients[0]]))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("memory_gb", "calls"), [(1.0, 6), (1e-9, 12)])
def test_keeping_as_many_graphs_as_fit_gives_the_same_gradient(memory_gb, calls):
    def gradient(**more):
        stage = stage_of(False, GradCacheConfig(chunk_size=4, **more))  # 2 query chunks, 4 document chunks
        module = ContrastiveModule(TwoTowers(False, dropout=0.4), stage)
        count = [0]
        for tower in (module.model.query, module.model.document):
            tower.register_forward_hook(lambda *_: count.__setitem__(0, count[0] + 1))
        seen, _ = fit(module, BATCHES[:1])
        return torch.cat([g.flatten() for g in seen.gradients[0]]), count[0]

    plain, _ = gradient()
    ours, count = gradient(keep_graph="auto", memory_gb=memory_gb)
    assert count == calls  # each chunk once where all fit: no overhead; twice where none does
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-8)


def test_a_batch_smaller_than_a_chunk_is_told_of(caplog):
    fit(cached(chunks=17), BATCHES[:1])
    assert "17 rows a chunk, but a rank's part of a batch has 16 at most" in caplog.text
    caplog.clear()
    fit(cached(chunks=16), BATCHES[:1])
    assert not caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep_graph": -1}, "keep_graph must be >= 0 or auto, got -1"),
        ({"keep_graph": "many"}, "keep_graph must be >= 0 or auto, got 'many'"),
        ({"memory_gb": 2.0}, "set keep_graph: auto beside it"),
        ({"memory_gb": 0.0, "keep_graph": "auto"}, "memory_gb must be > 0"),
    ],
)
def test_kept_graphs_are_a_number_or_auto(settings, message):
    with pytest.raises(ConfigError, match=message):
        GradCacheConfig(chunk_size=2, **settings)


LOSSES = {
    "matryoshka": ITCConfig(temperature=0.1, matryoshka=[2, 4], matryoshka_weights=[0.5, 1.0]),
    "margin and hardness": ITCConfig(temperature=0.1, mask_margin=0.1, hardness=2.0, hardness_mean_one=True),
    "distillation": KLDistillationConfig(temperature=0.1),
}


@pytest.mark.parametrize("late_interaction", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_on_embeddings_has_the_whole_batchs_gradient(loss, ragged, late_interaction):
    whole = batch_of(0, 1)
    counts = torch.tensor([2, 1] * 4) if ragged else None
    rows = torch.arange(16) if counts is None else torch.tensor([r for r in range(16) if r % 4 != 3])
    teacher = torch.randn(8, 2, generator=torch.Generator().manual_seed(1))
    if ragged:
        teacher[1::2, 1] = torch.nan
    batch = replace(whole, document=whole.document.select(rows), document_counts=counts, teacher_scores=teacher)

    def gradient(cache):
        stage = replace(stage_of(late_interaction, cache), objectives={"loss": LOSSES[loss]})
        kind = RetrievalModule if cache is None else ContrastiveModule
        seen, _ = fit(kind(TwoTowers(late_interaction), stage), [batch])
        return torch.cat([g.flatten() for g in seen.gradients[0]])

    full = gradient(None)
    for cache in (GradCacheConfig(chunk_size=3), GradCacheConfig(tokens_per_chunk=11, keep_graph="auto")):
        assert float((gradient(cache) - full).norm()) <= 1e-6 * float(full.norm())


@pytest.mark.parametrize("wrong", [{}, {"chunk_size": 2, "tokens_per_chunk": 3}])
def test_one_kind_of_chunk_is_wanted(wrong):
    with pytest.raises(ConfigError, match="exactly one of chunk_size and tokens_per_chunk"):
        GradCacheConfig(**wrong)


def test_dropout_is_on_in_training_although_it_has_no_parameters():
    module = RetrievalModule(TwoTowers(False, dropout=0.5), stage_of(False, None)).train()
    assert module.model.drop.training


@pytest.mark.parametrize("chunk", [{"chunk_size": 1}, {"chunk_size": 3}, {"tokens_per_chunk": 60}])
def test_late_interaction_of_preflmr_trains_in_chunks_with_the_whole_batchs_gradient(chunk):
    model = PreFLMR.from_config(PreFLMR.SIZES["tiny"])
    texts = ["who", "what is this flag?", "where is the city", "which colour", "how large", "when was it"]
    queries = [Content(text, (picture(i, (40, 30)),), "answer:") for i, text in enumerate(texts[:3])]
    documents = [Content(f"{text} " * (i + 1), id=str(i)) for i, text in enumerate(texts)]
    batch = Batch(model.processor(queries, "query"), model.processor(documents, "document"), 2)

    def gradient(cache):
        stage = stage_of(True, cache)
        kind = RetrievalModule if cache is None else ContrastiveModule
        module = kind(model, stage)
        module.eval()
        module.log = module.log_dict = lambda *args, **kwargs: None
        module.manual_backward = lambda loss: loss.backward()
        model.zero_grad()
        if cache is None:
            module.training_step(batch, 0).backward()
        else:
            module.cached_backward(batch)
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    whole, ours = gradient(None), gradient(GradCacheConfig(**chunk))
    assert ours.shape == whole.shape
    assert float((ours - whole).norm()) <= 1e-6 * float(whole.norm())


def preflmr():
    model = PreFLMR.from_config(PreFLMR.SIZES["tiny"])
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.2
    return model


def vlm2vec():
    torch.manual_seed(1)
    peft = {"type": "dora", "r": 2, "lora_dropout": 0.3, "target_modules": ["q_proj", "down_proj"]}
    model = VLM2Vec.from_config(VLM2VecConfig(backbone="tiny", peft=peft))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("keep", [0, "auto"])
@pytest.mark.parametrize("build", [preflmr, vlm2vec])
def test_dropout_of_real_models_falls_the_same_way_again(build, keep):
    model, texts = build(), ["who", "what is this flag?", "where is the city", "which colour", "how large", "when"]
    queries = [Content(text, (picture(i, (40, 30)),), "answer:") for i, text in enumerate(texts[:3])]
    documents = [Content(f"{text} " * (i + 1), id=str(i)) for i, text in enumerate(texts)]
    batch = Batch(model.processor(queries, "query"), model.processor(documents, "document"), 2)
    stage = stage_of(True, GradCacheConfig(chunk_size=2, keep_graph=keep))
    module = ContrastiveModule(model, stage).train()
    module.log = module.log_dict = lambda *args, **kwargs: None
    module.manual_backward = lambda loss: loss.backward()

    def gradient():
        found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        model.zero_grad()
        return found

    torch.manual_seed(4)
    sides = [
        Embeddings.cat([encode(inputs.select(rows)) for rows in torch.arange(len(inputs)).split(2)])
        for encode, inputs in ((model.encode_query, batch.query), (model.encode_document, batch.document))
    ]
    module.total_loss(Step(model, batch, queries=sides[0], documents=sides[1])).backward()
    whole = gradient()
    torch.manual_seed(4)
    module.cached_backward(batch)
    ours = gradient()
    assert float((ours - whole).norm()) <= 1e-6 * float(whole.norm())
    torch.manual_seed(5)
    module.cached_backward(batch)
    assert float((gradient() - whole).norm()) > 1e-3 * float(whole.norm())  # dropout is on
