import pytest

from mmret.errors import ConfigError
from mmret.models import VLMo, VLMoConfig


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"image_px": 225}, "multiple of patch_px = 16, got 225; nearest: 224 or 240"),
        ({"size": "huge"}, "base, base_plus, large, tiny, got 'huge'"),
        ({"heads": 7}, "width 768 is not divisible by model.heads 7"),
        ({"vl_layers": 13}, "0 to depth = 12, got 13"),
        ({"max_text_tokens": 200}, "more than the relative table has rows for"),
        ({"positions": "sine"}, "relative, absolute, got 'sine'"),
        ({"drop_path": 1.0}, r"drop_path must be in \[0, 1\)"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(settings, message):
    with pytest.raises(ConfigError, match=message):
        VLMoConfig(**settings)


@pytest.mark.parametrize(
    "size, backbone, with_text", [("base", 151.79, 175.4), ("base_plus", 149.94, 166.6), ("large", 529.81, 561.5)]
)
def test_published_sizes_have_the_published_parameter_counts(size, backbone, with_text):
    """In millions; the released README's figures count word embeddings and table in."""
    model = VLMo.skeleton(VLMoConfig(size=size))
    counts = {name: p.numel() for name, p in model.backbone.named_parameters()}
    outside = sum(n for name, n in counts.items() if name.startswith(("text.", "modality.", "positions.")))
    assert (sum(counts.values()) - outside) / 1e6 == pytest.approx(backbone, abs=0.01)
    unused = 40 * model.width if size != "base_plus" else 0  # positions that base and large carry without reading them
    assert (sum(counts.values()) + unused) / 1e6 == pytest.approx(with_text, abs=0.1)
