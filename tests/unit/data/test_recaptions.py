"""Written captions beside a source's own, by a share and by place."""

import io

import pytest
import torch
from PIL import Image

from mmret.data import DataSpec, MixtureDataModule, Sample, write_shards
from mmret.data.mined import write_mined
from mmret.data.recaptions import Recaptions, write_recaptions
from mmret.errors import ConfigError, SampleError
from mmret.recipe.schema import MixtureConfig, SourceConfig
from mmret.types import NO_POSITIVE, Inputs, Need

ROWS = 40


class Texts:
    """Keeps the contents it was given: a test reads them."""

    def __init__(self):
        self.seen = {"query": [], "document": []}

    def __call__(self, contents, role):
        self.seen[role] += [(content.text, len(content.images)) for content in contents]
        return Inputs({"x": torch.zeros(len(contents), 1)})


def picture(shade):
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def build(folder, to_image=False, recaptions=True):
    """Pictures with two captions each, or captions that ask for pictures; every third picture has nothing written."""
    samples = []
    for i in range(ROWS):
        image, own = {"images": ["p.png"]}, f"own {i}"
        row = (
            {"query": {"text": own}, "positives": [image]}
            if to_image
            else {
                "query": image,
                "positives": [{"text": own}, {"text": f"other {i}"}],
            }
        )
        samples.append(Sample(f"{i:03d}", row, {"p.png": picture(i)}))
    write_shards(samples, folder, "train")
    spec = folder / "pairs.yaml"
    spec.write_text("name: toy/pairs\nshards: train.manifest.json\n")
    if recaptions:
        source = DataSpec.load(spec).open()
        rows = ((source.reader.name(i), [] if i % 3 == 0 else [f"new {i}", f"newer {i}"]) for i in range(ROWS))
        write_recaptions(rows, folder / "recaptions.arrow")
        spec.write_text(spec.read_text() + "recaptions: recaptions.arrow\n")
    return spec


def drawn(spec, share, batches=ROWS // 4, start=0):
    mixture = MixtureConfig(sources={str(spec): SourceConfig(1.0, synthetic=share)}, batch_size=4)
    processor = Texts()
    data = MixtureDataModule(mixture, processor, frozenset({Need.DOCUMENT}), 5, batches)
    data.start = start
    numbers = [batch.positive_ids for batch in data.train_dataloader()]
    return processor.seen, numbers


def test_without_a_share_every_picture_keeps_its_own_captions(tmp_path):
    seen, _ = drawn(build(tmp_path), 0.0)
    assert {text.split()[0] for text, _ in seen["document"]} == {"own", "other"}


def test_with_the_whole_share_every_written_caption_stands_in_and_pictures_without_keep_theirs(tmp_path):
    seen, _ = drawn(build(tmp_path), 1.0)
    for text, _ in seen["document"]:
        first, number = text.split()
        assert (first in ("own", "other")) == (int(number) % 3 == 0)


def test_a_share_of_a_half_is_about_a_half_by_place(tmp_path):
    """Of 26 rows that have written captions 10 epochs draw 260 times: 130 expected, standard deviation 8."""
    spec = build(tmp_path)
    seen, _ = drawn(spec, 0.5, batches=10 * ROWS // 4)
    written = [text for text, _ in seen["document"] if text.startswith("new")]
    assert 98 <= len(written) <= 162
    assert len({text for text in written}) > 40  # both captions of about all
    assert drawn(spec, 0.5, batches=100, start=60)[0]["document"] == seen["document"][240:]


def test_the_own_captions_of_a_picture_stay_known_positives(tmp_path):
    _, numbers = drawn(build(tmp_path), 1.0)
    counts = sorted(int((row != NO_POSITIVE).sum()) for batch in numbers for row in batch)
    assert counts == [2] * 14 + [3] * 26


def test_a_text_that_asks_for_a_picture_is_replaced(tmp_path):
    seen, _ = drawn(build(tmp_path, to_image=True), 1.0)
    assert {text.split()[0] for text, _ in seen["query"]} == {"own", "new", "newer"}
    assert {count for _, count in seen["document"]} == {1}


def test_a_share_of_a_source_without_written_captions_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"synthetic is 0.5, but .*pairs.yaml names no `recaptions`; mmret data recap"
    ):
        drawn(build(tmp_path, recaptions=False), 0.5)


def test_captions_written_for_other_shards_are_refused(tmp_path):
    write_recaptions([("other-000000.tar:000", ["x"])], tmp_path / "r.arrow")
    with pytest.raises(SampleError, match=r"train-000000.tar:003: .*r.arrow has no such sample"):
        Recaptions(tmp_path / "r.arrow").of("train-000000.tar:003")


def test_a_table_of_another_pass_is_refused(tmp_path):
    write_mined([("train-000000.tar:000", ["a"], [1.0])], tmp_path / "m.arrow")
    with pytest.raises(ConfigError, match=r"m.arrow: no table of captions \(no column captions\); mmret data"):
        Recaptions(tmp_path / "m.arrow")
