import json
import tarfile

import pytest

from mmret.data.sources import SOURCES
from mmret.data.sources.mmeb_v2 import MMEBV2Config, build_mmeb_v2
from mmret.data.sources.mmeb_v2.facts import published
from mmret.data.table import Table
from mmret.errors import ConfigError, SampleError
from mmret.evaluation import Benchmark
from mmret.evaluation.suite import Suite
from tests.mmeb_v2_tables import page, write_frames, write_json, write_pages, write_parquet

ASK = (
    "<|video|> Given a video and a question, select the most accurate answer from the provided candidates. "
    "Return only the exact text of your chosen answer. Question: "
)
SEEN = "<|video|> Understand the content of the provided video."
PAGE = "<|image_1|> Understand the content of the provided document image."
FIND = "Find a document image that matches the given query:"


def build(tmp_path, **options):
    config = MMEBV2Config(str(tmp_path / "tables"), str(tmp_path / "frames"), out=str(tmp_path / "out"), **options)
    return build_mmeb_v2(config)


def samples(built):
    found = []
    for name in json.loads(built.manifest.read_text())["shards"]:
        with tarfile.open(built.manifest.parent / name["name"]) as tar:
            found += [json.loads(tar.extractfile(member).read()) for member in tar if member.name.endswith(".json")]
    return found


def documents(built):
    return {row["id"]: row for row in Table.open(built.passages).rows()}


def build_videos(tmp_path, file, rows, *videos, **options):
    """A set's table and its videos, red and blue; the built set."""
    write_json(tmp_path / "tables", file, rows)
    for video in videos:
        write_frames(tmp_path / "frames", video, "red", "blue")
    (built,) = build(tmp_path, **options)
    return built


def test_each_of_the_78_sets_is_a_task_of_its_part_and_has_a_benchmark():
    suite = Suite.find("mmeb_v2")
    sizes = {group: len(keys) for group, keys in suite.members.items()}
    assert (sizes["image"], sizes["video"], sizes["visdoc"], sizes["all"]) == (36, 18, 24, 78)
    assert [sizes[key] for key in ("CLS", "VQA", "RET", "VG")] == [10, 10, 12, 4]
    assert [sizes[key] for key in ("V-CLS", "V-QA", "V-RET", "V-MR")] == [5, 5, 5, 3]
    assert [sizes[key] for key in ("VDRv1", "VDRv2", "VR", "D-OOD")] == [10, 4, 6, 4]
    for key, facts in published().items():
        assert suite.tasks[key].metric == ("ndcg@5" if facts.kind == "document" else "recall@1")
        benchmark = Benchmark.load(f"mmeb_v2/{key}")
        assert benchmark.own_candidates == facts.own_candidates
        # The frames of a video that asks lie in the images table.
        assert (benchmark.spec.images is not None) == (facts.kind not in ("find", "document"))


def test_class_names_are_as_many_as_the_data_sets_have():
    sizes = {facts.name: len(set(facts.classes)) for facts in published().values() if facts.classes}
    assert sizes == {"K700": 700, "HMDB51": 51, "UCF101": 101, "Breakfast": 10}


@pytest.mark.parametrize(
    ("name", "text", "prompt"),
    [
        ("k700", "", "<|video|> Recognize the category of the video content."),
        ("breakfast", "", "<|video|> Recognize the breakfast type that the person is cooking in the video. "),
        (
            "qvhighlight",
            "a dog",
            "<|video|> Find the clip that corresponds to the described scene in the given video: a dog",
        ),
        (
            "momentseeker",
            "a dog",
            "<|video|> Find the clip that corresponds to the given sentence and video segment: a dog",
        ),
        ("egoschema", "Why?", f"{ASK} Why?"),
    ],
)
def test_a_video_that_asks_is_the_published_string_byte_for_byte(name, text, prompt):
    assert published()[name].query(text, video=True) == prompt


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("didemo", "Find a video that includes the following described scenes: a dog"),
        ("msr_vtt", "Find a video that contains the following visual content: a dog"),
        ("msvd", "Find the video snippet that corresponds to the given summary: a dog"),
        ("vatex", "Select a video that fits the description provided: a dog"),
        ("youcook2", "Find a video that demonstrates the following action while making a recipe: a dog"),
        ("momentseeker", "Find the clip that corresponds to the given text: a dog"),
        ("vidore_arxivqa", f"{FIND} a dog"),
        ("visrag_plotqa", f"{FIND} a dog"),
    ],
)
def test_a_text_that_asks_is_the_published_string_byte_for_byte(name, prompt):
    assert published()[name].query("a dog") == prompt


