import torch

from mmret.evaluation.answers import count_answering, find_answers, normalize_answer

TEXTS = ["The capital is PARIS.", "a comparison", "nothing here", "Rome and\nParis"]


def test_an_answer_is_a_plain_substring_of_the_lowered_text():
    answers = [(normalize_answer(" Paris "),), ("rome", "nothing"), (), ("paris rome",)]
    rows = torch.tensor([[0, 1, 2, 3]] * 4)
    found = find_answers(answers, rows, TEXTS.__getitem__)
    assert found.int().tolist() == [[1, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_word_borders_do_not_count():
    assert find_answers([("paris",)], torch.tensor([[1]]), TEXTS.__getitem__).item()


def test_documents_with_any_answer_are_counted_once():
    assert count_answering([("paris", "capital"), ("rome",), (), ("zzz",), ("a",)], TEXTS).tolist() == [3, 1, 0, 0, 3]


def test_an_answer_is_not_found_across_two_documents():
    assert count_answering([("ab",)], ["xa", "bx"]).tolist() == [0]
