"""`strategy: fsdp2`: each rank keeps its part of all parameters, gradients and AdamW's state (Zhao et al. 2023, FSDP).

A block's parameters are gathered when the block runs, in step with the other ranks. Where ranks do not run the same
blocks as often (chunks of GradCache, a batch whose pictures all went to one rank) that would hang, or add up wrongly.
Such a step is *gathered*: all parameters come before it, nothing is communicated in it, and each gradient is reduced
once after it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from hashlib import blake2b
from typing import Any, cast

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from mmret.models.depth import blocks
from mmret.types import Batch, Inputs

_TOUCH = "touch"
"""Method of the sharded module that only starts and ends FSDP's cycle: forward gathers what is outside of all blocks,
backward reduces whatever gradients there are."""


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy of FSDP2, with steps in which ranks may differ, and one file a checkpoint, as with DDP.

    Args:
        world: ranks of the job.
    """

    def __init__(self, world: int) -> None:
        super().__init__(data_parallel_size=world, tensor_parallel_size=1, save_distributed_checkpoint=False)
        self._root: Any = None
        self._blocks: list[Any] = []
        self._empty = nn.ModuleDict()
        self._shapes: dict[str, torch.Size] = {}
        self._gathered = False

    def shard(self, module: nn.Module) -> None:
        """Shard a module in place: block by block, and what is outside of blocks as one part.

        Args:
            module: has `model` and `objectives`, and no other parameters.
        """
        for tensor in (*module.parameters(), *module.buffers()):  # as DDP: rank 0 says where all begin
            there = tensor.detach().to(self.root_device)
            dist.broadcast(there, 0)
            tensor.detach().copy_(there)
        self._empty = _without_memory(_parts(module))
        self._shapes = {name: parameter.shape for name, parameter in self._empty.named_parameters()}
        _give_scalars_an_axis(module)
        mesh = self.device_mesh["data_parallel"]
        found = blocks(cast(nn.Module, module.model))
        for block in found:
            fully_shard(block, mesh=mesh)
        fully_shard(module, mesh=mesh, reshard_after_forward=False)
        self._root, self._blocks = module, list(found)
        if self.root_device.type == "cpu":  # gloo knows no mean
            self._root.set_force_sum_reduction_for_comms(True)
        setattr(module, _TOUCH, partial(torch.zeros, (), device=self.root_device, requires_grad=True))
        register_fsdp_forward_method(module, _TOUCH)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """The module's step; gathered if it makes its own backward passes, or if ranks hold different inputs."""
        assert self.lightning_module is not None
        zero = self._begin(not self.lightning_module.automatic_optimization or not self._ranks_agree(args[0]))
        loss = cast(Tensor, super().training_step(*args, **kwargs))
        # Else a backward pass that reaches no block (all frozen) would end without reducing anything.
        return loss if self._gathered else loss + zero

    def post_backward(self, closure_loss: Tensor) -> None:
        """After Lightning's backward pass; a module that makes its own calls `reduce_gradients` itself."""
        super().post_backward(closure_loss)
        assert self.lightning_module is not None
        if self._gathered and self.lightning_module.automatic_optimization:
            self.reduce_gradients()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """As with DDP; on rank 0 only."""
        state = super().lightning_module_state_dict()
        return {name: value.view(self._shapes.get(name, value.shape)) for name, value in state.items()}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """As with DDP, on every rank: a stage may go on with another strategy."""
        state = optimizer.state_dict()
        names = {id(parameter): name for name, parameter in self._root.named_parameters()}
        shapes = [self._shapes[names[id(p)]] for group in optimizer.param_groups for p in group["params"]]
        full = {
            number: {
                key: value.full_tensor().view(shapes[number]).cpu() if isinstance(value, DTensor) else value
                for key, value in of_one.items()
            }
            for number, of_one in state["state"].items()
        }
        return {**state, "state": full}

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Model and optimizer, each rank its part; returns the rest."""
        checkpoint = torch.load(checkpoint_path, map_location="cpu", weights_only=False, mmap=True)
        own = self._root.state_dict()
        with torch.no_grad():
            for name, value in checkpoint.pop("state_dict").items():
                own[name].copy_(_part_of(value, own[name]))
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"]):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            parts = {
                number: {
                    key: value if key == "step" else _part_of(value, parameters[number])
                    for key, value in of_one.items()
                }
                for number, of_one in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": parts})
        return checkpoint

    def reduce_gradients(self) -> None:
        """End a gathered step: each gradient becomes its mean over ranks, one reduction a block; parameters go.

        A parameter without gradient on this rank counts as zero; one without on all ranks is left without.
        """
        trained = [p for p in self._root.parameters() if p.requires_grad]
        reached = torch.tensor([p.grad is not None for p in trained], dtype=torch.int32, device=self.root_device)
        dist.all_reduce(reached, dist.ReduceOp.MAX)
        for parameter, somewhere in zip(trained, reached.tolist()):
            if somewhere and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._switch(gathered=False)
        getattr(self._root, _TOUCH)().backward()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """See the function of this name."""
        sharded = _parts(self._root)
        memo: dict[int, Any] = _kept(self._empty)
        parts = dict(sharded.named_parameters())
        for name, empty in self._empty.named_parameters():
            full = cast(DTensor, parts[name].detach()).full_tensor().view(empty.shape)
            memo[id(empty)] = nn.Parameter(full, requires_grad=empty.requires_grad)
        # To the device goes what is no parameter: mim's tokenizer, which was copied before the rest went there.
        plain = copy.deepcopy(self._empty, memo).to(self.root_device)
        try:
            self._root.model, self._root.objectives = plain["model"], plain["objectives"]
            yield
        finally:
            self._root.model, self._root.objectives = sharded["model"], sharded["objectives"]

    def _begin(self, gathered: bool) -> Tensor:
        zero = getattr(self._root, _TOUCH)()
        if gathered:
            for block in self._blocks:
                block.unshard()
        self._switch(gathered)
        return zero

    def _switch(self, gathered: bool) -> None:
        self._gathered = gathered
        self._root.set_requires_gradient_sync(not gathered)
        self._root.set_reshard_after_backward(not gathered)
        for block in self._blocks:
            block.set_reshard_after_forward(not gathered)

    def _ranks_agree(self, batch: Batch) -> bool:
        """Whether all ranks' inputs are of the same kinds, so that they run the same parts of the model."""
        sides = (batch.query, batch.document, batch.masked_query)
        text = "/".join(",".join(_kinds(side)) if side is not None else "-" for side in sides)
        number = int.from_bytes(blake2b(text.encode(), digest_size=7).digest(), "big")
        ends = torch.tensor([number, -number], device=self.root_device)
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        return int(ends.sum()) == 0


