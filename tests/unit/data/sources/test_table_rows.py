"""`mmret data build table`: every kind of file and picture gives the same samples; what is left out is said."""

import base64
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmret.cli import main
from mmret.data import DataSpec
from mmret.data.sources.fetch import opener
from mmret.data.sources.table import TableConfig, build_table
from mmret.errors import ConfigError, SampleError
from tests.unit.data.sources.pictures import picture, web
from tests.unit.data.test_dataset import module

NUMBERS = range(5)


def build(folder, *files, **options):
    """The examples of a table."""
    config = TableConfig([str(file) for file in files], out=str(folder / "out"), **options)
    (built,) = build_table(config)
    source = DataSpec.load(folder / "out/train.yaml").open()
    return [source.example(index) for index in range(len(source))], built


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def csv(folder, *lines):
    return write(folder / "a.csv", "\n".join(lines) + "\n")


@pytest.fixture
def photos(tmp_path):
    for number in NUMBERS:
        path = tmp_path / f"photos/{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(number))
    return tmp_path / "photos"


def said(rows):
    """Picture, captions and facts of each row."""
    return [
        (row.query.images[0].data, [one.text for one in row.positives], {k: row.meta[k] for k in sorted(row.meta)})
        for row in rows
    ]


def test_all_kinds_of_files_and_pictures_give_the_same_samples(tmp_path, photos):
    captions = [f"one, {number}" if number else 'a "quoted"\nline' for number in NUMBERS]
    rows = [{"photo": f"{n}.png", "caption": captions[n], "page": f"p{n}"} for n in NUMBERS]
    files = {
        "csv": write(tmp_path / "csv/a.csv", "photo,caption,page\n" + "".join(
            '{photo},"{0}",{page}\r\n'.format(row["caption"].replace('"', '""'), **row) for row in rows)),
        "jsonl": write(tmp_path / "jsonl/a.jsonl", "".join(json.dumps(row) + "\n\n" for row in rows)),
        "parquet": tmp_path / "a.parquet",
        "gz": tmp_path / "a.jsonl.gz",
        "base64": write(tmp_path / "base64/a.jsonl", "".join(json.dumps(
            row | {"photo": base64.b64encode(picture(n)).decode()}) + "\n" for n, row in enumerate(rows))),
    }  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), files["parquet"], row_group_size=2)
    files["gz"].write_bytes(gzip.compress(files["jsonl"].read_bytes()))
    for name, column in (
        ("bytes", [picture(n) for n in NUMBERS]),
        ("hub", [{"bytes": None if n % 2 else picture(n), "path": f"{n}.png"} for n in NUMBERS]),
    ):
        files[name] = tmp_path / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist([row | {"photo": column[n]} for n, row in enumerate(rows)]), files[name])
    wanted = [(picture(n), [captions[n]], {"page": f"p{n}"}) for n in NUMBERS]
    options = {"images": str(photos), "image_column": "photo", "caption_columns": ["caption"]}
    for name, file in files.items():
        for size in (2, 100):
            found, built = build(tmp_path / f"{name}{size}", file, piece_rows=size, **options)
            assert said(found) == wanted, name
            assert (built.queries.rows, built.queries.kept) == (5, 5)
            assert [row.key.partition(":")[2] for row in found] == [f"{n:09d}" for n in NUMBERS]


def test_a_tsv_without_names_has_them_by_option_and_its_quotes_are_texts(tmp_path, photos):
    file = write(tmp_path / "cc.tsv", '" he said\t0.png\n"a ""b"" c"\t1.png\nx "y"\t2.png\n')
    options = {"images": str(photos), "image_column": "url", "caption_columns": ["caption"]}
    found, _ = build(tmp_path, file, columns=["caption", "url"], piece_rows=1, **options)
    assert [row.positives[0].text for row in found] == ['" he said', 'a "b" c', 'x "y"']


def test_several_files_are_read_in_order_up_to_the_limit(tmp_path):
    for name, texts in (("b", "fg"), ("a", "cde")):
        write(tmp_path / f"in/{name}.csv", "q,a\n" + "".join(f"{text},{text * 2}\n" for text in texts))
    options = {"query_text": "q", "positive_texts": ["a"]}
    found, _ = build(tmp_path, tmp_path / "in", piece_rows=2, **options)
    assert [row.query.text for row in found] == [*"cdefg"]
    found, built = build(tmp_path, tmp_path / "in", piece_rows=2, limit=4, **options)
    assert [row.query.text for row in found] == [*"cdef"] and built.queries.rows == 4


