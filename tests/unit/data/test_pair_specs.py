"""The shipped specs of picture-caption sets find tars that `mmret data index` indexed."""

import io
import json
import tarfile

import pytest

from mmret.cli import main
from mmret.data import DataSpec
from tests.unit.models.toys import picture


@pytest.mark.parametrize("name", ["gcc", "sbu", "vg"])
def test_an_img2dataset_folder_is_found_by_its_spec(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MMRET_PAIRS", str(tmp_path))
    (tmp_path / name).mkdir()
    members = {"0.jpg": picture(0, (4, 4)).data, "0.json": json.dumps({"captions": ["left", "right"]}).encode()}
    with tarfile.open(tmp_path / name / "00000.tar", "w") as out:
        for member, data in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    assert main(["data", "index", str(tmp_path / name)]) == 0, capsys.readouterr().err
    row = DataSpec.load(f"pairs/{name}").open().example(0)
    assert [content.text for content in row.positives] == ["left", "right"] and len(row.query.images) == 1
