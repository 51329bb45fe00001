"""How many layers lie between a parameter and the output of its tower: what layer-wise learning-rate decay asks."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def layers_above(module: nn.Module) -> dict[str, int]:
    """Layers above each parameter, by its name in `module`: 0 for heads, 1 for the last of n blocks, n for the first.

    What a tower registers before its blocks, its embeddings, has n + 1; what it registers after them, such as a final
    norm, has 0, like everything outside a tower. A tower is the largest part of the module with a single stack of
    blocks: each counts from its own top, however many there are and however deep.
    """
    found = dict.fromkeys((name for name, _ in module.named_parameters()), 0)
    stacks = list(_stacks(module))
    for stack in stacks:
        blocks = f"{stack}." if stack else ""
        tower = _tower(stack, stacks)
        depth = len(module.get_submodule(stack))  # pyright: ignore[reportArgumentType]
        inside = [name for name in found if name.startswith(tower)]
        first = next((at for at, name in enumerate(inside) if name.startswith(blocks)), 0)
        for at, name in enumerate(inside):
            if name.startswith(blocks):
                found[name] = depth - int(name.removeprefix(blocks).split(".")[0])
            elif at < first:
                found[name] = depth + 1
    return found


def blocks(module: nn.Module) -> list[nn.Module]:
    """The repeated layers of its towers, each once: what memory is given and taken by where parameters are sharded.

    A block that shares a parameter with anything outside of it is left out: it cannot come and go alone.
    """
    found = dict.fromkeys(block for stack in _stacks(module) for block in module.get_submodule(stack).children())
    owners: dict[nn.Parameter, set[nn.Module]] = {}
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            owners.setdefault(parameter, set()).add(part)
    alone = []
    for block in found:
        inside = set(block.modules())
        own = list(block.parameters())
        if own and all(owners[parameter] <= inside for parameter in own):
            alone.append(block)
    return alone


def _stacks(module: nn.Module, name: str = "") -> Iterator[str]:
    """Names of the outermost lists of blocks."""
    children = list(module.children())
    alike = len(children) > 1 and len({type(child) for child in children}) == 1
    deep = all(any(True for _ in child.children()) for child in children)
    if children and deep and (isinstance(module, nn.ModuleList) or (isinstance(module, nn.Sequential) and alike)):
        yield name
        return
    for key, child in module.named_children():
        yield from _stacks(child, f"{name}.{key}" if name else key)


def _tower(stack: str, stacks: list[str]) -> str:
    """The longest way up from a stack that passes no other one, as a prefix of names ("" for the whole module)."""
    parts = stack.split(".")
    for end in range(len(parts)):
        prefix = "".join(f"{part}." for part in parts[:end])
        if not any(other.startswith(prefix) for other in stacks if other != stack):
            return prefix
    return f"{stack}."