def test_documents_carry_the_published_instruction():
    strings = {facts.kind: facts.document for facts in published().values() if facts.kind not in ("classify", "answer")}
    clip = "<|video|> Understand the content of the provided video clip."
    assert strings == {"find": SEEN, "moment": SEEN, "clips": clip, "document": PAGE}


@pytest.mark.parametrize(
    ("file", "row", "video", "asked", "right", "others"),
    [
        (
            "MVBench/json/{}.json",
            {"video": "v.mp4", "question": "Why?", "candidates": ["A dog", "A cat"], "answer": "A cat"},
            "video_qa/MVBench/action_count/v.mp4",
            "Why?\nOptions:\n(A) A dog\n(B) A cat",
            "(B) A cat",
            {"(A) A dog"},
        ),
        (
            "NExTQA/MC/test.jsonl",
            {"video": 47, "question": "why", "answer": 1, "a0": "x", "a1": "y", "a2": "x", "a3": "z", "a4": "w"},
            "NExTQA/47",
            "why\nOptions:\n(A) x\n(B) y\n(C) x\n(D) z\n(E) w",
            "y",
            {"x", "z", "w"},
        ),
        (
            "Video-MME/test.jsonl",
            {"videoID": "v", "question": "Why?", "options": ["A. Yes.", "B. No, e. g. 5."], "answer": "B"},
            "video_qa/Video-MME/v",
            "Why?\nA. Yes.\nB. No, e. g. 5.",
            "No, e. g. 5",
            {"Yes"},
        ),
        (
            "egoschema.jsonl",
            {"video_idx": "v", "question": "Why? ", "option": ["A. c does", "B. does"], "answer": "0"},
            "video_qa/egoschema/v",
            "Why? A. c does B. does",
            "c does",
            {"does"},
        ),
        (
            "ActivityNetQA/data/test.jsonl",
            {"video_name": "v", "question": "is it", "answer": "no"},
            "video_qa/ActivityNetQA/v_v",
            "is it? (A) yes; (B) no.",
            "no",
            {"yes"},
        ),
    ],
)
def test_a_question_is_shown_with_its_options_as_each_set_does(tmp_path, file, row, video, asked, right, others):
    names = published()["mvbench"].subsets if "{}" in file else [""]
    for name in names:
        write_json(tmp_path / "tables", file.format(name), [row])
        write_frames(tmp_path / "frames", video.replace("action_count", name), "red", "blue")
    (built,) = build(tmp_path)
    sample, found = samples(built)[-1], documents(built)
    assert len(samples(built)) == len(names)
    assert sample["query"]["text"] == f"{ASK} {asked}"
    assert len(sample["query"]["video"]) == 2
    assert [found[id]["text"] for id in sample["positives"]] == [right]
    assert {found[id]["text"] for id in sample["candidates"]} == {right} | others


