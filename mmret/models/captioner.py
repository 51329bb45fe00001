"""A captioning model of transformers, from a local folder: pictures to texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mmret.errors import ConfigError


class Captioner:
    """Writes what a picture shows. Greedy, so that a picture always gets the same words.

    Args:
        folder: a model of transformers' image-text-to-text kind (BLIP, GIT, Qwen2-VL, ...) with its processor.
        prompt: what it is asked, or begins with; None: nothing, for models that are made for captions alone.
        max_tokens: most new tokens of a caption.
        device: where it runs.

    Raises:
        ConfigError: the folder is not here, or holds no such model.
    """

    def __init__(self, folder: str | Path, prompt: str | None, max_tokens: int, device: str) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        if not Path(folder).is_dir():
            raise ConfigError(
                f"{folder}: no such folder; download the model where there is access (hf download NAME --local-dir "
                "FOLDER) and name the folder"
            )
        try:
            self.processor: Any = AutoProcessor.from_pretrained(folder)
            self.model: Any = AutoModelForImageTextToText.from_pretrained(folder)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(f"{folder}: transformers opens no captioning model there ({reason})") from error
        self.model.to(device).eval()
        if hasattr(self.processor, "tokenizer") and not self.model.config.is_encoder_decoder:
            self.processor.tokenizer.padding_side = "left"  # what follows the prompt must follow it in every row
        self.prompt, self.max_tokens, self.device = prompt, max_tokens, device

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> list[str]:
        """One caption for each picture; empty where the model says nothing."""
        pictures = [image.convert("RGB") for image in images]
        inputs = self.processor(images=pictures, **self._asked(len(pictures)), return_tensors="pt").to(self.device)
        made = self.model.generate(**inputs, max_new_tokens=self.max_tokens, do_sample=False, num_beams=1)
        given = inputs.get("input_ids")
        if given is not None and not self.model.config.is_encoder_decoder and _starts(made, given):
            made = made[:, given.shape[1] :]
        texts = self.processor.batch_decode(made, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    def _asked(self, count: int) -> dict[str, Any]:
        """The processor's text arguments: through the chat template where the model has one."""
        if self.prompt is None:
            return {}
        text = self.prompt
        if getattr(self.processor, "chat_template", None):
            turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": self.prompt}]}
            text = self.processor.apply_chat_template([turn], add_generation_prompt=True)
        return {"text": [text] * count, "padding": True}


def _starts(made: torch.Tensor, given: torch.Tensor) -> bool:
    return made.shape[1] >= given.shape[1] and bool((made[:, : given.shape[1]] == given).all())