def test_documents_pair_their_texts_pictures_and_ids(tmp_path, photos):
    row = {
        "ask": " what? ", "do": "Find it:", "photos": ["0.png", "1.png"], "good": ["yes", None],
        "seen": ["2.png", "3.png"],
        "ids": ["x", "y"], "bad": ["no", "never"], "query": "a fact", "score": float("nan"), "n": 3,
    }  # fmt: skip
    file = write(tmp_path / "a.jsonl", json.dumps(row) + "\n")
    (found,), _ = build(
        tmp_path, file, images=str(photos), query_text="ask", query_instruction="do", query_images=["photos"],
        positive_texts=["good"], positive_images=["seen"], positive_ids=["ids"], negative_texts=["bad"],
    )  # fmt: skip
    assert (found.query.text, found.query.instruction) == ("what?", "Find it:")
    assert [image.data for image in found.query.images] == [picture(0), picture(1)]
    sides = [(one.id, one.text, [image.data for image in one.images]) for one in found.positives]
    assert sides == [("x", "yes", [picture(2)]), ("y", None, [picture(3)])]
    assert [one.text for one in found.negatives] == ["no", "never"]
    assert found.meta == {"query_column": "a fact", "n": 3}


def test_several_columns_and_lists_in_text_files_are_several_positives(tmp_path):
    file = csv(tmp_path, "q,a,b", '1,"[""x"", ""y""]",z', "2,[red] car,", "3,same,same", '4,"[1, 2]",')
    found, _ = build(tmp_path, file, query_text="q", positive_texts=["a", "b"])
    assert [[one.text for one in row.positives] for row in found] == [
        ["x", "y", "z"],
        ["[red] car"],
        ["same"],
        ["[1, 2]"],
    ]


def test_facts_are_the_other_columns_or_those_that_are_named(tmp_path):
    file = csv(tmp_path, "q,a,topic,page", "1,2,3,4")
    options = {"query_text": "q", "positive_texts": ["a"]}
    assert build(tmp_path, file, **options)[0][0].meta == {"topic": "3", "page": "4"}
    assert build(tmp_path, file, facts=["page"], **options)[0][0].meta == {"page": "4"}


def test_rows_are_left_out_by_reason_and_all_of_them_listed(tmp_path):
    file = csv(tmp_path, "q,a,i", "1,x,1", "2,,", "3,only,two,fields", ',"x",1', '5,"[""x"",""y""]",1')
    found, built = build(tmp_path, file, query_text="q", positive_texts=["a"], positive_ids=["i"])
    assert [row.query.text for row in found] == ["1"]
    assert built.queries.left_out == {
        "nothing answers": 1,
        "row cannot be read": 1,
        "nothing asks": 1,
        "unequal lists": 1,
    }
    listed = [json.loads(line) for line in (tmp_path / "out/train.left_out.jsonl").read_text().splitlines()]
    assert listed[1] == {"reason": "row cannot be read", "which": "a.csv row 3: 4 fields, want 3 (q, a, i)"}
    assert listed[3]["which"] == "a.csv row 5: the positives have 2 texts, 1 ids; want one of each for each document"


