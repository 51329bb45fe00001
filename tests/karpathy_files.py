"""A tiny Karpathy split file and its pictures, laid out as published."""

import io
import json

from PIL import Image

PICTURES = {
    "train": [("train2014", 9), ("train2014", 25)],
    "restval": [("val2014", 30)],
    "val": [("val2014", 36), ("val2014", 42)],
    "test": [("val2014", 49), ("val2014", 64), ("val2014", 73)],
}
"""Split -> folder and cocoid of each picture."""
COLOURS = ("red", "green", "blue", "yellow", "black", "white", "purple", "orange")


def picture(number, px=24):
    """PNG bytes of one colour, another for each number."""
    buffer = io.BytesIO()
    Image.new("RGB", (px, px), COLOURS[number % len(COLOURS)]).save(buffer, "PNG")
    return buffer.getvalue()


def rows(dataset="coco"):
    """`images` of the file: five captions each, the second picture six; flickr30k has neither folder nor cocoid."""
    found, sentence = [], 700
    for split, pictures in PICTURES.items():
        for folder, id in pictures if dataset == "coco" or split != "restval" else ():
            imgid = len(found)
            row = {"filename": f"COCO_{folder}_{id:012d}.jpg", "imgid": imgid, "split": split}
            if dataset == "coco":
                row |= {"filepath": folder, "cocoid": id}
            else:
                row["filename"] = f"{id:010d}.jpg"
            texts = [f" Picture {id}, said {turn}.\n" for turn in range(5 + (imgid == 1))]
            row["sentences"] = [
                {"tokens": ["a", "thing"], "raw": text, "imgid": imgid, "sentid": sentence + turn}
                for turn, text in enumerate(texts)
            ]
            row["sentids"] = [one["sentid"] for one in row["sentences"]]
            sentence += 10
            found.append(row)
    return found


def write_files(folder, dataset="coco", images=None):
    """dataset_<name>.json and images/ below `folder`; gives both."""
    images = rows(dataset) if images is None else images
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"dataset_{dataset}.json"
    file.write_text(json.dumps({"images": images, "dataset": dataset}))
    for number, row in enumerate(images):
        path = folder / "images" / row.get("filepath", "flickr30k-images") / row["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return file, folder / "images"
