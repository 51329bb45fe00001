"""`strategy: fsdp2`: sharded parameters give the gradient, and the checkpoint, of one process with the whole batch."""

from dataclasses import replace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed.fsdp._fully_shard import _fsdp_param_group

from mmret.models import VLM2Vec, VLM2VecConfig
from mmret.objectives import HardNegativeConfig, ITCConfig
from mmret.recipe.schema import GradCacheConfig, OptimizerConfig
from mmret.training.compiling import compile_blocks
from mmret.training.contrastive import ContrastiveModule
from mmret.training.module import RetrievalModule
from mmret.training.sharding import ShardedStrategy, whole
from mmret.types import Batch, Content
from tests.processes import run_processes
from tests.unit.models.toys import picture, toy_model
from tests.unit.models.vlmo.toys import toy_model as toy_vlmo
from tests.unit.training.toy_towers import fit, stage_of

pytestmark = pytest.mark.dist

ROWS = 4
TEXTS = ["who", "what is this flag of red and blue?", "where is the city", "which colour"]
ITC = ITCConfig(temperature=0.1, learn_temperature=True)
LORA = {"type": "lora", "r": 2, "target_modules": ["q_proj", "down_proj"]}


def vlm2vec(**settings):
    torch.manual_seed(1)
    model = VLM2Vec.from_config(VLM2VecConfig(backbone="tiny", **settings))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at the start: half of the gradients would be
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def compiled(model):
    """`trainer.compile`, whose blocks are sharded after it; only inductor itself is left out."""
    assert compile_blocks(model, backend="aot_eager") > 0
    return model


MODELS = {
    "vlm2vec": (vlm2vec, {"itc": ITC}),
    "vlm2vec_compiled": (lambda: compiled(vlm2vec()), {"itc": ITC}),
    "vlm2vec_lora": (lambda: vlm2vec(peft=LORA), {"itc": ITC}),
    "vlm2vec_recomputed": (lambda: vlm2vec(peft=LORA, gradient_checkpointing=True), {"itc": ITC}),
    "preflmr": (lambda: toy_model(), {"loss": HardNegativeConfig()}),
    "preflmr_linear": (lambda: toy_model(), {"loss": HardNegativeConfig()}),
    "vlmo": (lambda: toy_vlmo(), {"itc": ITC, "itc_vl": replace(ITC, head="vl")}),
}
CASES = [
    *((name, None, True) for name in MODELS),
    ("vlm2vec", None, False),  # all pictures with the first rank
    ("vlm2vec_compiled", GradCacheConfig(chunk_size=1), True),
    ("vlm2vec_lora", GradCacheConfig(chunk_size=1), True),
    ("vlm2vec", GradCacheConfig(tokens_per_chunk=60), False),
    ("preflmr", GradCacheConfig(chunk_size=3, keep_graph="auto", memory_gb=1e-6), True),
]


def batch_of(model, name, everywhere, rank=0, world=1):
    """This rank's rows of one batch; with pictures in every row, or in the first two only."""
    start, stop = rank * ROWS // world, (rank + 1) * ROWS // world
    rows = range(start, stop)
    if name == "vlmo":
        queries = [Content(images=(picture(i, (16, 16)),), id=str(i)) for i in rows]
    else:
        pictures = {i: (picture(i, (40, 30)),) if everywhere or i < 2 else () for i in rows}
        queries = [Content(TEXTS[i], pictures[i], "answer:") for i in rows]
    per_query = 2 if name.startswith("preflmr") else 1
    documents = [
        Content(f"{TEXTS[i // per_query]} " * (1 + i % 3), id=str(i))
        for i in range(start * per_query, stop * per_query)
    ]
    return Batch(model.processor(queries, "query"), model.processor(documents, "document"), per_query)


def trained(rank, world, name, cache, everywhere, strategy=None, steps=1, **settings):
    """Gradients of the first step, and all parameters after the last."""
    build, objectives = MODELS[name]
    model = build()
    optimizer = OptimizerConfig(lr=0.01, weight_decay=0.0, eps=1.0)  # a large epsilon: steps are as large as gradients
    scale = {"text_linear": 1.0, ".*": 0.0} if name == "preflmr_linear" else {".*": 1.0}  # no block trains
    stage = replace(stage_of(False, cache, steps=steps), objectives=objectives, optimizer=optimizer, lr_scale=scale)
    clip = {} if cache is None else {"clip_norm": settings.pop("gradient_clip_val", None)}
    module = (RetrievalModule if cache is None else ContrastiveModule)(model, stage, **clip)
    module.eval()  # dropout's draws differ between ranks
    batches = [batch_of(model, name, everywhere, rank, world)] * steps
    seen, _ = fit(module, batches, rank, world, strategy, **settings)
    names = [n for n, _ in module.named_parameters()]
    with whole(module):
        weights = {n: p.detach().clone() for n, p in module.named_parameters()}
    return dict(zip(names, seen.gradients[0])), weights


