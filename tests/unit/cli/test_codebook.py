"""`mmret codebook`: a visual tokenizer of a frozen tower."""

import pytest
import torch

from mmret.cli import main
from mmret.data import Sample, write_shards
from mmret.models.backbones import build_vision, vision_spec
from mmret.models.visual_tokenizer import load_visual_tokenizer
from tests.builders import build_toy_source
from tests.unit.models.visual_tokenizer.toys import TOWER, whole_state


@pytest.fixture
def make(tmp_path, monkeypatch, capsys):
    """make(*arguments) -> (exit code, what people read), in a folder with toy pictures and a tower's weights."""
    monkeypatch.chdir(tmp_path)
    build_toy_source(tmp_path / "toy", num=24)
    torch.manual_seed(3)
    torch.save(whole_state(build_vision(vision_spec(TOWER, 64))), "tower.pt")

    def run(*arguments, out="book", specs=("toy/toy.yaml",), tokens=12):
        known = ["--vision", TOWER, "--vision-weights", "tower.pt", "--vision-px", "64", "--image-px", "32"]
        code = main(
            ["codebook", *specs, out, *known, "--patch-px", "8", f"--tokens={tokens}", "--rounds=4", *arguments]
        )
        return code, capsys.readouterr().err

    return run


def test_the_folder_opens_as_a_tokenizer_and_its_use_is_told(make):
    code, err = make("--samples=16", "--vision-mean=0.4", "--vision-std=0.2,0.3,0.4")
    assert code == 0
    assert "book: 12 tokens for pictures of 4 x 4 patches, from 256 patches of 16 pictures" in err
    assert "usage: perplexity " in err and "dead codes" in err
    tokenizer = load_visual_tokenizer("book")
    assert (tokenizer.facts.num_tokens, tokenizer.facts.window) == (12, 4)
    assert tokenizer.config.backbone.mean == (0.4, 0.4, 0.4)
    assert tokenizer.config.backbone.std == (0.2, 0.3, 0.4)
    assert tokenizer(torch.rand(2, 3, 32, 32), 4).shape == (2, 16)


def test_the_same_seed_makes_the_same_codebook(make):
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert make(f"--seed={seed}", "--samples=10", out=out)[0] == 0
    centroids = [load_visual_tokenizer(out).centroids for out in "abc"]
    assert torch.equal(centroids[0], centroids[1])
    assert not torch.equal(centroids[0], centroids[2])


def test_pictures_come_from_all_sources_and_from_whichever_side_has_them(make, tmp_path):
    shown = (tmp_path / "toy").parent / "shown"
    image = build_picture()
    rows = [
        Sample(str(n), {"query": {"text": "a"}, "positives": [{"images": ["p.png"]}]}, {"p.png": image})
        for n in range(6)
    ]
    write_shards(rows, shown, "train")
    (tmp_path / "shown.yaml").write_text("name: toy/shown\nshards: shown/train.manifest.json\n")
    code, err = make("--samples=20", specs=("shown.yaml", "toy/toy.yaml"))
    assert code == 0
    assert "of 20 pictures" in err  # 6 of the first, 14 of the second


def build_picture():
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 40)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image-px=30"], "--image-px 30 is not a multiple of --patch-px 8"),
        (["--samples=0"], "--samples: must be at least 1, got 0"),
        (["--vision-mean=a"], "--vision-mean wants one number or three"),
        (["--vision-std=1,2"], "--vision-std wants one number or three"),
        (["--vision=tiny"], "--vision tiny has random weights"),
        (["--samples=2", "--tokens=40"], "40 tokens from 32 patches"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message, make):
    code, err = make(*arguments)
    assert code == 2 and message in err


def test_nothing_is_overwritten(make, tmp_path):
    (tmp_path / "book").mkdir()
    code, err = make()
    assert code == 2 and "book exists; name a new folder" in err
