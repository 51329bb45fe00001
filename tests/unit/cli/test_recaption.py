"""`mmret data recaption` as typed."""

from mmret.cli.main import main
from mmret.data import DataSpec
from tests.toy_blip import WORDS, write_blip
from tests.unit.data.test_recaptions import ROWS, build


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


def test_a_number_below_one_is_refused(tmp_path, capsys):
    assert main(["data", "recaption", "demo/emoji", "--model", "x", "--batch-size", "0"]) == 2
    assert "--batch-size: must be at least 1, got 0" in capsys.readouterr().err
