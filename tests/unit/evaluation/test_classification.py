"""A head that answers by the picture's colour alone, on rows where everything can be counted by hand."""

import csv
import io
import json

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn

from mmret.data import Classes, Sample, write_shards
from mmret.errors import ConfigError
from mmret.evaluation import Benchmark, Evaluator
from mmret.evaluation.class_metrics import accuracy, expected_of, vqa_score
from mmret.evaluation.classification import untrained_heads
from mmret.evaluation.report import write_report
from mmret.objectives import ITC, Classify, ClassifyConfig, ITCConfig
from tests.unit.models.vlmo.toys import toy_model

COLOURS = ("red", "green", "blue")
SHOWN = ("green", "green", "blue", "green", "red", "blue")
SPEC = """\
name: toy/colours
task: classification
objective: colour
classes: classes.txt
splits:
  all: {{shards: {shards}.manifest.json, group_by: kind}}
metrics: [accuracy, vqa_score]
controls: {controls}
control_splits: [all]
{more}
"""


class ColourHead(Classify):
    """Logits are the mean of the picture's red, green and blue; a grey picture is class 0."""

    def __init__(self, num_classes=3):
        super().__init__(ClassifyConfig(num_classes=num_classes), 16)

    def logits(self, step):
        assert not self.training and not torch.is_grad_enabled()
        return step.image.dense["pixel_values"].mean((2, 3))


