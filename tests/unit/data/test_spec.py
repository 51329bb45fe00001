import pytest

from mmret.data import DataSpec, find_spec
from mmret.errors import ConfigError
from tests.builders import build_toy_source


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with specs of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("toy/shapes", "toy/colours", "benchmarks/toy/shapes", "curations/toy/shapes"):
        path = tmp_path / "data_specs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"name: {name}\nshards: train.manifest.json\n")
    return tmp_path


def test_a_spec_is_found_by_name_here_first_and_by_path(here):
    assert find_spec("toy/shapes") == here / "data_specs/toy/shapes.yaml"
    assert find_spec("benchmarks/toy/shapes") == here / "data_specs/benchmarks/toy/shapes.yaml"
    assert find_spec("data_specs/toy/shapes.yaml").resolve() == here / "data_specs/toy/shapes.yaml"


def test_an_unknown_name_gets_the_nearest_of_its_kind(here):
    with pytest.raises(ConfigError, match=r"no data spec 'toy/shape'; known: .*Did you mean toy/shapes\?") as caught:
        find_spec("toy/shape")
    assert str(here) in str(caught.value) and "benchmarks/" not in str(caught.value)
    assert "curations/" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"Did you mean benchmarks/toy/shapes\?"):
        find_spec("benchmarks/toy/shap")
    with pytest.raises(ConfigError, match=r"x\.yaml: no such data spec file"):
        find_spec("x.yaml")


@pytest.mark.parametrize(
    "text, words",
    [
        ("name: a\nshards: b\nshard: c\n", ["shard", "fields of a data spec: name, shards"]),
        ("name: a\n", ["shards"]),
        ("name: a\nshards: b\nrequired: query.text\n", ["required"]),
        (
            "name: a\nshards: b\nrequired: [query.image]\n",
            ["'query.image'", "Did you mean query.images?"],
        ),
        ("name: a\nshards: b\ninstructions: [{a: 2}]\n", ["instructions: {'a': 2} is no text"]),
        ("name: a\nshards: b\nfile: c\n", ["'file'"]),
        ("name: [\n", ["x.yaml"]),
        ("- a\n", ["x.yaml"]),
    ],
)
def test_a_wrong_spec_says_file_field_and_what_is_known(tmp_path, text, words):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        DataSpec.load(path)
    for word in ["x.yaml", *words]:
        assert word in str(caught.value)


def test_paths_are_relative_to_the_spec(tmp_path, monkeypatch):
    spec = build_toy_source(tmp_path / "a", num=4)
    monkeypatch.chdir(tmp_path)
    source = DataSpec.load("a/toy.yaml").open()
    assert len(source) == 4 and source.documents is not None and len(source.documents) == 32
    assert DataSpec.load(spec).resolve("x.arrow") == tmp_path / "a" / "x.arrow"


def test_a_missing_table_is_named_at_opening(tmp_path):
    spec = build_toy_source(tmp_path, num=4)
    (tmp_path / "passages.arrow").unlink()
    with pytest.raises(ConfigError, match=r"passages\.arrow: no such table"):
        DataSpec.load(spec).open()


def test_where_the_manifest_is_missing_the_spec_s_own_words_say_how_it_is_made(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("# A, packed elsewhere.\n#   mmret data curate a\nname: a  # b\nshards: a.json\n# c\n")
    with pytest.raises(ConfigError, match=r"a\.json: no such manifest; .*a\.yaml says: A, packed .* curate a$"):
        DataSpec.load(path).open()
    path.write_text("name: a\nshards: a.json\n")
    with pytest.raises(ConfigError, match=r"a\.json: no such manifest; shards are packed with"):
        DataSpec.load(path).open()
