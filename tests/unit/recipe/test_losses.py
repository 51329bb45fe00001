"""Keys of the contrastive loss as a recipe writes them, with the real tables."""

from mmret.recipe import load_recipe

RECIPE = """\
name: losses
model: {name: vlm2vec, backbone: tiny}
stages:
  - name: one
    steps: 1
    data: {batch_size: 8, documents_per_query: 3, fill_negatives: false, sources: {demo/flags: 1}}
    objectives:
      itc: {temperature: 0.02, mask_margin: 0.1, hardness: 2, matryoshka: [256, 64]}
    optimizer: {lr: 1e-3}
"""


def test_the_losses_options_are_read(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    stage = load_recipe(path).stages[0]
    assert stage.objectives["itc"].matryoshka == [256, 64]
    assert stage.objectives["itc"].mask_margin == 0.1 and stage.objectives["itc"].hardness == 2.0
    assert stage.data.fill_negatives is False
    again = load_recipe(path, ["stages[0].objectives.itc.matryoshka=[32]"]).stages[0]
    assert again.objectives["itc"].matryoshka == [32]
