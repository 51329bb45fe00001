"""GradCache under Lightning: accumulation, clipping, schedule, precision, and what is refused."""

import lightning as L
import pytest
import torch
from torch import nn

from mmret.errors import ConfigError
from mmret.models import PreFLMR
from mmret.objectives import ITC, Objective
from mmret.recipe.schema import GradCacheConfig, ScheduleConfig
from mmret.training.contrastive import ContrastiveModule
from mmret.training.module import RetrievalModule
from mmret.types import Batch, Content, Need
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


def test_float16_scaling_is_refused():
    module = cached()
    module._trainer = type(
        "Trainer", (), {"strategy": L.pytorch.strategies.SingleDeviceStrategy(), "precision": "16-mixed"}
    )
    with pytest.raises(ConfigError, match="use bf16-mixed"):
        module.on_fit_start()


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


def test_checkpointing_inside_chunks_is_warned_about_unless_chunks_are_single_rows(caplog):
    for size, warned in ((3, True), (1, False)):
        caplog.clear()
        module = cached(chunks=size)
        module.model.query.gradient_checkpointing = True
        fit(module, BATCHES[:1])
        assert ("computes each chunk three times" in caplog.text) == warned


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
