"""What a recipe may say and how it is read: schema, loader, checks across fields. Nothing here trains or opens data."""

from mmret.recipe.load import LoadedRecipe, load_recipe, read_recipe
from mmret.recipe.overrides import Override
from mmret.recipe.problem import Problem, RecipeError
from mmret.recipe.resolved import recipe_fingerprint, resolve_to_yaml, stage_model_config
from mmret.recipe.schema import Recipe, Stage

__all__ = [
    "LoadedRecipe",
    "Override",
    "Problem",
    "Recipe",
    "RecipeError",
    "Stage",
    "load_recipe",
    "read_recipe",
    "recipe_fingerprint",
    "resolve_to_yaml",
    "stage_model_config",
]
