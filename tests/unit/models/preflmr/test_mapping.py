import pytest
import torch
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLayer

from mmret.models.preflmr.convert import MAPPING
from mmret.models.preflmr.mapping import MappingLayer, MappingNetwork


def test_a_layer_equals_berts_decoder_layer_run_without_causal_mask():
    config = BertConfig(
        hidden_size=16, num_attention_heads=4, intermediate_size=20, is_decoder=True, add_cross_attention=True
    )
    config._attn_implementation = "eager"
    theirs = BertLayer(config).eval()
    ours = MappingLayer(16, 4, 20, 0.1, 0.1, "gelu", 1e-12).eval()
    state = {
        key: theirs.state_dict()[f"{MAPPING[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}"]
        for key in ours.state_dict()
    }
    ours.load_state_dict(state)
    patches, text = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    with torch.no_grad():
        expected = theirs(patches, encoder_hidden_states=text)
        expected = expected[0] if isinstance(expected, tuple) else expected
        assert torch.allclose(ours(patches, text, None), expected, atol=1e-6)


def test_hidden_text_places_have_no_say():
    network = MappingNetwork(2, 8, 2, 12, 0.0, 0.0, "gelu", 1e-12)
    patches, text = torch.randn(2, 3, 8), torch.randn(2, 4, 8)
    visible = torch.tensor([[True, True, False, False], [True, False, True, True]])
    changed = torch.where(visible.unsqueeze(2), text, text + 5)
    assert torch.allclose(network(patches, text, visible), network(patches, changed, visible), atol=1e-6)
    assert not torch.allclose(network(patches, text), network(patches, changed), atol=1e-3)


def test_a_row_with_no_visible_place_gives_numbers():
    network = MappingNetwork(1, 8, 2, 12, 0.0, 0.0, "gelu", 1e-12)
    out = network(torch.randn(1, 3, 8), torch.randn(1, 4, 8), torch.zeros(1, 4, dtype=torch.bool))
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("training", [True, False])
def test_dropout_acts_in_training_only(training):
    network = MappingNetwork(1, 8, 2, 12, 0.5, 0.5, "gelu", 1e-12).train(training)
    patches, text = torch.randn(1, 3, 8), torch.randn(1, 4, 8)
    assert torch.equal(network(patches, text), network(patches, text)) is not training