def test_classes_are_searched_as_one_corpus_and_frames_are_spread_in_their_order(tmp_path):
    rows = [{"video_id": "x", "pos_text": "tea"}, {"video_id": "x", "pos_text": "beer"}]
    write_frames(tmp_path / "frames", "video_cls/Breakfast/x", *["red", "green", "blue", "red", "green"] * 4)
    built = build_videos(tmp_path, "Breakfast/data/test.jsonl", rows, num_frames=3)
    first, second = samples(built)
    # Of frame_1 ... frame_20 the first, the middle one and the last: numbers, not letters, give the order.
    assert first["query"]["video"] == ["x/frame_1.png", "x/frame_10.png", "x/frame_20.png"]
    assert "candidates" not in first
    found = documents(built)
    assert len(found) == 11 and found[second["positives"][0]]["text"] == "beer"
    assert list(found) == sorted(found)
    assert Table.open(built.manifest.parent / "test_images.arrow").ids() == first["query"]["video"]


def test_something_something_ranks_each_rows_own_names_and_counts_those_that_lack_the_right_one(tmp_path):
    rows = [
        {"video_id": 7, "pos_text": "Push", "neg_text": ["Pull", "Push"]},
        {"video_id": 7, "pos_text": "Lift", "neg_text": ["Pull", "Push"]},
        {"video_id": 7, "pos_text": "", "neg_text": ["Pull", "Push"]},
    ]
    built = build_videos(tmp_path, "SmthSmthV2/test.jsonl", rows, "video_cls/SSv2/7")
    (sample,) = samples(built)
    assert len(sample["candidates"]) == 2 and len(sample["positives"]) == 1
    assert built.queries.left_out == {"none of its options is the answer": 1, "a value is empty": 1}


@pytest.mark.parametrize(
    ("file", "row", "video"),
    [
        ("MSR-VTT/msrvtt_test_1k.json", {"video_id": "v", "video": "v.mp4", "caption": "a dog"}, "video_ret/MSR-VTT/v"),
        (
            "MSVD/msvd_test.json",
            {"video_id": "v", "caption": ["a dog", "a cat"]},
            "video_ret/data/ziyan/video_retrieval/MSVD/frames/v",
        ),
        ("DiDeMo/didemo_test.json", {"video": "test/v.mp4", "caption": "a dog"}, "DiDeMo/v"),
        ("vatex.jsonl", {"videoID": "v", "enCap": ["a dog"]}, "video_ret/VATEX/v"),
        ("YouCook2/data/val.jsonl", {"id": "v", "video_path": "x", "sentence": "a dog"}, "video_ret/YouCook2/v"),
    ],
)
def test_captions_search_the_videos_of_all_rows(tmp_path, file, row, video):
    built = build_videos(tmp_path, file, [row], video)
    (sample,) = samples(built)
    assert sample["query"]["text"].endswith(": a dog") and "candidates" not in sample
    document = documents(built)[sample["positives"][0]]
    assert document["text"] == SEEN and document["frames"] == [page("red"), page("blue")]
    assert not (built.manifest.parent / "test_images.arrow").exists()


def test_a_moment_ranks_the_clips_of_its_videos_folder(tmp_path):
    rows = [{"query": "a dog", "video_path": "x/v_1.mp4"}]
    place = "video_mret/QVHighlight/v_1"
    names = [f"{place}/{name}" for name in ("query", "positive_0", "negative_0", "negative_1")]
    built = build_videos(tmp_path, "qvhighlight.jsonl", rows, *names)
    (sample,) = samples(built)
    assert sample["query"]["video"] == ["v_1/query/frame_1.png", "v_1/query/frame_2.png"]
    assert len(sample["candidates"]) == 3 and len(sample["positives"]) == 1


