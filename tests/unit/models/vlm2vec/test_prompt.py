"""Prompts byte for byte, as published for scoring."""

import pytest

from mmret.errors import SampleError
from mmret.models.vlm2vec.prompt import compose
from mmret.types import Content, EncodedImage, EncodedVideo

PICTURE = EncodedImage(b"never decoded here")
PAD = "<|image_pad|>"


@pytest.mark.parametrize(
    ("content", "prompt"),
    [
        (Content("a small dog"), "a small dog"),
        (Content("a dog", instruction="Find me an image:"), "Find me an image: a dog"),
        (Content(None, (PICTURE,), "Represent the given image."), f"{PAD} Represent the given image."),
        (Content("What is it?", (PICTURE,), "Answer:"), f"{PAD} Answer: What is it?"),
        (Content("Compare", (PICTURE, PICTURE)), f"{PAD} {PAD} Compare"),
        (Content("", (PICTURE,)), f"{PAD} "),
    ],
)
def test_placeholders_instruction_and_text_are_parted_by_one_blank(content, prompt):
    assert compose(content, PAD) == prompt


@pytest.mark.parametrize(
    ("content", "prompt"),
    [
        (Content("a dog", instruction="Find me an image:"), "Find me an image: a dog"),
        (Content("What is it?", (PICTURE, PICTURE), "Answer:"), f"Answer: What is it? {PAD} {PAD}"),
        (Content(None, (PICTURE,)), PAD),
        (Content("who", (PICTURE,), video=EncodedVideo((PICTURE,))), f"who {PAD} <|video|>"),
        (Content(f"{PAD}\nWho?\n", (PICTURE,)), f"{PAD}\nWho?\n"),
    ],
)
def test_pictures_may_stand_behind_the_text_unless_it_says_where(content, prompt):
    assert compose(content, PAD, pictures_first=False) == prompt


def test_a_text_that_holds_its_placeholder_is_left_to_the_last_newline():
    text = f"{PAD}\nRepresent the given image with the following question: Who?\n"
    assert compose(Content(text, (PICTURE,)), PAD) == text


def test_published_data_sets_placeholder_becomes_the_backbones():
    content = Content("<|image_1|>\nWhich <|image_2|>?\n", (PICTURE, PICTURE))
    assert compose(content, "<image>") == "<image>\nWhich <image>?\n"


def test_more_placeholders_than_pictures_are_refused():
    with pytest.raises(SampleError, match=r"q7: 2 placeholders .* in its text, but 1 pictures"):
        compose(Content(f"{PAD} {PAD}", (PICTURE,), id="q7"), PAD)


@pytest.mark.parametrize("content", [Content(), Content("")])
def test_nothing_at_all_is_refused(content):
    with pytest.raises(SampleError, match="neither text nor picture"):
        compose(content, PAD)
