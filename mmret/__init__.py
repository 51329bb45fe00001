"""Train and compare multimodal retrievers on one data path: late interaction, VLM embedders, multiway transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Recipe", "Retriever", "__version__", "load"]

if TYPE_CHECKING:
    from mmret.models.load import load
    from mmret.models.retriever import Retriever
    from mmret.recipe.schema import Recipe


def __getattr__(name: str) -> Any:
    """The public names, imported when first asked for: `import mmret` stays quick."""
    if name == "load":
        from mmret.models.load import load

        return load
    if name == "Retriever":
        from mmret.models.retriever import Retriever

        return Retriever
    if name == "Recipe":
        from mmret.recipe.schema import Recipe

        return Recipe
    raise AttributeError(f"module 'mmret' has no attribute '{name}'")