def test_momentseeker_asks_by_text_picture_or_video(tmp_path):
    clips = {
        "positive_frames": [{"output_path": "a/p.mp4"}, {"output_path": "a/p2.mp4"}],
        "negative_frames": [{"output_path": "a/n.mp4"}],
    }
    rows = [{"query": "a dog", "input_frames": asked, **clips} for asked in ("", "cat.jpg", "b/q.mp4")]
    place = "video_mret/MomentSeeker"
    (tmp_path / "frames" / place).mkdir(parents=True)
    (tmp_path / "frames" / place / "query_cat.jpg").write_bytes(page("green"))
    names = [f"{place}/video_frames/{name}" for name in ("a_p", "a_p2", "a_n", "b_q")]
    built = build_videos(tmp_path, "MomentSeeker/test.jsonl", rows, *names)
    text, picture, video = (one["query"] for one in samples(built))
    assert text == {"text": "Find the clip that corresponds to the given text: a dog"}
    assert picture["images"] == ["query_cat.jpg"]
    assert picture["text"] == "<|image_1|> Select the video clip that aligns with the given text and image: a dog"
    assert video["video"][0] == "video_frames/b_q/frame_1.png"
    assert [(len(one["positives"]), len(one["candidates"])) for one in samples(built)] == [(2, 3)] * 3


def test_judgements_become_grades_and_the_higher_of_two_counts(tmp_path):
    judged = [(1, 10, 1), (1, 11, 2), (1, 11, 1), (2, 12, 0), (3, 10, 1)]
    write_pages(
        tmp_path / "tables",
        "esg_reports_v2",
        {10: "red", 11: "green", 12: "blue"},
        {1: "Two?", 2: "None?", 3: ""},
        judged,
    )
    (built,) = build(tmp_path)
    assert built.name == "vidore_esg_reports_v2_multilingual/test"
    assert samples(built) == [{"query": {"text": f"{FIND} Two?"}, "relevance": {"10": 1, "11": 2}}]
    assert built.queries.left_out == {"no document is judged to answer it": 1, "a value is empty": 1}
    found = documents(built)
    assert [found[id]["text"] for id in ("10", "11", "12")] == [PAGE] * 3
    assert found["11"]["image"] == page("green")


def test_visrag_lies_in_the_split_train_and_pages_may_lie_as_files(tmp_path):
    write_pages(tmp_path / "tables", "VisRAG_ChartQA", {"a.png": "red"}, {"q": "Red?"}, [("q", "a.png", 1)], "train")
    (built,) = build(tmp_path)
    assert samples(built)[0]["relevance"] == {"a.png": 1}
    tables = tmp_path / "tables" / "ViDoSeek"
    write_pages(tmp_path / "tables", "ViDoSeek", {"p1": "red"}, {"q": "Red?"}, [("q", "p1", 1)])
    write_parquet(tables, "corpus/test", [{"corpus-id": "p1"}])
    with pytest.raises(ConfigError, match="no column image; the corpus of a document set have corpus-id, image"):
        build(tmp_path)
    (tmp_path / "pages" / "ViDoSeek-doc").mkdir(parents=True)
    with pytest.raises(SampleError, match=r"page 'p1' has no picture in its table \(no p1.png in .*pages\)"):
        build(tmp_path, images=str(tmp_path / "pages"), datasets=["ViDoSeek-doc"])
    (tmp_path / "pages" / "ViDoSeek-doc" / "p1.png").write_bytes(page("blue"))
    (built,) = build(tmp_path, images=str(tmp_path / "pages"), datasets=["ViDoSeek-doc"])
    assert documents(built)["p1"]["image"] == page("blue")
    (tmp_path / "pages" / "ViDoSeek-doc" / "p1.png").write_bytes(page("green") + bytes(9))  # another set of pages
    (built,) = build(tmp_path, images=str(tmp_path / "pages"), datasets=["ViDoSeek-doc"])
    assert not built.skipped and documents(built)["p1"]["image"] == page("green") + bytes(9)


def test_rows_of_query_and_page_are_read_too(tmp_path):
    rows = [("Red?", "red"), ("Red?", "blue"), (None, "green"), ("Blue?", "blue")]
    table = [{"query": text, "image": {"bytes": page(colour), "path": "x"}} for text, colour in rows]
    write_parquet(tmp_path / "tables", "ViDoRe_docvqa/data/test", table)
    (built,) = build(tmp_path)
    colour = {id: row["image"] for id, row in documents(built).items()}
    first, second = samples(built)
    assert len(colour) == 3
    assert {colour[id] for id in first["relevance"]} == {page("red"), page("blue")}
    assert [colour[id] for id in second["relevance"]] == [page("blue")]


