"""`mmret data build pairs`: pictures and the captions that lie beside them."""

import json

import pytest

from mmret.cli import main
from mmret.data import DataSpec
from mmret.data.sources.pairs import PairsConfig, build_pairs
from mmret.errors import ConfigError, SampleError
from tests.unit.data.sources.pictures import picture
from tests.unit.data.test_dataset import module


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "photos"
    (root / "sub").mkdir(parents=True)
    for number, name in enumerate(("b", "a", "sub/c", "silent")):
        (root / f"{name}.jpg").write_bytes(picture(number))
    (root / "a.txt").write_text("one\ntwo\n\none\n")
    (root / "b.json").write_text(json.dumps({"captions": ["x", "y"], "page": 3}))
    (root / "sub/c.txt").write_text("see")
    return root


def build(root, **options):
    (built,) = build_pairs(PairsConfig(str(root), str(root.parent / "out"), **options))
    source = DataSpec.load(root.parent / "out/train.yaml").open()
    rows = [source.example(n) for n in range(len(source))]
    return {row.meta["file"]: [one.text for one in row.positives] for row in rows}, rows, built


def test_a_picture_is_answered_by_the_captions_beside_it(root):
    said, rows, built = build(root)
    assert said == {"a.jpg": ["one\ntwo\n\none"], "b.jpg": ["x", "y"], "sub/c.jpg": ["see"]}
    assert [row.query.images[0].data for row in rows] == [picture(1), picture(0), picture(2)]
    assert rows[1].meta == {"page": 3, "file": "b.jpg"}
    assert built.queries.left_out == {"no caption": 1} and "silent.txt" in built.queries.first["no caption"]


def test_each_line_may_be_a_caption(root):
    assert build(root, lines=True)[0]["a.jpg"] == ["one", "two"]


def test_a_changed_caption_is_built_again(root):
    assert not build(root)[2].skipped and build(root)[2].skipped
    (root / "sub/c.txt").write_text("seen")
    said, _, built = build(root)
    assert said["sub/c.jpg"] == ["seen"] and not built.skipped


def test_a_mark_of_the_byte_order_is_no_part_of_a_caption(root):
    (root / "sub/c.txt").write_bytes("\ufeffsee".encode())
    (root / "b.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"caption": "x"}).encode())
    said, _, built = build(root)
    assert (said["sub/c.jpg"], said["b.jpg"]) == (["see"], ["x"]) and built.queries.kept == 3


def test_links_to_nothing_are_missing_pictures_and_links_to_a_folder_around_show_nothing_twice(root):
    (root / "sub/round").symlink_to(root, target_is_directory=True)
    assert build(root)[2].queries.kept == 3
    (root / "sub/d.jpg").symlink_to(root / "nowhere.jpg")
    (root / "sub/d.txt").write_text("gone")
    with pytest.raises(SampleError, match=r"no picture 'sub/d.jpg' in .*photos; .*--skip-missing-images"):
        build(root)
    assert build(root, skip_missing_images=True)[2].queries.left_out["picture missing"] == 1


def test_what_is_missing_or_broken_is_explained(root, tmp_path):
    (root / "sub/c.jpg").write_bytes(b"no picture")
    with pytest.raises(SampleError, match=r"c.jpg: 10 bytes do not decode .*--skip-missing-images"):
        build(root)
    said, _, built = build(root, skip_missing_images=True)
    assert len(said) == 2 and built.queries.left_out["picture broken"] == 1
    (root / "b.json").write_text("{")
    assert "caption cannot be read" in build(root, skip_missing_images=True)[2].queries.left_out
    with pytest.raises(ConfigError, match="none: no such folder of pictures"):
        build(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty: no pictures in it; want name.jpg beside name.txt"):
        build(tmp_path / "empty")


def test_training_draws_a_batch_from_what_the_command_line_built(tmp_path, capsys):
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(16):
        (root / f"{number:02d}.png").write_bytes(picture(number))
        (root / f"{number:02d}.txt").write_text(f"photo {number}")
    assert main(["data", "build", "pairs", "--images", str(root), "--out", str(tmp_path / "out")]) == 0
    batch = module({tmp_path / "out/train.yaml": 1}).dataset()[0]
    assert len(batch) == 8 and bytes(batch.document.dense["bytes"][0, :7].tolist()) == b"|photo "
