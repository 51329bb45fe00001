"""What `mmret check` says of a bench, before any of its variants runs."""

import json

from mmret.cli import main
from tests.unit.bench.builders import write_bench

PLAIN = """
name: plain
shards: ${oc.env:MMRET_TOY,usual}/train.manifest.json
"""


def check(path, capsys, *arguments):
    code = main(["check", str(path), *arguments])
    told = capsys.readouterr()
    return code, json.loads(told.out) if told.out else None, told.err


def test_each_variant_has_a_line_with_its_sizes_and_steps(tmp_path, capsys):
    code, answer, _ = check(write_bench(tmp_path, budget="{steps: 8}"), capsys, "--json")
    assert (code, answer["runs"], answer["primary"]) == (0, 4, "emoji/unseen_both/recall@1")
    a, b = answer["variants"]
    assert a["steps"] == {"first": 6, "second": 2} and a["samples"] == 6 * 8 + 2 * 32
    assert b["parameters"] != a["parameters"] and b["trained"] <= b["parameters"]  # another depth
    assert all(need["memory_complete"] and need["memory_bytes"] > 16 * need["trained"] for need in (a, b))
    assert answer["missing"] == []


def test_what_several_variants_lack_is_said_once_with_their_names(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    big = "recipe: toy.yaml, overrides: ['model={name: vlm2vec, backbone: nobody/unheard-of}', '~stages.second"
    lr = "', 'stages.first.lr_scale={.*: 1}']"
    path = write_bench(
        tmp_path, variants=f"{{a: {{{big}{lr}}}, b: {{{big}{lr}, share: 0.5}}, c: {{recipe: toy.yaml}}}}"
    )
    code, _, said = check(path, capsys)
    assert code == 0
    flat = " ".join(said.split())
    assert flat.count("the sizes of 'nobody/unheard-of' are not known") == 1
    assert "a, b: unknown: model.backbone: the sizes of" in flat


def test_data_is_looked_for_where_a_variant_s_environ_says(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMRET_TOY", raising=False)
    (tmp_path / "toy_data.yaml").write_text(PLAIN)
    variants = "{a: {recipe: toy.yaml}, b: {recipe: toy.yaml, environ: {MMRET_TOY: plain}}}"
    path = write_bench(tmp_path, source="toy_data.yaml", variants=variants)
    _, answer, _ = check(path, capsys, "--json")
    missing = [f"data toy_data.yaml: {folder}/train.manifest.json (manifest)" for folder in ("usual", "plain")]
    assert answer["missing"] == missing
    assert [need["data_differs"] for need in answer["variants"]] == [False, True]
    _, _, said = check(path, capsys)
    line = "data toy_data.yaml: usual/train.manifest.json (manifest), plain/train.manifest.json (manifest)"
    assert line in " ".join(said.split())
