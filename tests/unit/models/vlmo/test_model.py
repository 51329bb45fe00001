import pytest
import torch

from mmret.errors import ConfigError
from mmret.models import PairEncoder
from mmret.types import Inputs
from tests.unit.models.vlmo.toys import pictures, texts, toy_model


def close(left, right, atol=2e-6):
    torch.testing.assert_close(left, right, atol=atol, rtol=1e-5)


POSITIONS = pytest.mark.parametrize("positions", ["relative", "absolute"])


@POSITIONS
def test_padding_changes_nothing_on_real_tokens(positions):
    model = toy_model(positions=positions)
    short, long = texts(), texts(width=9)
    long.dense["input_ids"][:, :6] = short.dense["input_ids"]
    close(model.encode(long).vectors, model.encode(short).vectors)
    close(model.encode(long).aux["vl"].vectors, model.encode(short).aux["vl"].vectors)
    ours, padded = model.encode_pair(short, pictures()), model.encode_pair(long, pictures())
    close(padded.pooled, ours.pooled)
    close(padded.image, ours.image)
    for row, length in enumerate((6, 3, 5)):
        close(padded.text[row, :length], ours.text[row, :length])


@POSITIONS
def test_sdpa_equals_softmax_written_out(positions):
    fused, written = (toy_model(attention=kind, positions=positions) for kind in ("sdpa", "eager"))
    close(fused.encode_pair(texts(), pictures()).text, written.encode_pair(texts(), pictures()).text)
    close(fused.encode(pictures()).vectors, written.encode(pictures()).vectors)


def test_recomputed_blocks_give_the_same_gradient():
    gradients = []
    for recompute in (False, True):
        model = toy_model(checkpoint_blocks=recompute)
        model.encode_pair(texts(), pictures()).pooled.sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        close(gradients[1][name], gradient, atol=1e-5)


def test_second_branch_is_the_first_with_vl_experts_on_top():
    """Written as two whole passes: the branch shares everything below its first VL block."""
    model = toy_model()
    sequence = model.embed_text(texts())
    whole = model.backbone.run(sequence, vl=True)
    vectors = torch.nn.functional.normalize(model.projections["vl_text"](model.backbone.norm(whole[:, 0])), dim=-1)
    close(model.encode(texts()).aux["vl"].vectors, vectors)
    assert not torch.allclose(model.encode(texts()).vectors, vectors, atol=1e-2)


def touched(model, loss):
    model.zero_grad()
    loss.backward()
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_each_path_trains_its_own_experts_only():
    model = toy_model()
    text = touched(model, model.encode(texts()).vectors[:, 0].sum())
    image = touched(model, model.encode(pictures()).vectors[:, 0].sum())
    pair = touched(model, model.encode_pair(texts(), pictures()).pooled.sum())
    assert not any(".experts.image." in name or ".experts.vl." in name for name in text)
    assert not any(".experts.text." in name or ".experts.vl." in name for name in image)
    assert any(".2.experts.vl." in name for name in pair)
    assert not any(".2.experts.text." in name or ".2.experts.image." in name for name in pair)
    assert any(".0.experts.text." in name for name in pair)
    assert all(any(".attention.all.qkv" in name for name in names) for names in (text, image, pair))


def test_without_vl_layers_fusion_goes_through_both_experts_to_the_top():
    model = toy_model(vl_layers=0)
    assert model.encode(texts()).aux == {}
    names = touched(model, model.encode_pair(texts(), pictures()).pooled.sum())
    assert any(".2.experts.text." in name for name in names)
    assert not any(".vl." in name or "vl_" in name for name, _ in model.named_parameters())


def test_a_standard_transformer_has_one_network_for_everything():
    model = toy_model(multiway=False)
    experts = {name.split(".experts.")[1].split(".")[0] for name, _ in model.named_parameters() if ".experts." in name}
    assert experts == {"all"}
    assert model.config.heads_of == ("main",)
    assert model.encode_pair(texts(), pictures()).pooled.isfinite().all()


def test_separate_attention_projects_each_kind_by_its_own_weights():
    model = toy_model(shared_attention=False)
    text = touched(model, model.encode(texts()).vectors[:, 0].sum())
    assert not any(".attention.image." in name or ".attention.vl." in name for name in text)
    both = model.encode_pair(texts(), pictures())
    with torch.no_grad():
        model.backbone.blocks[0].attention["image"].v_bias.add_(1.0)
    assert (model.encode_pair(texts(), pictures()).text - both.text).abs().max() > 1e-3


def test_separate_attention_with_equal_weights_is_shared_attention():
    shared, separate = toy_model(), toy_model(shared_attention=False)
    state = shared.state_dict()
    separate.load_state_dict(
        {key: state[key if key in state else separate.handover_source(key)] for key in separate.state_dict()}
    )
    close(separate.encode_pair(texts(), pictures()).text, shared.encode_pair(texts(), pictures()).text)


def test_paddings_token_ids_do_not_matter():
    model = toy_model()
    loud = texts()
    ids = torch.where(loud.dense["attention_mask"] == 0, 77, loud.dense["input_ids"])
    noisy = Inputs({"input_ids": ids, "attention_mask": loud.dense["attention_mask"]})
    close(model.encode(noisy).vectors, model.encode(loud).vectors)


def test_drop_path_leaves_rows_out_in_training_only():
    model = toy_model(drop_path=0.9)
    still = model.encode(pictures()).vectors
    close(model.encode(pictures()).vectors, still)
    model.train()
    torch.manual_seed(1)
    assert (model.encode(pictures()).vectors - still).abs().max() > 1e-3
    assert [block.drop for block in model.backbone.blocks] == pytest.approx([0.0, 0.45, 0.9])


def test_second_pictures_type_changes_the_pair():
    model = toy_model(image_types=2)
    kinds = [Inputs({**pictures().dense, "image_type": torch.full((3,), kind)}) for kind in (1, 2)]
    one, two = (model.encode_pair(texts(), image).pooled for image in kinds)
    close(one, model.encode_pair(texts(), pictures()).pooled)
    assert (one - two).abs().max() > 1e-3


def test_it_is_a_pair_encoder():
    assert isinstance(toy_model(), PairEncoder)


def test_both_or_neither_cannot_become_a_vector():
    model = toy_model()
    with pytest.raises(ConfigError, match="a row has both"):
        model.encode(Inputs({**texts().dense, **pictures().dense}))
    with pytest.raises(ConfigError, match="a row has neither"):
        model.encode(Inputs({"x": torch.zeros(2)}))


def test_wrong_sizes_say_what_to_do():
    model = toy_model()
    with pytest.raises(ConfigError, match=r"24 x 24 px, but the model was built for 16.*model\.image_px"):
        model.encode(pictures(px=24))
    with pytest.raises(ConfigError, match=r"10 tokens, but the model has 9 text positions.*max_text_tokens"):
        model.encode(texts((10,)))
    with pytest.raises(ConfigError, match="contrastive is none"):
        toy_model(contrastive="none").encode(texts())


def test_vl_experts_may_start_from_another_expert():
    assert toy_model().handover_source("backbone.blocks.2.experts.vl.fc1.weight") is None
    source = toy_model(vl_experts_from="image").handover_source("backbone.blocks.2.experts.vl.fc1.weight")
    assert source == "backbone.blocks.2.experts.image.fc1.weight"


def test_a_model_says_whether_it_retrieves():
    assert toy_model().retrieves and toy_model(contrastive="main").retrieves
    assert not toy_model(contrastive="none").retrieves
