"""Small collections, healthy ones and every kind of broken one."""

import io
import json
import tarfile

from PIL import Image

from mmret.data import Sample, write_shards, write_table

SPEC = """name: toy/care
description: pictures and passages
shards: train.manifest.json
documents: passages.arrow
required: [query.text, query.images]
"""


def picture(number=0, px=(12, 8), kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", px, (number * 37 % 256, number * 91 % 256, 60)).save(buffer, kind)
    return buffer.getvalue()


def samples(num=6, **row):
    return [
        Sample(
            f"{n:04d}",
            {"query": {"text": f"question {n}", "images": ["q.0.png"]}, "positives": [f"d{n % 3}"], **row},
            {"q.0.png": picture(n)},
        )
        for n in range(num)
    ]


def healthy(folder, rows=None, spec=SPEC, **settings):
    """A spec over shards of three samples and a table; gives the spec's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(
        [{"id": f"d{n}", "text": f"passage {n}", "image": picture(n) if n == 0 else None} for n in range(3)],
        folder / "passages.arrow",
    )
    write_shards(samples() if rows is None else rows, folder, max_samples=3, **settings)
    (folder / "spec.yaml").write_text(spec)
    return folder / "spec.yaml"


def members(tar):
    """(name, bytes) of each member."""
    with tarfile.open(tar) as opened:
        return [(info.name, opened.extractfile(info).read()) for info in opened]


def write_tar(path, content):
    """A tar of (name, bytes)."""
    with tarfile.open(path, "w") as tar:
        for name, data in content:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pairs(folder, num=5, start=0, shard="00000"):
    """A tar as img2dataset writes it, with its parquet and statistics files beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    content = []
    for n in range(start, start + num):
        key = f"{shard}{n:04d}"
        facts = {"caption": f"a picture of thing {n}", "url": "https://example.org", "status": "success", "key": key}
        content += [(f"{key}.jpg", picture(n, kind="JPEG")), (f"{key}.json", json.dumps(facts).encode()),
                    (f"{key}.txt", facts["caption"].encode())]  # fmt: skip
    (folder / f"{shard}_stats.json").write_text("{}")
    (folder / f"{shard}.parquet").write_bytes(b"PAR1")
    return write_tar(folder / f"{shard}.tar", content)
