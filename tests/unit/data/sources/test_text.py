"""`mmret data build text`: what becomes a sample, what is left out, what is said of files that cannot be read."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmret.cli import main
from mmret.data import DataSpec
from mmret.data.sources.text import TextConfig, build_text, pieces
from mmret.errors import ConfigError, SampleError


def build(folder, *files, **options):
    """Texts of the samples of a corpus made from these files."""
    config = TextConfig(texts=[str(file) for file in files], out=str(folder / "out"), name="corpus", **options)
    (built,) = build_text(config)
    source = DataSpec("corpus", str(built.manifest), file=str(folder / "x.yaml"), required=["query.text"]).open()
    return [source.parse(index).query.text for index in range(len(source))], built


def written(path, text):
    path.write_text(text)
    return path


TEXT = "one two three four five\n\nsix seven eight nine ten\neleven twelve\n\nshort one\n"


def test_lines_become_samples_and_short_ones_are_counted(tmp_path):
    texts, built = build(tmp_path, written(tmp_path / "a.txt", TEXT))
    assert texts == ["one two three four five", "six seven eight nine ten"]
    assert built.queries.left_out == {"fewer than 5 words": 2}
    assert built.queries.first == {"fewer than 5 words": "a.txt: eleven twelve"}


def test_paragraphs_go_up_to_an_empty_line(tmp_path):
    texts, _ = build(tmp_path, written(tmp_path / "a.txt", TEXT), unit="paragraph")
    assert texts == ["one two three four five", "six seven eight nine ten eleven twelve"]


def test_long_units_are_cut_into_pieces_of_like_length():
    assert list(pieces("a b c d e f g", 3)) == ["a b", "c d", "e f g"]
    assert list(pieces("a b c", 3)) == ["a b c"]
    assert list(pieces("  \n", 3)) == []


def test_all_kinds_of_files_give_the_same_samples(tmp_path):
    documents = ["one two three four five", "six seven eight nine ten"]
    files = [written(tmp_path / "a.txt", "\n".join(documents)), tmp_path / "b.txt.gz", tmp_path / "d.parquet"]
    files[1].write_bytes(gzip.compress("\n".join(documents).encode()))
    pq.write_table(pa.table({"text": documents}), files[2])
    files.append(written(tmp_path / "c.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in documents)))
    for number, file in enumerate(files):
        assert build(tmp_path / str(number), file, unit="paragraph" if number > 1 else "line")[0] == documents


def test_a_folder_gives_all_its_files_in_order_up_to_the_limit(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    written(tmp_path / "in" / "b.txt", "three three three three three\n")
    written(tmp_path / "in" / "a.txt", "one one one one one\ntwo two two two two\n")
    texts, built = build(tmp_path, tmp_path / "in", limit=2)
    assert [text[:3] for text in texts] == ["one", "two"] and built.queries.kept == 2


def test_a_second_build_of_the_same_is_skipped_and_of_other_settings_is_not(tmp_path):
    file = written(tmp_path / "a.txt", TEXT)
    assert [build(tmp_path, file)[1].skipped, build(tmp_path, file)[1].skipped] == [False, True]
    texts, built = build(tmp_path, file, min_words=2)
    assert not built.skipped and "short one" in texts


def test_a_language_stage_reads_what_was_built(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MMRET_TEXT", str(tmp_path / "text"))
    written(tmp_path / "a.txt", TEXT)
    out = ["--out", str(tmp_path / "text"), "--name", "wiki_books"]
    assert main(["data", "build", "text", "--texts", str(tmp_path / "a.txt"), *out]) == 0
    assert f"export MMRET_TEXT={tmp_path / 'text'}" in capsys.readouterr().err.replace("\n", "")
    source = DataSpec.load("text/wiki_books").open()
    assert len(source) == 2 and source.parse(0).positives == []


@pytest.mark.parametrize(
    "name, content, error, message",
    [
        ("a.pdf", "x", ConfigError, r"a\.pdf is of no known kind; want \.txt"),
        ("a.jsonl", '{"text": "a"}\nnonsense\n', SampleError, r"a\.jsonl:2: want an object with 'text'"),
        ("a.jsonl", '{"body": "a"}\n', SampleError, r"a\.jsonl:1: want an object with 'text' \(KeyError"),
        ("a.jsonl", '{"text": 3}\n', SampleError, r"a\.jsonl:1: 'text' is no text"),
        ("a.txt.gz", "no gzip", SampleError, r"a\.txt\.gz cannot be read"),
        ("a.parquet", "no parquet", SampleError, r"a\.parquet cannot be read"),
        ("a.txt", "a b\n", SampleError, r"a\.txt: no text of 5 words or more"),
    ],
)
def test_files_that_do_not_fit_are_named(name, content, error, message, tmp_path):
    with pytest.raises(error, match=message):
        build(tmp_path, written(tmp_path / name, content))


def test_options_that_do_not_fit_are_named(tmp_path):
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=r"has no column 'text' \(--field\); it has body"):
        build(tmp_path, tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="does not exist"):
        build(tmp_path, tmp_path / "gone.txt")
    with pytest.raises(ConfigError, match="has no file that ends in"):
        build(tmp_path, _empty(tmp_path))
    for options, message in (
        ({"unit": "page"}, "unit must be line or paragraph"),
        ({"min_words": 9, "max_words": 3}, "want 1 <= min_words <= max_words, got 9 and 3"),
        ({"limit": 0}, "limit must be at least 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            TextConfig(texts=["a"], name="x", **options)
    with pytest.raises(ConfigError, match="no files; give --texts"):
        TextConfig(name="x")


def _empty(folder):
    (folder / "empty").mkdir()
    return folder / "empty"
