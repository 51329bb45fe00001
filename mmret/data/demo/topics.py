"""The 18 things the demo asks about a country: where the Factbook says them, and three wordings of each question."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """One kind of fact."""

    name: str
    label: str
    """Opens the passage, after the country's name."""
    section: str
    """Section of the Factbook page."""
    field: str
    wordings: tuple[str, str]
    """Questions that training uses; {c} is "this country", or the country's name in the text-only stage."""
    paraphrase: str
    """A third wording that only the paraphrase split uses."""


# What stands for {c} in wording 0, wording 1 and the paraphrase of a question with a picture.
PLACES = ("this country", "the country with this flag", "the place that flies this flag")

_PEOPLE = "People and Society"
TOPICS = (
    Topic(
        "background", "Background", "Introduction", "Background",
        ("What is the history of {c}?", "How did {c} come to be what it is today?"),
        "Tell me about the past of {c} in a few lines.",
    ),
    Topic(
        "geography", "Location", "Geography", "Location",
        ("Where is {c} located?", "In which part of the world does {c} lie?"),
        "On which continent would I find {c}, and next to what?",
    ),
    Topic(
        "climate", "Climate", "Geography", "Climate",
        ("What is the climate of {c}?", "What weather is usual in {c}?"),
        "Is it hot or cold, dry or rainy in {c}?",
    ),
    Topic(
        "resources", "Natural resources", "Geography", "Natural resources",
        ("What natural resources does {c} have?", "Which minerals and raw materials are found in {c}?"),
        "What can be mined, drilled or cut down in {c}?",
    ),
    Topic(
        "people", "Ethnic groups", _PEOPLE, "Ethnic groups",
        ("Which ethnic groups live in {c}?", "What is the ethnic makeup of the population of {c}?"),
        "From which peoples do the inhabitants of {c} descend?",
    ),
    Topic(
        "languages", "Languages", _PEOPLE, "Languages",
        ("Which languages are spoken in {c}?", "What is the official language of {c}?"),
        "In what tongue would people talk to me in {c}?",
    ),
    Topic(
        "religions", "Religions", _PEOPLE, "Religions",
        ("Which religions are practised in {c}?", "What is the main religion of {c}?"),
        "What faith do believers follow in {c}?",
    ),
    Topic(
        "capital", "Capital", "Government", "Capital",
        ("What is the capital of {c}?", "Which city is the capital of {c}?"),
        "Name the seat of government of {c}.",
    ),
    Topic(
        "government", "Government", "Government", "Government type",
        ("What form of government does {c} have?", "How is {c} governed?"),
        "Is {c} a republic, a monarchy or something else?",
    ),
    Topic(
        "independence", "Independence", "Government", "Independence",
        ("When did {c} become independent?", "What is the date of independence of {c}?"),
        "Since when has {c} been a state of its own?",
    ),
    Topic(
        "anthem", "National anthem", "Government", "National anthem",
        ("What is the national anthem of {c}?", "What is the title of the anthem of {c}?"),
        "Which song is sung at official ceremonies of {c}?",
    ),
    Topic(
        "symbols", "National symbols", "Government", "National symbol(s)",
        ("What are the national symbols of {c}?", "Which animal, plant or emblem is a symbol of {c}?"),
        "What stands for {c} besides its flag?",
    ),
    Topic(
        "economy", "Economy", "Economy", "Economy - overview",
        ("How is the economy of {c} doing?", "What does the economy of {c} depend on?"),
        "How rich or poor is {c}, and what does it live on?",
    ),
    Topic(
        "agriculture", "Agriculture", "Economy", "Agriculture - products",
        ("What does the agriculture of {c} produce?", "Which crops and animals are raised in {c}?"),
        "What do farmers grow in {c}?",
    ),
    Topic(
        "industries", "Industries", "Economy", "Industries",
        ("What are the main industries of {c}?", "Which industries does {c} have?"),
        "What do factories make in {c}?",
    ),
    Topic(
        "exports", "Exports", "Economy", "Exports - commodities",
        ("What does {c} export?", "Which goods does {c} sell abroad?"),
        "What leaves the ports of {c} for foreign buyers?",
    ),
    Topic(
        "currency", "Currency", "Economy", "Exchange rates",
        ("What is the currency of {c}?", "Which money is used in {c}?"),
        "With what do I pay in the shops of {c}?",
    ),
    Topic(
        "flag", "Flag", "Government", "Flag description",
        ("What does the flag of {c} look like?", "How is the flag of {c} described?"),
        "Describe the banner of {c} and what its colors mean.",
    ),
)  # fmt: skip
BY_NAME = {topic.name: topic for topic in TOPICS}