@contextmanager
def whole(module: L.LightningModule) -> Iterator[None]:
    """Inside, on every rank, a module's `model` and `objectives` have all their parameters; all ranks enter together.

    Where they are sharded they are plain copies for that time: for evaluation, where ranks run other blocks as often as
    they have rows, and for saving.
    """
    strategy = module.trainer.strategy
    with strategy.whole() if isinstance(strategy, ShardedStrategy) else nullcontext():
        yield


def _parts(module: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict({"model": cast(nn.Module, module.model), "objectives": cast(nn.Module, module.objectives)})


def _kept(module: nn.Module) -> dict[int, Any]:
    """A memo with which `deepcopy` leaves buffers and processors as they are."""
    kept: dict[int, Any] = {id(buffer): buffer for buffer in module.buffers()}
    processor = vars(module["model"]).get("processor") if isinstance(module, nn.ModuleDict) else None
    return {**kept, id(processor): processor}


def _without_memory(module: nn.Module) -> nn.ModuleDict:
    """A copy whose parameters have no numbers; shared ones stay shared."""
    memo = _kept(module)
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    return copy.deepcopy(cast(nn.ModuleDict, module), memo)


def _give_scalars_an_axis(module: nn.Module) -> None:
    """FSDP splits along the first axis; a learnt temperature has none."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            if parameter.dim() == 0:
                setattr(part, name, nn.Parameter(parameter.detach().view(1), parameter.requires_grad))


def _part_of(full: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a tensor that every rank holds, cut as `like` is."""
    if not isinstance(like, DTensor):
        return full
    full = full.view(like.shape).to(like.device)
    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)


def _kinds(inputs: Inputs) -> list[str]:
    """Names of the inputs that are not empty."""
    found: Mapping[str, int] = {
        **{name: tensor.numel() for name, tensor in inputs.dense.items()},
        **{name: sum(len(tensor) for tensor in rows) for name, rows in inputs.ragged.items()},
    }
    return sorted(name for name, size in found.items() if size)
