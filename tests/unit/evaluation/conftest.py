import json

import pytest

from mmret.evaluation import Evaluator
from tests.builders import build_toy_source
from tests.unit.evaluation.toy import WordRetriever

LOGS = {
    "mapping": "step,train/loss,shapes/heldout/recall@1\n9,3.5,\n10,,0.125\n19,2.5,\n",
    "joint": "step,train/loss,val/loss,shapes/heldout/recall@1\n9,1.5,1.75,\n10,,,0.25\n19,0.5,,\n",
}
RECIPE = """
name: toy <run>
gallery: 10
stages:
  - name: mapping
    steps: 20
    data: {batch_size: 8, sources: {toy/shapes: 3, toy/other: {weight: 1}}}
    objectives: {itc: {}}
    optimizer: {lr: 0.002}
  - name: joint
    steps: 20
    data: {batch_size: 8, sources: {toy/shapes: 1}}
    objectives: {itc: {}}
    optimizer: {lr: 0.001}
"""


def write_run(folder):
    """A run's folder as `mmret run` leaves it; its model is the toy retriever."""
    build_toy_source(folder / "data", num=8)
    run = folder / "run"
    run.mkdir()
    evaluator = Evaluator([str(folder / "data" / "benchmark.yaml")], out=run / "evaluation")
    metrics = evaluator(WordRetriever(), controls=True, untrained=WordRetriever(seed=1))
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "recipe.yaml").write_text(RECIPE)
    (run / "command.json").write_text(json.dumps({"argv": ["run", "toy.yaml", "seed=1"]}))
    for number, (name, log) in enumerate(LOGS.items()):
        (run / name).mkdir()
        (run / name / "metrics.csv").write_text(log)
        facts = {"name": name, "steps": 20, "seconds": 61.0, "samples_per_s": 321.0, "parameters": 22_700_000}
        facts |= {"trainable": 1_234_000, "metrics": {"shapes/heldout/recall@1": 0.375 + number / 8}}
        facts["handover"] = {
            "source": "somewhere",
            "kept": ["text"],
            "copied": [],
            "new": ["mapping"],
            "frozen": ["vision"],
        }
        (run / name / "stage.json").write_text(json.dumps(facts))
    return run


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("report"))
