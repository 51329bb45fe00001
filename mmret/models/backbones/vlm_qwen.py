"""Qwen2-VL and Qwen2.5-VL: pictures of any shape as flat patches, one token per 2 x 2; videos by pairs of frames."""

# P patches of a row, D numbers of a patch (channels x 2 frames x side x side)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mmret.errors import ConfigError, SampleError
from mmret.models.backbones.vlm_family import FRAMES_PER_SECOND, Family, Film, RowPictures


class Qwen2VL(Family):
    """Qwen2-VL (Wang et al. 2024)."""

    SPECIAL = ("<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    PLACEHOLDER = "<|image_pad|>"
    VIDEO_PLACEHOLDER = VIDEO_TOKEN = "<|video_pad|>"
    LIMITS = ("min_pixels", "max_pixels")
    MROPE = True

    @classmethod
    def tiny_config(cls, vocabulary: int, ids: Mapping[str, int | None]) -> dict[str, Any]:
        """About 100,000 parameters."""
        return {
            "text_config": {
                "vocab_size": vocabulary,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "max_position_embeddings": 512,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
                "bos_token_id": ids["<|endoftext|>"],
                "eos_token_id": ids["<|endoftext|>"],
                "pad_token_id": ids["<|endoftext|>"],
            },
            "vision_config": cls._tiny_vision(),
            "image_token_id": ids["<|image_pad|>"],
            "video_token_id": ids["<|video_pad|>"],
            "vision_start_token_id": ids["<|vision_start|>"],
            "vision_end_token_id": ids["<|vision_end|>"],
        }

    @classmethod
    def _tiny_vision(cls) -> dict[str, Any]:
        return {"depth": 2, "embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2, "num_heads": 2, "patch_size": 14}

    @classmethod
    def tiny_pictures(cls) -> dict[str, Any]:
        """At most 16 tokens a picture."""
        return {"min_pixels": 56 * 56, "max_pixels": 112 * 112, "patch_size": 14, "merge_size": 2}

    def image_processor(self, settings: dict[str, Any], limits: dict[str, int]) -> Any:
        """The published settings, with other limits of the area where asked."""
        from transformers import Qwen2VLImageProcessorPil

        settings.pop("image_processor_type", None)
        # Old files say min_pixels and max_pixels, new ones size; transformers' class calls areas edges.
        size = {**Qwen2VLImageProcessorPil.size, **settings.pop("size", {})}
        low, high = settings.pop("min_pixels", None), settings.pop("max_pixels", None)
        low = limits.get("min_pixels") or low or size["shortest_edge"]
        high = limits.get("max_pixels") or high or size["longest_edge"]
        if low > high:
            raise ConfigError(f"model.min_pixels {low} is more than the backbone's or model.max_pixels {high}")
        return Qwen2VLImageProcessorPil(**settings, size={"shortest_edge": low, "longest_edge": high})

    def pictures(self, images: Sequence[Image.Image]) -> RowPictures:
        """pixel_values [P, D] and image_grid_thw [n, 3] (frames, rows, columns of patches) of n pictures."""
        pixels, grid = self._patches(images)
        return RowPictures({"pixel_values": pixels, "image_grid_thw": grid}, self._places(grid))

    def videos(self, videos: Sequence[Film]) -> RowPictures:
        """pixel_values_videos [P, D] and video_grid_thw [n, 3]; an odd last frame is shown twice.

        Raises:
            SampleError: frames of several sizes, or one that is too thin.
        """
        pixels, grids = [], []
        for film in videos:
            frames = [*film.frames, film.frames[-1]] if len(film.frames) % 2 else [*film.frames]
            if len({frame.size for frame in frames}) > 1:
                sizes = ", ".join(sorted({"{} x {}".format(*frame.size) for frame in frames}))
                raise SampleError(f"frames of one video have several sizes: {sizes}")
            patches, grid = self._patches(frames)
            # The processor shows a picture as two equal frames; of each, take one, and pair it with its neighbour.
            side = self.processor.patch_size
            single = patches.view(len(frames), -1, 3, 2, side, side)[:, :, :, 0]
            pairs = torch.stack([single[0::2], single[1::2]], dim=3)
            pixels.append(pairs.flatten(0, 1).flatten(1))
            grids.append(torch.tensor([[len(frames) // 2, int(grid[0, 1]), int(grid[0, 2])]]))
        grid = torch.cat(grids)
        return RowPictures({"pixel_values_videos": torch.cat(pixels), "video_grid_thw": grid}, self._places(grid))

    def empty(self, name: str) -> Tensor:
        """[0, D] patches or [0, 3] grids."""
        if name.endswith("_thw"):
            return torch.empty(0, 3, dtype=torch.long)
        return torch.empty(0, 3 * 2 * self.processor.patch_size**2)

    def mrope(self, ids: Tensor, mask: Tensor, ragged: Mapping[str, Sequence[Tensor]]) -> Tensor:
        """A text token counts one further on all axes; a picture spreads over its grid and counts as its longer side.

        Made here and not by transformers, which takes two pictures without a token between them for one.
        """
        kinds = {self.config["image_token_id"]: "image_grid_thw", self.config["video_token_id"]: "video_grid_thw"}
        # Worked out on the CPU: everything comes from a GPU, and goes there, once.
        words, real_places = torch.stack([ids, mask.to(ids.dtype)]).cpu()
        sizes = {name: _on_cpu(rows) for name, rows in ragged.items() if not name.startswith("pixel_values")}
        positions = torch.zeros(3, *ids.shape, dtype=torch.long)
        for row in range(len(ids)):
            real = real_places[row].bool()
            own = {name: rows[row] for name, rows in sizes.items()}
            grids = {token: iter(self._grids(name, own)) for token, name in kinds.items() if name in own}
            tokens, parts, at, place = words[row, real].tolist(), [], 0, 0
            while at < len(tokens):
                if tokens[at] in grids:
                    frames, height, width, step = next(grids[tokens[at]])
                    steps = step * torch.arange(frames)
                    merge = self.processor.merge_size
                    axes = steps.long(), torch.arange(height // merge), torch.arange(width // merge)
                    part = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
                    place, part = place + max(height, width) // merge, part + place
                else:
                    stop = next((i for i in range(at, len(tokens)) if tokens[i] in grids), len(tokens))
                    part = torch.arange(place, place + stop - at).expand(3, -1)
                    place += stop - at
                parts.append(part)
                at += part.shape[1]
            positions[:, row, real] = torch.cat(parts, 1)
        return positions.to(ids.device, non_blocking=True)

    def _grids(self, name: str, row: Mapping[str, Tensor]) -> list[tuple[int, int, int, float]]:
        """Frames, rows and columns of patches of what stands together in a row, and positions from frame to frame."""
        return [(frames, height, width, 1) for frames, height, width in row[name].tolist()]

    def _patches(self, images: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
        # A picture narrower than a token becomes a square of two by two first (28 and 56 px), as the reference does.
        side = self.processor.patch_size * self.processor.merge_size
        ready = []
        for image in map(self.square, images):
            ready.append(image.resize((2 * side, 2 * side)) if min(image.size) < side else image)
            width, height = ready[-1].size
            if max(width, height) > 200 * min(width, height):
                raise SampleError(f"a picture of {width} x {height} pixels: one side over 200 times the other")
        out = self.processor(images=ready, return_tensors="pt")
        return out["pixel_values"].float(), out["image_grid_thw"].long()

    def _places(self, grid: Tensor) -> list[int]:
        return (grid.prod(1) // self.processor.merge_size**2).tolist()


class Qwen25VL(Qwen2VL):
    """Qwen2.5-VL (Bai et al. 2025): windows of attention in the vision tower; videos know the time."""

    def videos(self, videos: Sequence[Film]) -> RowPictures:
        """Also second_per_grid_ts [n]: from one pair of frames to the next, on average."""
        seen, pairs = super().videos(videos), []
        for film in videos:
            times = film.times
            pairs.append(2 * (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 2 / FRAMES_PER_SECOND)
        return RowPictures({**seen.tensors, "second_per_grid_ts": torch.tensor(pairs)}, seen.places)

    def empty(self, name: str) -> Tensor:
        """[0, D] patches, [0, 3] grids or [0] seconds."""
        return torch.empty(0) if name == "second_per_grid_ts" else super().empty(name)

    def _grids(self, name: str, row: Mapping[str, Tensor]) -> list[tuple[int, int, int, float]]:
        found = super()._grids(name, row)
        if name != "video_grid_thw":
            return found
        # Without times a pair of frames counts as a second, as in transformers.
        seconds = row["second_per_grid_ts"].tolist() if "second_per_grid_ts" in row else [1.0] * len(found)
        rate = self.config["vision_config"]["tokens_per_second"]
        return [(*grid[:3], rate * apart) for grid, apart in zip(found, seconds)]

    @classmethod
    def _tiny_vision(cls) -> dict[str, Any]:
        return {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 14,
            "window_size": 56,
            "fullatt_block_indexes": [1],
            "out_hidden_size": 32,
        }


def _on_cpu(rows: Sequence[Tensor]) -> Sequence[Tensor]:
    """The tensors of all rows, fetched together."""
    return torch.cat(list(rows)).cpu().split([len(row) for row in rows])