def sharded(rank, world, cases):
    """Gradients of each case on this rank, and for each reduction the first of its parameters."""
    found, plain = [], _fsdp_param_group.foreach_reduce
    for case in cases:
        reduced = []

        def counted(parameters, *args, reduced=reduced, **kwargs):
            reduced.append(id(parameters[0]))
            return plain(parameters, *args, **kwargs)

        _fsdp_param_group.foreach_reduce = counted
        found.append((trained(rank, world, *case, strategy=ShardedStrategy(world))[0], reduced))
    _fsdp_param_group.foreach_reduce = plain
    return found


@pytest.mark.parametrize("world", [2, 4])
def test_sharded_gradient_is_one_ranks_with_the_whole_batch(world):
    cases = CASES if world == 2 else [case for case in CASES if case[0] == "vlmo" or not case[2]]
    reference = [trained(0, 1, name, None, everywhere)[0] for name, _, everywhere in cases]
    found = run_processes(sharded, world, world, cases)
    for rank, results in enumerate(found):
        for case, (ours, reduced), alone in zip(cases, results, reference):
            where = f"rank {rank} of {world}, {case}"
            assert [name for name in alone if (ours[name] is None) != (alone[name] is None)] == [], where
            there = [name for name in alone if alone[name] is not None]
            whole_batch = torch.cat([alone[name].flatten() for name in there])
            difference = torch.cat([ours[name].flatten() for name in there]) - whole_batch
            assert float(difference.norm() / whole_batch.norm()) <= 1e-5, where
            if case[1] is not None or not case[2]:  # gathered: one reduction a block, however many passes
                assert reduced and len(set(reduced)) == len(reduced), where


LATER = [
    (("vlm2vec_lora", None, True), {"gradient_clip_val": 0.5}),
    (("vlm2vec", GradCacheConfig(chunk_size=1), False), {"gradient_clip_val": 0.01}),
    (("vlmo", None, True), {"gradient_clip_val": 0.01}),
]


def clipped_and_resumed(rank, world, folder):
    """Weights after three clipped steps, and after two of them and a third from the checkpoint."""
    found = []
    for number, (case, settings) in enumerate(LATER):
        keep = ModelCheckpoint(folder / str(number), "{step}", every_n_train_steps=2, save_on_train_epoch_end=False)
        more = {"steps": 3, "max_steps": 3}
        straight = trained(rank, world, *case, ShardedStrategy(world), callbacks=[keep], **more, **settings)
        resume = folder / str(number) / "step=2.ckpt"
        resumed = trained(rank, world, *case, ShardedStrategy(world), resume=resume, **more, **settings)
        found.append((straight[1], resumed[1]))
    return found


def test_clipped_steps_and_a_resumed_run_end_where_one_process_does(tmp_path):
    found = run_processes(clipped_and_resumed, 2, 2, tmp_path)
    for number, (case, settings) in enumerate(LATER):
        _, alone = trained(0, 1, case[0], None, case[2], steps=3, **settings)
        start = dict(MODELS[case[0]][0]().named_parameters())
        assert max(float((alone[f"model.{n}"] - p).abs().max()) for n, p in start.items()) > 1e-5  # it moved
        for rank, results in enumerate(found):
            for kind, weights in zip(("straight", "resumed"), results[number]):
                assert {n: w.shape for n, w in weights.items()} == {n: w.shape for n, w in alone.items()}
                difference = max(float((weights[name] - alone[name]).abs().max()) for name in alone)
                assert difference <= 1e-6, f"rank {rank}, {case[0]}, {kind}: {difference}"
    for number, (case, settings) in enumerate(LATER):  # and one process goes on with what the sharded ones left
        if case[1] is None:
            resume = tmp_path / str(number) / "step=2.ckpt"
            _, alone = trained(0, 1, case[0], None, case[2], steps=3, max_steps=3, resume=resume, **settings)
            weights = found[0][number][0]
            assert max(float((weights[name] - alone[name]).abs().max()) for name in alone) <= 1e-6


def autocast(rank, world):
    """Gradients under bf16-mixed of a sharded model, and of DDP."""
    case = ("vlm2vec", None, True)
    return [
        trained(rank, world, *case, strategy, precision="bf16-mixed")[0]
        for strategy in (ShardedStrategy(world), DDPStrategy(find_unused_parameters=True))
    ]


def test_bfloat16_computes_what_ddp_computes():
    for ours, ddp in run_processes(autocast, 2, 2):
        for name, gradient in ddp.items():
            assert ours[name].dtype == torch.float32
            torch.testing.assert_close(ours[name].view(gradient.shape), gradient, rtol=1e-4, atol=1e-6)


def held(rank):
    """Numbers of the model, and of them what this rank keeps between steps."""
    module = RetrievalModule(vlm2vec(), replace(stage_of(False, None), objectives={"itc": ITC}))
    total = sum(p.numel() for p in module.parameters())
    fit(module, [batch_of(module.model, "vlm2vec", True, rank, 2)], rank, 2, ShardedStrategy(2))
    return total, sum(p.to_local().numel() for p in module.parameters())


def test_a_rank_keeps_its_part_of_the_parameters():
    parts = run_processes(held, 2)
    total = parts[0][0]
    assert sum(part for _, part in parts) == total
    assert max(part for _, part in parts) < 0.6 * total
