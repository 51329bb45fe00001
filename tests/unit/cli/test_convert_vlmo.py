"""`mmret convert` of VLMo: heads and temperatures travel with the model, both ways."""

import pytest
import torch

from mmret.cli import main
from mmret.models import VLMo
from mmret.models.vlmo import from_published, read_container
from mmret.objectives import load_objectives
from tests.unit.models.vlmo.toys import published, toy_model

RELATIVE = {"image_types": 2}
ABSOLUTE = {"image_types": 2, "positions": "absolute", "layer_scale": 0.0}
TOLD = {"relative": ["relative_text_span=12"], "absolute": ["heads=2"]}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("container", ["bare", "state_dict", "module", "model"])
@pytest.mark.parametrize("settings", [RELATIVE, ABSOLUTE], ids=["relative", "absolute"])
def test_a_published_file_goes_to_a_folder_and_back_bit_for_bit(settings, container, tmp_path, capsys):
    state = published(toy_model(**settings))
    junk = {"train_itm_accuracy.total": torch.ones(()), "relative_position_index": torch.zeros(5, 5).long()}
    held = {("module." if container == "module" else "") + key: value for key, value in (state | junk).items()}
    torch.save(held if container == "bare" else {container: held}, tmp_path / "vlmo.pt")
    told = TOLD[settings.get("positions", "relative")]

    assert main(["convert", str(tmp_path / "vlmo.pt"), str(tmp_path / "ours"), *told]) == 0
    heads = load_objectives(tmp_path / "ours", VLMo.load(tmp_path / "ours"))
    assert same(heads.state_dict(), from_published(state).objectives)
    said = capsys.readouterr().err
    assert all(name in said.partition("heads: ")[2] for name in ("itc", "itc_vl", "itm", "mlm", "vqa", "nlvr2"))

    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "back.pt"), "--to", "published"]) == 0
    assert same(read_container(tmp_path / "back.pt"), state)
    assert f"opens, with {told[0]}" in capsys.readouterr().err


def test_a_file_without_heads_gives_a_folder_without_objectives(tmp_path):
    state = {key: value for key, value in published(toy_model()).items() if "score" not in key and "scale" not in key}
    torch.save({k: v for k, v in state.items() if "classifier" not in k}, tmp_path / "vlmo.pt")
    assert main(["convert", str(tmp_path / "vlmo.pt"), str(tmp_path / "ours"), "relative_text_span=12"]) == 0
    assert not list((tmp_path / "ours").glob("objectives*"))


def test_a_table_of_another_text_span_says_what_to_give(tmp_path, capsys):
    torch.save(published(toy_model()), tmp_path / "vlmo.pt")
    assert main(["convert", str(tmp_path / "vlmo.pt"), str(tmp_path / "ours")]) == 5
    assert "give the text length of its language stage as relative_text_span" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "vlmo.pt"), str(tmp_path / "ours"), "span"]) == 2
    assert "'span' is neither" in capsys.readouterr().err


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    torch.save({"state_dict": published(toy_model()), "hyper_parameters": pytest.Item}, tmp_path / "vlmo.pt")
    assert main(["convert", str(tmp_path / "vlmo.pt"), str(tmp_path / "ours")]) == 5
    assert "never executed here" in capsys.readouterr().err
    assert not (tmp_path / "ours").exists()
