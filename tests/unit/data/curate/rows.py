"""Captioned pictures in several shards, and curations over them."""

import io

from PIL import Image

from mmret.data import Sample, write_shards
from mmret.data.curate import FILTERS, Curation, curate


def picture(seed=0, px=(64, 64)):
    """Blocks of grey whose places the seed decides: far apart in perceptual hash."""
    import random

    rng = random.Random(seed)
    image = Image.new("RGB", (8, 8))
    image.putdata([(rng.randrange(256),) * 3 for _ in range(64)])
    buffer = io.BytesIO()
    image.resize(px, Image.Resampling.BILINEAR).save(buffer, "PNG")
    return buffer.getvalue()


def captioned(captions, pictures=None):
    """A sample a caption; the picture asks."""
    pictures = pictures or [picture(at) for at in range(len(captions))]
    return [
        Sample(f"{at:03d}", {"query": {"images": ["q.png"]}, "positives": [{"text": text}]}, {"q.png": data})
        for at, (text, data) in enumerate(zip(captions, pictures))
    ]


def source(folder, samples, max_samples=4):
    """A spec toy/captions; gives its path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_shards(samples, folder, max_samples=max_samples)
    (folder / "spec.yaml").write_text(
        "name: toy/captions\nshards: train.manifest.json\nrequired: [query.images, positives.text]\n"
    )
    return folder / "spec.yaml"


def run(tmp_path, spec, *filters, out="out", known=FILTERS, workers=1, **settings):
    """Curate; filters as in the YAML."""
    curation = Curation("toy/curated", str(spec), str(tmp_path / out), list(filters), **settings)
    curation.file = str(tmp_path / "curation.yaml")
    return curate(curation, known, workers)