def picture(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(buffer, "PNG")
    return buffer.getvalue()


def benchmark(folder, labels, controls="[]", more="", start=500):
    rows = [
        Sample(
            str(number),
            {
                "query": {"text": "which colour?", "images": ["q.0.png"]},
                "question_id": start + number,
                "kind": "cold" if shown == "blue" else "warm",
                **label,
            },
            {"q.0.png": picture(shown)},
        )
        for number, (shown, label) in enumerate(zip(SHOWN, labels))
    ]
    write_shards(rows, folder)
    (folder / "classes.txt").write_text("\n".join(COLOURS))
    file = folder / "colours.yaml"
    file.write_text(SPEC.format(shards="train", controls=controls, more=more))
    return str(file)


def evaluate(file, head=None, model=None, **options):
    heads = nn.ModuleDict({"colour": head or ColourHead()})
    return Evaluator([file], batch_size=4).measure(model or toy_model(), objectives=heads, **options)


RIGHT = [{"label": colour} for colour in SHOWN]


def test_a_head_is_scored_against_each_rows_class_and_in_groups(tmp_path):
    wrong = [*RIGHT[:2], {"label": 0}, *RIGHT[3:]]  # the third row's answer is red, its picture blue
    metrics = evaluate(benchmark(tmp_path, wrong)).metrics
    assert metrics == {
        "colours/all/accuracy": pytest.approx(5 / 6),
        "colours/all/vqa_score": pytest.approx(5 / 6),
        "colours/all/kind=cold/accuracy": pytest.approx(1 / 2),
        "colours/all/kind=cold/vqa_score": pytest.approx(1 / 2),
        "colours/all/kind=warm/accuracy": 1.0,
        "colours/all/kind=warm/vqa_score": 1.0,
    }


def test_soft_scores_count_for_the_predicted_answer(tmp_path):
    labels = [{"labels": {"green": 0.3, "red": 1}}, {"labels": {"green": 0.9}}, {"labels": {}}, *RIGHT[3:]]
    labels[3:] = [{"labels": {colour["label"]: 1}} for colour in RIGHT[3:]]
    metrics = evaluate(benchmark(tmp_path, labels)).metrics
    assert metrics["colours/all/vqa_score"] == pytest.approx((0.3 + 0.9 + 0 + 1 + 1 + 1) / 6)
    assert metrics["colours/all/accuracy"] == pytest.approx(4 / 6)


def test_metrics_of_one_row():
    target = Classes(["a", "b", "c", "d"], "x").target("1", {"labels": {"a": 0.6, "c": 0.6, "b": 0.3}})
    assert [accuracy(target, n) for n in range(4)] == [1, 0, 1, 0]
    assert [vqa_score(target, n) for n in range(4)] == [0.6, 0.3, 0.6, 0]
    assert expected_of("accuracy", [target, None]).nan_to_num(-1).tolist() == [0.5, -1]
    assert expected_of("vqa_score", [target])[0] == pytest.approx(1.5 / 4)


def test_controls_say_what_the_picture_is_worth(tmp_path):
    controls = "[question_only, image_only, shuffled_images, majority, chance, untrained]"
    evaluation = evaluate(benchmark(tmp_path, RIGHT, controls), controls=True)
    found = {name: value for name, value in evaluation.metrics.items() if name.endswith("/accuracy")}
    assert found["colours/all/accuracy"] == found["colours/all/image_only/accuracy"] == 1
    assert found["colours/all/question_only/accuracy"] == pytest.approx(1 / 6)  # grey is class 0, red
    assert found["colours/all/shuffled_images/accuracy"] == 0  # each gets a picture of something else
    assert found["colours/all/majority/accuracy"] == pytest.approx(3 / 6)  # always green
    assert found["colours/all/chance/accuracy"] == pytest.approx(1 / 3)
    assert "colours/all/untrained/accuracy" not in found  # no untrained model given


def test_an_untrained_model_gets_untrained_heads_always_the_same():
    torch.manual_seed(1)
    trained = nn.ModuleDict({"vqa": Classify(ClassifyConfig(num_classes=5), 16)})
    first = untrained_heads(trained, toy_model())
    torch.manual_seed(2)
    again = untrained_heads(trained, toy_model(seed=3))
    assert first["vqa"].config == trained["vqa"].config
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
    assert not torch.equal(first["vqa"].output.weight, trained["vqa"].output.weight)


def test_a_real_head_of_a_model_is_asked_row_by_row(tmp_path):
    model = toy_model()
    head = Classify.for_model(ClassifyConfig(num_classes=3), model)
    nn.init.normal_(head.output.weight)
    head.train()
    file = benchmark(tmp_path, RIGHT)
    one, many = (Evaluator([file], batch_size=size).measure(model, objectives=nn.ModuleDict({"colour": head}))
                 for size in (1, 6))  # fmt: skip
    assert one.results[0].predictions.tolist() == many.results[0].predictions.tolist()
    assert head.training and not model.training


def test_predictions_are_written_as_vqas_server_takes_them(tmp_path):
    file = benchmark(tmp_path / "data", [{}] * 6, more="description: test split without labels")
    out = tmp_path / "out"
    Evaluator([file], out=out)(toy_model(), objectives=nn.ModuleDict({"colour": ColourHead()}))
    rows = json.loads((out / "colours" / "all.predictions.json").read_text())
    assert rows == [{"question_id": 500 + number, "answer": colour} for number, colour in enumerate(SHOWN)]
    assert json.loads((out / "metrics.json").read_text()) == {}
    table = pq.read_table(out / "queries.parquet").to_pylist()
    assert [row["prediction"] for row in table] == list(SHOWN) and table[0]["accuracy"] is None
    assert write_report(out).stat().st_size > 5_000


def test_predictions_are_written_as_nlvr2s_script_takes_them(tmp_path):
    file = benchmark(tmp_path / "data", RIGHT, controls="[question_only]", more="submission: csv")
    out = tmp_path / "out"
    Evaluator([file], out=out)(toy_model(), objectives=nn.ModuleDict({"colour": ColourHead()}), controls=True)
    (path,) = (out / "colours").iterdir()
    assert path.name == "all.predictions.csv"
    assert list(csv.reader(path.open())) == [[str(500 + number), colour] for number, colour in enumerate(SHOWN)]


def test_a_model_without_the_head_is_refused(tmp_path):
    file, model = benchmark(tmp_path, RIGHT), toy_model()
    other = nn.ModuleDict({"colours": ColourHead(), "itc": ITC(ITCConfig(temperature=0.1))})
    with pytest.raises(
        ConfigError, match=r"has no head 'colour' \(known: colours. Did you mean colours\?\); train a st"
    ):
        Evaluator([file])(model, objectives=other)
    with pytest.raises(ConfigError, match=r"has no head 'colour' .known: none"):
        Evaluator([file])(model)
    with pytest.raises(ConfigError, match="objective 'colour' of this model is ITC, not classify"):
        Evaluator([file])(model, objectives=nn.ModuleDict({"colour": other["itc"]}))
    with pytest.raises(ConfigError, match=r"classes.txt has 3 classes, the model's head 'colour' 4; the answer vocab"):
        evaluate(file, ColourHead(4))


def test_a_stage_without_the_head_leaves_the_benchmark_out(tmp_path):
    evaluator = Evaluator([benchmark(tmp_path, RIGHT)])
    evaluator.leave_out_headless(nn.ModuleDict({"colour": ColourHead()}))
    assert len(evaluator.benchmarks) == 1
    evaluator.leave_out_headless(nn.ModuleDict())
    assert evaluator.benchmarks == []


def test_nothing_is_searched(tmp_path):
    evaluator = Evaluator([benchmark(tmp_path, RIGHT)])
    assert [role for role, _ in evaluator.contents()] == ["query"] * 6
    with pytest.raises(ConfigError, match="task classification has no corpus to search"):
        _ = evaluator.benchmarks[0][0].corpus


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("task: classification", "task: classify", "task must be retrieval or classification, got 'classify'"),
        ("classes: classes.txt", "description: x", "task classification names `classes`, and no `corpus`"),
        ("classes: classes.txt", "classes: classes.txt\ncorpus: x.arrow", "names `classes`, and no `corpus`"),
        ("task: classification", "task: retrieval", "task retrieval names `corpus`, and no `classes`"),
        (
            "[accuracy, vqa_score]",
            "[acuracy]",
            "metrics: unknown metric 'acuracy' of a classification.*Did you mean acc",
        ),
        ("control_splits: [all]", "gallery: all", "gallery shows documents"),
        ("control_splits: [all]", "submission: tsv", "submission must be json or csv, got 'tsv'"),
    ],
)
def test_a_benchmark_that_cannot_be_is_refused(tmp_path, old, new, message):
    file = benchmark(tmp_path, RIGHT)
    text = (tmp_path / "colours.yaml").read_text()
    assert old in text
    (tmp_path / "colours.yaml").write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        Benchmark.load(file)


def test_majority_is_no_control_of_a_retrieval(tmp_path):
    (tmp_path / "r.yaml").write_text("name: r\ncorpus: c.arrow\nsplits: {all: {shards: s}}\ncontrols: [majority]\n")
    with pytest.raises(ConfigError, match="majority is the best constant answer of a task: classification"):
        Benchmark.load(tmp_path / "r.yaml")
