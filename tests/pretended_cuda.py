"""A CUDA device that is not there: tensors said to lie on it lie on the CPU, and meet no others than a GPU's may."""

import traceback
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda", 0)
CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "bincount", "multinomial"}
"""Operators that make the CPU wait for a GPU, as the shape or value that they give is needed there."""
CROSSING = {"_to_copy", "copy_", "index", "index_put", "index_put_"}
"""Operators that take tensors of the CPU beside a GPU's: copies, and indices."""


class OnGPU(torch.Tensor):
    """A tensor that Python sees on `DEVICE`. To autograd it is on the meta device, which needs no driver."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, there):
        shape = torch.empty_strided(there.shape, there.stride(), dtype=there.dtype, device="meta")
        tensor = torch.Tensor._make_subclass(cls, shape, there.requires_grad, device_for_backend_keys=DEVICE)
        tensor.there = there
        return tensor

    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_cpu = is_meta = property(lambda self: False)

    def tolist(self):
        return self.cpu().tolist()

    def __repr__(self):
        return f"OnGPU({self.there!r})"

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        return _run(operator, args, kwargs or {})


class _Everything(TorchDispatchMode):
    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # torch then does not start CUDA when it hears the name
    shape_env = None

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        return _run(operator, args, kwargs or {})


@contextmanager
def pretended_cuda():
    """Inside, `cuda:0` (said with its number) can be used; gives a counter of where of mmret the CPU waits for it."""
    waits, lift = Counter(), torch._C._only_lift_cpu_tensors()
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        for module, name, stand_in in (
            (torch.cuda, "get_rng_state", lambda *_: torch.get_rng_state()),
            (torch.cuda, "set_rng_state", lambda *_: None),
        ):
            stack.enter_context(patch.object(module, name, stand_in))
        stack.enter_context(patch(f"{__name__}._wait", lambda: waits.update(_place())))
        stack.callback(torch._C._set_only_lift_cpu_tensors, lift)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, overwrite)
        torch._C._set_only_lift_cpu_tensors(True)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_Everything())
        yield waits


def _wait():
    """Replaced while there is a counter."""


def _place():
    """The file of mmret that asked, if it is our own line and not a library's."""
    frames = [frame.filename for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
    last = [name for name in frames if name not in (__file__, "<frozen importlib._bootstrap>")][-1]
    return [str(Path(last).relative_to(ROOT / "mmret"))] if last.startswith(str(ROOT / "mmret")) else []


def _run(operator, args, kwargs):
    if operator is torch.ops.prim.device.default:
        return torch.device("meta")
    name = operator._schema.name.partition("::")[2]
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, OnGPU)]
    others = [tensor for tensor in tensors if not isinstance(tensor, OnGPU)]
    if ours and name not in CROSSING and any(tensor.dim() for tensor in others):  # a number may come from anywhere
        raise RuntimeError(f"{operator} with tensors of a GPU and of the CPU")
    on_gpu, plain = bool(ours), dict(kwargs)
    if kwargs.get("device") is not None:
        on_gpu, plain["device"] = kwargs["device"].type != "cpu", CPU
    if name == "_to_copy" and on_gpu != bool(ours):
        waits = not on_gpu or not kwargs.get("non_blocking")
    elif name == "copy_":
        waits = bool(ours) and bool(others)
    elif name in ("index", "index_put", "index_put_"):
        waits = bool(ours) and any(index is not None and index.dtype == torch.bool for index in args[1])
        waits &= name == "index" or args[2].numel() > 1  # one number for all: a mask is all it takes
    else:
        waits = bool(ours) and name in WAITING
    if waits:
        _wait()
    inner = tree_map(lambda leaf: leaf.there if isinstance(leaf, OnGPU) else leaf, (args, plain))
    result = operator(*inner[0], **inner[1])
    written = [number for number, argument in enumerate(operator._schema.arguments) if _writes(argument)]
    if operator._schema.returns and _writes(operator._schema.returns[0]):
        given = [args[n] if n < len(args) else kwargs[operator._schema.arguments[n].name] for n in written]
        return given[0] if len(given) == 1 else tuple(given)
    if not on_gpu:
        return result
    return tree_map(lambda leaf: OnGPU(leaf) if isinstance(leaf, torch.Tensor) else leaf, result)


def _writes(argument):
    return argument.alias_info is not None and argument.alias_info.is_write