def test_a_judged_page_that_the_corpus_lacks_stops_the_build_or_is_counted(tmp_path):
    write_pages(tmp_path / "tables", "ViDoRe_tatdqa", {1: "red"}, {1: "A?", 2: "B?"}, [(1, 1, 1), (2, 5, 1)])
    with pytest.raises(SampleError, match=r"query 1: page '5' answers it, but the corpus does not have it; .*--skip-m"):
        build(tmp_path)
    (built,) = build(tmp_path, skip_missing_images=True)
    assert built.queries.kept == 1
    assert built.queries.left_out == {"frames, picture or document missing or broken": 1}


def test_missing_frames_stop_the_build_or_leave_out_their_rows(tmp_path):
    rows = [{"videoID": name, "enCap": ["a dog"]} for name in ("here", "gone")]
    with pytest.raises(
        SampleError, match=r"vatex/test: no frames of video 'gone' in .*frames and video_ret/VATEX below"
    ):
        build_videos(tmp_path, "vatex.jsonl", rows, "video_ret/VATEX/here")
    (built,) = build(tmp_path, skip_missing_images=True)
    assert (built.queries.kept, built.documents.kept) == (1, 1)
    assert built.queries.left_out == built.documents.left_out == {"frames, picture or document missing or broken": 1}


def test_a_moment_without_clips_stops_the_build_or_is_counted(tmp_path):
    rows = [{"query": "a dog", "video_path": name} for name in ("v.mp4", "w.mp4")]
    names = [
        f"video_mret/Charades_STA/{name}" for name in ("v/query", "v/positive", "v/negative", "w/query", "w/other")
    ]
    with pytest.raises(SampleError, match=r"row 2: of 1 clips none is called positive... of video 'w' in"):
        build_videos(tmp_path, "charades_sta.jsonl", rows, *names)
    (built,) = build(tmp_path, skip_missing_images=True)
    assert len(samples(built)) == 1 and sum(built.queries.left_out.values()) == 1


