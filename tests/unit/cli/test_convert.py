import torch

from mmret.cli import main
from mmret.models.preflmr import PreFLMR


def test_a_model_goes_to_the_published_layout_and_back_bit_for_bit(tmp_path):
    model = PreFLMR(PreFLMR.SIZES["tiny"])
    model.save(tmp_path / "ours")
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "theirs"), "--to", "published"]) == 0
    assert main(["convert", str(tmp_path / "theirs"), str(tmp_path / "again")]) == 0
    one, other = model.state_dict(), PreFLMR.load(tmp_path / "again").state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_nothing_is_written_over(tmp_path, capsys):
    PreFLMR(PreFLMR.SIZES["tiny"]).save(tmp_path / "ours")
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "ours")]) == 5
    assert "exists" in capsys.readouterr().err
