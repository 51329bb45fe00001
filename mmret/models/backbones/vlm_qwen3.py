"""Qwen3-VL: patches of 16 px, features from several depths of the tower, a time stamp before each pair of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from mmret.models.backbones.vlm_family import Film, RowPictures
from mmret.models.backbones.vlm_qwen import Qwen2VL


class Qwen3VL(Qwen2VL):
    """Qwen3-VL (Bai et al. 2025)."""

    @classmethod
    def tiny_config(cls, vocabulary: int, ids: Mapping[str, int | None]) -> dict[str, Any]:
        """About 90,000 parameters; the first of two layers gets features of the tower's first layer added."""
        config = super().tiny_config(vocabulary, ids)
        text = {**config["text_config"], "head_dim": 16}
        text["rope_parameters"] = {**text["rope_parameters"], "mrope_interleaved": True}
        return {**config, "text_config": text}

    @classmethod
    def _tiny_vision(cls) -> dict[str, Any]:
        return {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 16,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        }

    @classmethod
    def tiny_pictures(cls) -> dict[str, Any]:
        """At most 16 tokens a picture."""
        half = [0.5, 0.5, 0.5]
        size = {"shortest_edge": 64 * 64, "longest_edge": 128 * 128}
        return {"size": size, "patch_size": 16, "merge_size": 2, "image_mean": half, "image_std": half}

    def videos(self, videos: Sequence[Film]) -> RowPictures:
        """As Qwen2-VL's; each pair of frames stands behind its time, the mean of its two frames', in seconds."""
        seen, markup, places = super().videos(videos), [], []
        for film, whole, (steps, _, _) in zip(videos, seen.places, seen.tensors["video_grid_thw"].tolist()):
            times = [*film.times, film.times[-1]] if len(film.times) % 2 else film.times
            means = [(first + second) / 2 for first, second in zip(times[0::2], times[1::2])]
            shown = f"<|vision_start|>{self.VIDEO_PLACEHOLDER}<|vision_end|>"
            markup.append("".join(f"<{mean:.1f} seconds>{shown}" for mean in means))
            places.extend([whole // steps] * steps)
        return replace(seen, places=places, markup=markup)

    def _grids(self, name: str, row: Mapping[str, Tensor]) -> list[tuple[int, int, int, float]]:
        # Each pair of a video's frames has its own place among the tokens.
        return [(1, height, width, 1) for steps, height, width in row[name].tolist() for _ in range(steps)]
