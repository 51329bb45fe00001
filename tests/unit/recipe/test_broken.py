"""Broken recipes: the message says where (file:line:col), which key, what is wrong, and the nearest known name."""

import copy

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmret.errors import ConfigError
from mmret.recipe import RecipeError, load_recipe
from mmret.recipe.yaml_marks import dump_yaml
from tests.fake_tables import TINY


def broken(old: str, new: str) -> str:
    assert TINY.count(old) == 1, old
    return TINY.replace(old, new)


CASES = {
    "syntax": (
        broken("{temperature: 0.05}", "{temperature: 0.05"),
        ["recipe.yaml:13:14  this is not YAML: ", "line 12)"],
    ),
    "duplicate key": (
        broken("  dim: 32\n", "  dim: 32\n  dim: 64\n"),
        ["recipe.yaml:5:3  model.dim  this key is there twice; first in recipe.yaml:4"],
    ),
    "unknown key": (
        broken("    steps: 10", "    stepps: 10"),
        [
            "recipe.yaml:7:5  stages[0].stepps  unknown key. Did you mean 'steps'?",
            "recipe.yaml:6:5  stages[0].steps  required value is missing",
        ],
    ),
    "key of an inner section": (
        broken("    steps: 10", "    steps: 10\n    lr: 1e-3"),
        ["recipe.yaml:8:5  stages[0].lr  unknown key. Did you mean 'optimizer.lr'?"],
    ),
    "wrong type": (
        broken("dim: 32", "dim: big"),
        ["recipe.yaml:4:3  model.dim  expected a whole number, got 'big'"],
    ),
    "float for a count": (
        broken("steps: 10", "steps: 1e3"),
        ["recipe.yaml:7:5  stages[0].steps  expected a whole number, got 1000.0 (as a whole number: 1000)"],
    ),
    "wrong type inside a list": (
        broken("dim: 32", "mean: [0.5, half, 0.5]"),
        ["recipe.yaml:4:15  model.mean[1]  expected a number, got 'half'"],
    ),
    "section is a value": (
        broken("{temperature: 0.05}", "0.05"),
        ["recipe.yaml:12:7  stages[0].objectives.itc  expected a section"],
    ),
    "list for a mapping": (
        broken("    objectives:\n      itc:", "    objectives:\n      - name: itc\n        extra:"),
        ["recipe.yaml:11:5  stages[0].objectives  expected a mapping (key: value), got a list"],
    ),
    "missing": (
        broken("{temperature: 0.05}", "{}"),
        ["recipe.yaml:12:7  stages[0].objectives.itc.temperature  required value is missing"],
    ),
    "missing section": (
        broken("    optimizer: {lr: 1e-3}\n", ""),
        ["recipe.yaml:6:5  stages[0].optimizer.lr  required value is missing"],
    ),
    "unknown model": (
        broken("name: late", "name: lste"),
        ["recipe.yaml:3:3  model.name  unknown model 'lste'; known: fusion, late. Did you mean 'late'?"],
    ),
    "model without name": (
        broken("  name: late\n", ""),
        ["recipe.yaml:2:1  model.name  required value is missing; known: late, fusion"],
    ),
    "unknown objective": (
        broken("itc: {temperature", "itcc: {temperature"),
        ["recipe.yaml:12:7  stages[0].objectives.itcc.name  unknown objective 'itcc'; known: itc, match. Did you mean"],
    ),
    "objective's own rule": (
        broken("0.05", "-1"),
        ["recipe.yaml:12:13  stages[0].objectives.itc.temperature  must be > 0, got -1.0"],
    ),
    "model's own rule": (broken("dim: 32", "dim: 0"), ["recipe.yaml:4:3  model.dim  must be at least 1, got 0"]),
    "interpolation to nowhere": (
        broken("lr: 1e-3", "lr: '${stages[0].stepz}'"),
        ["recipe.yaml:13:17  stages[0].optimizer.lr  refers to 'stages[0].stepz', which is not there."],
    ),
    "section that refers to nowhere": (
        broken("{lr: 1e-3}", "${stages[0].optimiser}"),
        ["recipe.yaml:13:5  stages[0].optimizer  refers to 'stages[0].optimiser', which is not there."],
    ),
    "interpolation in a circle": (
        broken("name: tiny\n", "name: ${out}\n"),
        ["recipe.yaml:1:1  name  refers to itself, directly or in a circle"],
    ),
    "broken interpolation": (
        broken("name: tiny\n", "name: run-${seed\n"),
        ["recipe.yaml:1:1  name  broken interpolation 'run-${seed'"],
    ),
    "environment variable": (
        broken("dim: 32", "text: ${oc.env:MMRET_NOT_SET}"),
        ["recipe.yaml:4:3  model.text  environment variable MMRET_NOT_SET is not set"],
    ),
    "newer version": (
        "version: 2\nwhatever: 1\n" + TINY,
        ["recipe.yaml:1:1  version  this mmret reads recipes up to version 1, got 2: use a newer mmret"],
    ),
    "word that is a boolean to YAML 1.1, as a key": (
        broken("  dim: 32", "  on: 32"),
        ["recipe.yaml:4:3  model.on  as a key: 'on' is true to some YAML readers", "quote it"],
    ),
    "word that is a boolean to YAML 1.1, as a value": (
        broken("dim: 32", "text_in_score: no"),
        ["recipe.yaml:4:18  model.text_in_score  'no' is false to some YAML readers and text to others: write false"],
    ),
    "octal": (broken("dim: 32", "dim: 012"), ["recipe.yaml:4:8  model.dim  '012' is an octal number to some"]),
    "base 60": (broken("dim: 32", "text: 12:30"), ["recipe.yaml:4:9  model.text  '12:30' is a number to base 60"]),
    "number as a key": (
        broken("itc: {temp", "7: {name: itc, temp"),
        ["recipe.yaml:12:7", "'7' is no text to YAML"],
    ),
    "tag": (broken("dim: 32", "dim: !!python/name:os.system 3"), ["tags are not read here"]),
    "merge key": (broken("  dim: 32", "  <<: {dim: 3}"), ["recipe.yaml:4:3  model  '<<' is not read here"]),
    "stages of one name": (
        TINY + TINY[TINY.index("  - name: mapping") :],
        ["recipe.yaml:14:5  stages[1].name  'mapping' is the name of stages[0] already; names are unique"],
    ),
    "stage name that is no folder": (
        broken("name: mapping", "name: a/b"),
        ["recipe.yaml:6:5  stages[0].name  must be fit to name a folder", "got 'a/b'"],
    ),
    "no stages": (TINY[: TINY.index("stages:")] + "stages: []\n", ["recipe.yaml:5:1  stages  is empty"]),
    "no sources": (
        broken("{demo/flags: 1}", "{}"),
        ["recipe.yaml:10:7  stages[0].data.sources  is empty; name at least one data spec"],
    ),
    "all weights zero": (
        broken("{demo/flags: 1}", "{demo/flags: 0, demo/emoji: 0.0}"),
        ["recipe.yaml:10:7  stages[0].data.sources  every weight is 0"],
    ),
    "negative weight": (
        broken("{demo/flags: 1}", "{demo/flags: -1}"),
        ["recipe.yaml:10:17  stages[0].data.sources.demo/flags.weight  must be >= 0, got -1.0"],
    ),
    "weight is text": (
        broken("{demo/flags: 1}", "{demo/flags: much}"),
        ["recipe.yaml:10:17  stages[0].data.sources.demo/flags.weight  expected a number, got 'much'"],
    ),
    "unknown data spec": (
        broken("{demo/flags: 1}", "{demo/flag: 1}"),
        [
            "recipe.yaml:10:17  stages[0].data.sources.demo/flag  no data spec named 'demo/flag'",
            "Did you mean 'demo/flags'?",
        ],
    ),
    "missing data spec file": (
        broken("{demo/flags: 1}", "{data_specs/demo/emojis.yaml: 1}"),
        ["stages[0].data.sources['data_specs/demo/emojis.yaml']  no data spec file", "Did you mean 'emoji.yaml'?"],
    ),
    "batch does not divide over ranks": (
        TINY + "trainer: {devices: 3, num_nodes: 2, accumulate: 2}\n",
        [
            "recipe.yaml:9:7  stages[0].data.batch_size  8 does not divide into 12 equal parts "
            "(devices 3 x nodes 2 x accumulate 2); nearest: 12"
        ],
    ),
    "batch does not divide into blocks": (
        broken("batch_size: 8", "batch_size: 8\n      block_size: 3"),
        ["recipe.yaml:10:7  stages[0].data.block_size  blocks of 3 do not fill a batch of 8; want a divisor of it"],
    ),
    "negatives needed": (
        broken("itc: {temperature: 0.05}", "match: {}").replace("name: late\n  dim: 32", "name: fusion"),
        ["stages[0].objectives.match  match needs negatives, but data.documents_per_query is 1; want at least 2"],
    ),
    "pairs needed": (
        broken("itc: {temperature: 0.05}", "match: {}").replace(
            "batch_size: 8", "batch_size: 8\n      documents_per_query: 2"
        ),
        ["recipe.yaml:13:7  stages[0].objectives.match  match encodes text and image together", "model 'late' cannot"],
    ),
    "regex does not compile": (
        TINY + "    lr_scale: {'text(': 0, '.*': 1}\n",
        ["recipe.yaml:14:16  stages[0].lr_scale['text(']  no regular expression: missing ), unterminated subpattern"],
    ),
    "everything frozen": (
        TINY + "    lr_scale: {'.*': 0}\n",
        ["recipe.yaml:14:5  stages[0].lr_scale  every scale is 0: nothing would train"],
    ),
    "scale is a list": (
        TINY + "    lr_scale: {'.*': [1]}\n",
        ["recipe.yaml:14:16  stages[0].lr_scale['.*']  expected a number, got a list"],
    ),
    "one of two betas": (
        broken("{lr: 1e-3}", "{lr: 1e-3, betas: [0.9, x]}"),
        ["recipe.yaml:13:40  stages[0].optimizer.betas[1]  expected a number, got 'x'"],
    ),
    "unknown schedule": (
        TINY + "    schedule: {name: lineer}\n",
        [
            "recipe.yaml:14:16  stages[0].schedule.name  must be constant, linear or cosine, got 'lineer'. "
            "Did you mean 'linear'?"
        ],
    ),
    "unknown precision": (
        TINY + "trainer: {precision: bf16}\n",
        [
            "recipe.yaml:14:11  trainer.precision  must be 32-true, bf16-mixed or 16-mixed, got 'bf16'. "
            "Did you mean 'bf16-mixed'?"
        ],
    ),
    "unknown strategy": (TINY + "trainer: {strategy: dpp}\n", ["trainer.strategy  must be ", "Did you mean 'ddp'?"]),
    "unknown dtype": (
        TINY + "feature_cache: {dtype: fp16}\n",
        ["recipe.yaml:14:17  feature_cache.dtype  must be float16, bfloat16 or float32, got 'fp16'"],
    ),
    "no steps": (broken("steps: 10", "steps: 0"), ["recipe.yaml:7:5  stages[0].steps  must be >= 1, got 0"]),
    "unknown benchmark": (
        TINY + "evaluation:\n  benchmarks: [demo/flogs]\n",
        ["recipe.yaml:15:16  evaluation.benchmarks[0]  no benchmark named 'demo/flogs'", "Did you mean 'demo/flags'?"],
    ),
    "unknown split": (
        TINY + "evaluation:\n  during_training: [demo/flags/heldoud]\n",
        ["evaluation.during_training[0]  data_specs/benchmarks/demo/flags.yaml has no split 'heldoud'", "'heldout'?"],
    ),
    "stage changes an unknown model key": (
        TINY + "    model: {text_in_scor: false}\n",
        ["recipe.yaml:14:13  stages[0].model.text_in_scor  unknown key. Did you mean 'text_in_score'?"],
    ),
    "stage changes the architecture": (
        TINY + "    model: {name: fusion}\n",
        ["recipe.yaml:14:13  stages[0].model.name  a stage cannot change the architecture ('late')"],
    ),
    "stage's model contradicts itself": (
        TINY + "    model: {text_in_score: false, image_in_score: false}\n",
        ["recipe.yaml:14:5  stages[0].model  text_in_score: false leaves nothing"],
    ),
    "extends nothing": (
        "extends: bse.yaml\n" + TINY,
        ["recipe.yaml:1:1  extends  no recipe file bse.yaml"],
    ),
    "extends itself": (
        "extends: recipe.yaml\n" + TINY,
        ["recipe.yaml:1:1  extends  goes in a circle: recipe.yaml -> recipe.yaml"],
    ),
    "empty file": ("", ["recipe.yaml:1:1  is empty"]),
    "not a mapping": ("- 1\n- 2\n", ["recipe.yaml:1:1  holds no mapping"]),
}