def test_a_second_build_redoes_only_what_is_missing(tmp_path):
    rows = [{"video_id": "x", "pos_text": "tea"}]
    built = build_videos(tmp_path, "Breakfast/test.jsonl", rows, "video_cls/Breakfast/x")
    images = built.manifest.parent / "test_images.arrow"
    before = images.stat().st_mtime_ns
    (again,) = build(tmp_path)
    assert again.skipped
    built.passages.unlink()
    (third,) = build(tmp_path)
    assert not third.skipped and images.stat().st_mtime_ns == before
    frame = tmp_path / "frames/video_cls/Breakfast/x/frame_1.png"
    frame.write_bytes(frame.read_bytes() + bytes(9))  # another folder of frames
    (fourth,) = build(tmp_path)
    assert not fourth.skipped and images.stat().st_mtime_ns != before
    assert SOURCES["mmeb_v2"].variable([built]) == ("MMRET_MMEB_V2", tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "row", "options", "error", "message"),
    [
        ("UCF101/test.jsonl", {"video_id": "x"}, {}, ConfigError, r"test.jsonl: no column 'pos_text'; it has video_id"),
        ("DiDeMo/didemo_test.json", {"video": "x"}, {}, ConfigError, r"didemo_test.json: row 1 has no caption; DiDeMo"),
        (
            "UCF101/test.jsonl",
            {"video_id": "x", "pos_text": "y"},
            {"frames": None},
            ConfigError,
            "UCF101 needs --frames, the folder of MMEB-V2's video-tasks/frames",
        ),
        (
            "UCF101/test.jsonl",
            {"video_id": "x", "pos_text": "y"},
            {},
            ConfigError,
            "UCF101: of the first 1 rows no video is there; no frames of video 'x' in",
        ),
        (
            "QVHighlight/test.jsonl",
            {"query": "x", "video_path": "y.mp4"},
            {},
            ConfigError,
            "QVHighlight: of the first 1 rows no video is there; test.jsonl row 1: no clips of video 'y' in",
        ),
        (
            "UCF101/test.jsonl",
            {"video_id": "../x", "pos_text": "y"},
            {},
            SampleError,
            "'../x' is no name inside a folder of frames",
        ),
        ("MVBench/json/action_count.json", {}, {}, ConfigError, "no table of episodic_reasoning, action_sequence"),
        (
            "Video-MME/test.jsonl",
            {"videoID": "v", "question": "?", "options": ["A. x"], "answer": 3},
            {},
            SampleError,
            "test.jsonl row 1: not as published for Video-MME",
        ),
        (
            "UCF101/test.jsonl",
            {},
            {"datasets": ["UCF-101"]},
            ConfigError,
            "ucf_101: no video or document set of MMEB-V2",
        ),
        (
            "UCF101/test.jsonl",
            {},
            {"datasets": ["K700"]},
            ConfigError,
            "has no tables of K700; want a folder K700, or VLM",
        ),
        ("Other/test.jsonl", {}, {}, ConfigError, "has no tables of MMEB-V2; want folders named as its sets"),
    ],
)
def test_what_is_not_as_published_is_refused_before_anything_is_written(tmp_path, file, row, options, error, message):
    write_json(tmp_path / "tables", file, [row])
    (tmp_path / "frames").mkdir()
    options = {"frames": str(tmp_path / "frames"), "out": str(tmp_path / "out"), **options}
    with pytest.raises(error, match=message):
        build_mmeb_v2(MMEBV2Config(str(tmp_path / "tables"), **options))
    assert not list(tmp_path.glob("out/*/*"))


def test_tables_in_parts_or_twice_are_refused(tmp_path):
    write_pages(tmp_path / "tables", "ViDoRe_tatdqa", {1: "red"}, {1: "A?"}, [(1, 1, 1)])
    qrels = tmp_path / "tables" / "ViDoRe_tatdqa" / "qrels" / "test-00000-of-00001.parquet"
    qrels.rename(qrels.with_name("test-00000-of-00002.parquet"))
    with pytest.raises(ConfigError, match="qrels/test lacks part 1; download it again"):
        build(tmp_path)
    qrels.with_name("test-00000-of-00002.parquet").unlink()
    with pytest.raises(ConfigError, match=r"ViDoRe_tatdqa: no table qrels \(test\); download it again"):
        build(tmp_path)
    for name in ("a_test.json", "b_test.json"):
        write_json(tmp_path / "tables", f"MSVD/{name}", [{"video_id": "v", "caption": ["x"]}])
    with pytest.raises(ConfigError, match=r"a_test.json, b_test.json: which is the table of test\? Keep one"):
        build(tmp_path, datasets=["MSVD"])


def test_a_json_file_may_hold_a_row_each_line_and_no_other_text(tmp_path):
    table = tmp_path / "tables" / "MSVD" / "msvd_test.json"
    table.parent.mkdir(parents=True)
    table.write_text('{"video_id": "v", "caption": ["x"]}\n{"video_id": "w", "caption": ["y"]}\n')
    for name in ("v", "w"):
        write_frames(tmp_path / "frames", f"MSVD/{name}", "red")
    (built,) = build(tmp_path)
    assert built.queries.kept == 2
    table.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(
        ConfigError, match=r"msvd_test.json: neither JSON nor a line of JSON each row .*download it again"
    ):
        build(tmp_path)


@pytest.mark.parametrize("name", ["limit", "workers", "num_frames"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(ConfigError, match=f"mmeb_v2: {name} must be at least 1, got 0"):
        MMEBV2Config("tables", **{name: 0})
