"""`mmret data recaption` as typed."""

from mmret.cli.main import main
from mmret.data import DataSpec, Sample, write_shards
from tests.toy_blip import WORDS, write_blip
from tests.unit.data.test_recaptions import ROWS, build, picture


def test_captions_are_written_beside_the_shards_and_the_spec_names_them(tmp_path, capsys):
    spec = build(tmp_path / "pairs", recaptions=False)
    model = write_blip(tmp_path / "blip")
    out = tmp_path / "out"
    assert main(["data", "recaption", str(spec), "--model", str(model), "--out", str(out), "--max-tokens", "5"]) == 0
    source = DataSpec.load(out / "pairs.yaml").open()
    assert len(source) == ROWS
    texts = [text for i in range(ROWS) for text in source.recaptions.of(source.reader.name(i))]
    assert texts and all(set(text.split()) <= set(WORDS[5:]) for text in texts)
    assert "synthetic: 0.5" in capsys.readouterr().err


def test_each_sample_is_counted_once_and_nothing_written_leaves_no_spec(tmp_path, capsys):
    model, spec = write_blip(tmp_path / "blip"), tmp_path / "rows/rows.yaml"
    image, positives = {"images": ["p.png"]}, [{"text": "own"}]
    rows = [
        Sample("broken", {"query": image, "positives": positives}, {"p.png": b"no picture"}),
        Sample("text", {"query": {"text": "asks"}, "positives": positives}),
        Sample("shown", {"query": image, "positives": positives}, {"p.png": picture(3)}),
    ]
    write_shards(rows, spec.parent, "rows")
    spec.write_text("name: toy/rows\nshards: rows.manifest.json\n")
    command = ["data", "recaption", str(spec), "--model", str(model), "--max-tokens", "5", "--out"]
    assert main([*command, str(tmp_path / "out")]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "1 samples have a written caption; 1 have no picture to write about" in said and "1 are broken" in said
    write_shards(rows[:2], spec.parent, "rows")
    assert main([*command, str(tmp_path / "none")]) == 2
    assert "no caption was written for any of 2 samples" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "none/rows.yaml").exists()


def test_a_number_below_one_is_refused(tmp_path, capsys):
    assert main(["data", "recaption", "demo/emoji", "--model", "x", "--batch-size", "0"]) == 2
    assert "--batch-size: must be at least 1, got 0" in capsys.readouterr().err