@pytest.mark.parametrize("case", CASES)
def test_message_says_where_what_and_the_nearest_name(case, write):
    text, parts = CASES[case]
    with pytest.raises(ConfigError) as error:
        load_recipe(write(text))
    for part in parts:
        assert part in str(error.value)


def test_the_untouched_recipe_loads(write):
    assert load_recipe(write(TINY)).stages[0].optimizer.lr == 1e-3


def test_all_problems_come_at_once_one_a_line_in_file_order(write):
    text = broken("    steps: 10", "    stepps: 10").replace("dim: 32", "dim: big").replace("1e-3", "-1")
    text = text.replace("demo/flags", "demo/flog") + "trainer: {devices: 3}\nevaluatoin: {}\n"
    with pytest.raises(RecipeError) as error:
        load_recipe(write(text), ["seed=x"])
    assert [line.split("  ")[:2] for line in str(error.value).splitlines()] == [
        ["recipe.yaml:4:3", "model.dim"],
        ["recipe.yaml:6:5", "stages[0].steps"],
        ["recipe.yaml:7:5", "stages[0].stepps"],
        ["recipe.yaml:9:7", "stages[0].data.batch_size"],
        ["recipe.yaml:10:17", "stages[0].data.sources.demo/flog"],
        ["recipe.yaml:13:17", "stages[0].optimizer.lr"],
        ["recipe.yaml:15:1", "evaluatoin"],
        ["override seed=x", "seed"],
    ]