def test_addresses_are_fetched_and_failures_counted_by_cause_without_stopping(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    opener.cache_clear()
    answers = {f"/{n}": [(200, {}, picture(n))] for n in NUMBERS}
    answers |= {"/page": [(200, {}, b"<html>gone</html>")], "/later": [(503, {}, b""), (200, {}, picture(9))]}
    monkeypatch.setattr("mmret.data.sources.fetch.random.uniform", lambda *_: 0.0)
    with web(answers) as (address, asked):
        names = ["0", "gone", "1", "page", "later", "also-gone"]
        rows = [json.dumps({"url": f"{address}/{name}", "t": name}) for name in names]
        file = write(tmp_path / "a.jsonl", "\n".join(rows))
        options = {"image_column": "url", "caption_columns": ["t"], "piece_rows": 2, "workers": 3}
        found, built = build(tmp_path, file, **options)
        assert [row.positives[0].text for row in found] == ["0", "1", "later"]
        assert [row.query.images[0].data for row in found] == [picture(0), picture(1), picture(9)]
        assert built.queries.left_out == {"url: http 404": 2, "url: no image": 1}
        asked.clear()
        assert build(tmp_path, file, **options)[1].skipped and not asked
    assert f"{address}/also-gone: HTTP 404" in (tmp_path / "out/train.left_out.jsonl").read_text()


def test_max_px_scales_what_lies_in_the_shards(tmp_path):
    (tmp_path / "0.png").write_bytes(picture(0, (30, 20)))
    (tmp_path / "1.png").write_bytes(picture(1, (10, 30)))
    file = csv(tmp_path, "i,c", "0.png,a", "1.png,b")
    found, _ = build(tmp_path, file, image_column="i", caption_columns=["c"], max_px=10)
    assert [row.query.images[0].decode().size for row in found] == [(15, 10), (10, 30)]
    assert found[1].query.images[0].data == picture(1, (10, 30))


@pytest.mark.parametrize(
    "options, kind, message",
    [
        ({"query_text": "qq"}, ConfigError, "a.csv: no column 'qq'; it has q, a, i. Did you mean 'q'?"),
        ({"query_text": "q", "facts": ["aa"]}, ConfigError, "no column 'aa'"),
        ({}, ConfigError, "no column asks; name some, as in --image-column .* has q, a, i"),
        ({"query_text": "q", "positive_ids": ["i"]}, ConfigError, "--positive-ids name documents"),
        ({"image_column": "i", "query_images": ["i"]}, ConfigError, "--image-column and --query-images are the same"),
        ({"query_text": "q", "positive_texts": ["a"], "caption_columns": ["a"]}, ConfigError, "are the same"),
        ({"query_text": "q", "name": "a/b"}, ConfigError, "--name 'a/b': want letters"),
        ({"query_text": "q", "retries": -1}, ConfigError, "retries must be at least 0, got -1"),
        ({"query_text": "q", "piece_rows": 0}, ConfigError, "piece_rows must be more than 0, got 0"),
        (
            {"image_column": "i"},
            ConfigError,
            "not one of the first 2 pictures is there; .*'x.png' in .*--images",
        ),
        ({"image_column": "i", "images": "/none"}, ConfigError, "/none: no such folder of pictures"),
        ({"query_text": "a"}, SampleError, "none of 2 rows could be used: 2 x nothing asks"),
    ],
)
def test_wrong_options_are_explained(tmp_path, options, kind, message):
    file = csv(tmp_path, "q,a,i", "1,,x.png", "2,,y.png")
    with pytest.raises(kind, match=message):
        build(tmp_path, file, **options)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", b"", "a.csv: the file is empty; want a first line that names each column"),
        ("a.csv", b"q,q\n1,2\n", "two columns are called 'q'"),
        ("a.csv", b"q,a\n", "no rows to build it from"),
        ("a.csv", b"q,a\n1,caf\xe9\n", "no UTF-8 text near byte"),
        ("a.jsonl", b"", "no column 'q'; it has"),
        ("a.parquet", b"version https://git-lfs", "not a parquet table .a git-lfs pointer"),
        ("a.csv.gz", b"no gzip", "a.csv.gz cannot be read"),
        ("a.xls", b"", "a.xls: no table; known: .csv"),
    ],
)
def test_files_that_cannot_be_used_are_explained(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises((ConfigError, SampleError), match=message):
        build(tmp_path, tmp_path / name, query_text="q", positive_texts=["a"])


def test_missing_files_and_empty_folders_are_explained(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.csv: no such file or folder"):
        build(tmp_path, tmp_path / "nowhere.csv", query_text="q")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="empty: no table in it"):
        build(tmp_path, tmp_path / "empty", query_text="q")
    with pytest.raises(ConfigError, match="no tables; give --files"):
        TableConfig()


@pytest.mark.parametrize(
    "value, reason, text",
    [
        ("gone.png", "picture missing", "a.jsonl row 2: no picture 'gone.png' in "),
        ("../0.png", "picture broken", "is none inside an image folder"),
        ("bad.png", "picture broken", "bad.png: 2 bytes do not decode as an image"),
        ("empty.png", "picture broken", "empty.png: 0 bytes"),
        ("b'\\xff\\xd8'", "bytes as Python shows them", "in a text file, bytes are written as base64"),
        ("A" * 200, "picture broken", "do not decode as an image"),
        ("data:image/png;base64,%%%", "picture broken", "no base64"),
        (7, "no picture", "7: want a path, an address, bytes, base64 or"),
    ],
)
def test_a_picture_that_is_none_stops_the_build_unless_it_may_be_missing(tmp_path, photos, value, reason, text):
    (photos / "bad.png").write_bytes(b"no")
    (photos / "empty.png").write_bytes(b"")
    file = write(tmp_path / "a.jsonl", "".join(json.dumps({"i": one, "c": "x"}) + "\n" for one in ("0.png", value)))
    options = {"images": str(photos), "image_column": "i", "caption_columns": ["c"]}
    with pytest.raises(SampleError, match="to leave such out: --skip-missing-images") as raised:
        build(tmp_path, file, **options)
    assert text in str(raised.value)
    found, built = build(tmp_path, file, skip_missing_images=True, **options)
    assert len(found) == 1 and built.queries.left_out == {reason: 1}


def test_the_command_line_builds_what_peek_shows_and_training_draws_from(tmp_path, photos, capsys):
    lines = [f"{number % 5}.png,caption {number}" for number in range(24)]
    file = write(tmp_path / "captions.csv", "photo,text\n" + "\n".join(lines) + "\n")
    out = tmp_path / "mine"
    assert main(["data", "build", "table", "--files", str(file), "--images", str(photos), "--image-column", "photo",
                 "--caption-column", "text", "--out", str(out), "--json"]) == 0  # fmt: skip
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"mine/train": {"queries": 24, "documents": 0}}
    assert "train.yaml: 1}" in captured.err.replace("\n", "")
    assert main(["data", "peek", str(out / "train.yaml"), "-n", "1"]) == 0
    assert "caption 0" in capsys.readouterr().err
    batch = module({out / "train.yaml": 1}).dataset()[0]
    assert len(batch) == 8 and set(batch.sources) == {"mine/train"} and batch.document is not None
    assert bytes(batch.document.dense["bytes"][0, :9].tolist()) == b"|caption "