def test_a_sections_own_rules_are_checked_beside_its_wrong_types(write):
    with pytest.raises(RecipeError) as error:
        load_recipe(write(broken("{lr: 1e-3}", "{lr: -1, eps: small, weight_decay: -2}")))
    assert [line.split("  ", 1)[1] for line in str(error.value).splitlines()] == [
        "stages[0].optimizer.eps  expected a number, got 'small'",
        "stages[0].optimizer.lr  must be > 0, got -1.0",
        "stages[0].optimizer.weight_decay  must be >= 0, got -2.0",
    ]


def test_a_problem_of_a_parent_names_the_parents_file(write):
    write("stages: []\nseed: seven\n", "base/_base.yaml")
    with pytest.raises(RecipeError, match=r"base/_base\.yaml:2:1  seed  expected a whole number, got 'seven'"):
        load_recipe(write("extends: base/_base.yaml\n" + TINY))


def test_unknown_recipe_names_the_nearest_shipped_one(write):
    write(TINY, "recipes/tiny/late.yaml")
    with pytest.raises(ConfigError, match=r"no recipe named 'tiny/lata' in recipes\. Did you mean 'tiny/late'\?"):
        load_recipe("tiny/lata")


TREE = yaml.safe_load(TINY + "    lr_scale: {'.*': 1}\n    model: {dim: 4}\ntrainer: {devices: 1}\n")
ODD = [
    None,
    [],
    {},
    "x",
    "${x}",
    "${name}",
    "${stages[0]}",
    "${",
    -1,
    1e9,
    True,
    [1],
    [None],
    {"a": 1},
    "???",
    {"name": []},
]


def places(tree, path=()):
    """Paths of all values inside a tree."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield (*path, key)
        yield from places(value, (*path, key))


@given(st.lists(st.tuples(st.sampled_from(list(places(TREE))), st.sampled_from(ODD)), min_size=1, max_size=2))
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_anywhere_the_answer_is_a_recipe_or_its_problems(write, changes):
    tree = copy.deepcopy(TREE)
    for path, value in changes:
        node = tree
        try:
            for part in path[:-1]:
                node = node[part]
            node[path[-1]] = copy.deepcopy(value)
        except (TypeError, KeyError, IndexError):
            continue  # the first change took the second one's place away
    try:
        load_recipe(write(dump_yaml(tree)))
    except RecipeError as error:
        assert all(line.startswith("recipe.yaml:") for line in str(error).splitlines())