def test_a_quote_that_never_closes_is_refused_instead_of_swallowing_the_rows_behind_it(tmp_path):
    file = csv(tmp_path, "q,a", "one,1", 'two,"2', "three,3", "four,4")
    with pytest.raises(SampleError, match=r"a.csv: the quote that opens near byte 10 is never closed"):
        build(tmp_path, file, query_text="q", positive_texts=["a"])
    file = csv(tmp_path, "q,a", 'one,"1', '1"', 'two,5" wide', 'three,"3"')
    rows, _ = build(tmp_path, file, query_text="q", positive_texts=["a"])
    assert [row.positives[0].text for row in rows] == ["1\n1", '5" wide', "3"]


def test_a_list_as_python_shows_it_is_no_caption(tmp_path):
    file = csv(tmp_path, "q,a", "one,\"['a car', 'a red car']\"", "two,['s] end", 'three,"[""x"", ""y""]"')
    rows, built = build(tmp_path, file, query_text="q", positive_texts=["a"])
    assert [[one.text for one in row.positives] for row in rows] == [["['s] end"], ["x", "y"]]
    assert built.queries.left_out == {"list as Python shows it": 1}
    assert 'lists are JSON: ["one", "two"]' in built.queries.first["list as Python shows it"]


@pytest.mark.parametrize("whole", [100, 10], ids=["small", "large"])
def test_a_table_of_the_same_size_with_another_word_is_built_again(tmp_path, whole, monkeypatch):
    for name, value in (("_WHOLE", whole), ("_BLOCKS", 4), ("_BLOCK", 4)):  # bytes 0, 6, 12, 18 and three behind each
        monkeypatch.setattr(f"mmret.data.sources.record.{name}", value)
    file = csv(tmp_path, "q,a", "one,cat", "two,dog")
    assert build(tmp_path, file, query_text="q", positive_texts=["a"])[1].skipped is False
    csv(tmp_path, "q,a", "one,cow", "two,dog")
    rows, built = build(tmp_path, file, query_text="q", positive_texts=["a"])
    assert rows[0].positives[0].text == "cow" and not built.skipped
    assert build(tmp_path, file, query_text="q", positive_texts=["a"])[1].skipped


def test_another_folder_of_pictures_is_another_input_and_a_moved_one_is_not(tmp_path, photos):
    file = csv(tmp_path, "photo,caption", "0.png,zero")
    options = {"image_column": "photo", "caption_columns": ["caption"]}
    build(tmp_path, file, images=str(photos), **options)
    moved = photos.rename(tmp_path / "moved")
    assert build(tmp_path, file, images=str(moved), **options)[1].skipped
    other = tmp_path / "other/0.png"
    other.parent.mkdir()
    other.write_bytes(picture(4) + b"\0")
    rows, built = build(tmp_path, file, images=str(other.parent), **options)
    assert not built.skipped and rows[0].query.images[0].data == other.read_bytes()


def test_a_path_that_climbs_out_is_left_out_also_in_the_first_row(tmp_path, photos):
    file = csv(tmp_path, "photo,caption", "../0.png,out", "1.png,one")
    options = {"image_column": "photo", "caption_columns": ["caption"], "images": str(photos)}
    with pytest.raises(SampleError, match=r"a.csv row 1: image path '../0.png' is none inside .*--skip-missing-images"):
        build(tmp_path, file, **options)
    rows, built = build(tmp_path, file, skip_missing_images=True, **options)
    assert len(rows) == 1 and sum(built.queries.left_out.values()) == 1


def test_what_pillow_does_not_know_is_said_without_an_address_in_memory(tmp_path, photos):
    (photos / "0.png").write_bytes(b"no picture")
    file = csv(tmp_path, "photo,caption", "0.png,zero")
    with pytest.raises(SampleError, match=r"0.png: 10 bytes do not decode as an image \(of no known format\)"):
        build(tmp_path, file, image_column="photo", caption_columns=["caption"], images=str(photos))
