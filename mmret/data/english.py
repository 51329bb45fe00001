"""English words that say how things look, where they are and what they do: for captions, without a parser."""

from __future__ import annotations


def english_words(text: str) -> frozenset[str]:
    """The words of a text, between white space."""
    return frozenset(text.split())


COLOURS = (
    "red", "green", "blue", "yellow", "orange", "purple", "pink", "brown", "black", "white", "grey", "gray", "beige",
    "turquoise", "golden", "silver",
)  # fmt: skip
OPPOSITES = (
    ("big", "small"), ("large", "tiny"), ("tall", "short"), ("long", "brief"), ("wide", "narrow"), ("thick", "thin"),
    ("heavy", "light"), ("old", "young"), ("new", "ancient"), ("hot", "cold"), ("warm", "cool"), ("open", "closed"),
    ("full", "empty"), ("wet", "dry"), ("clean", "dirty"), ("bright", "dark"), ("happy", "sad"), ("fast", "slow"),
    ("high", "low"), ("round", "square"), ("male", "female"),
)  # fmt: skip
"""Words for sizes and states, each with the one that takes its place."""
RELATION_PAIRS = (
    ("above", "below"), ("over", "under"), ("left", "right"), ("inside", "outside"), ("in front of", "behind"),
    ("on top of", "underneath"), ("on", "under"), ("near", "far from"), ("before", "after"), ("into", "out of"),
    ("up", "down"), ("with", "without"),
)  # fmt: skip
"""Words for where and with what, each with the one that takes its place."""
COMPARATIVES = (
    ("more", "less"), ("bigger", "smaller"), ("larger", "tinier"), ("taller", "shorter"), ("longer", "briefer"),
    ("older", "younger"), ("higher", "lower"), ("faster", "slower"), ("most", "least"), ("biggest", "smallest"),
    ("largest", "tiniest"), ("tallest", "shortest"), ("oldest", "youngest"), ("highest", "lowest"),
)  # fmt: skip
PREPOSITIONS = english_words("""
    above across after against along alongside amid among around at atop before behind below beneath beside between
    beyond bottom by down during from front in inside into left near next of off on onto opposite out outside over
    past right through top toward towards under underneath up upon with within without
""")
"""Words that put one thing in relation to another."""
NO_ACTIONS = english_words("""
    anything beijing building ceiling clothing during earring evening everything king lightning lining morning nothing
    offspring pudding ring sibling something spring sterling string thing viking wedding wing
""")
"""End in -ing, and are no actions."""
ACTIONS = english_words("""
    ate bake bakes bite bites carries carry catch catches chase chases climb climbs cook cooks cries cry cut cuts
    dance dances dig digs dive dives draw draws drink drinks drive drives eat eats fall falls fight fights fill fills
    fix fixes flies fly follow follows give gives grab grabs hang hangs held hit hits hold holds hug hugs hunt hunts
    jump jumps kick kicks kiss kisses laugh laughs lay lays lean leans leap leaps lick licks lie lies lift lifts
    listen listens look looks move moves open opens paint paints perform performs pick picks play plays point points
    pour pours pull pulls push pushes ran reach reaches read reads rest rests ride rides roll rolls run runs sail
    sails sang sat serve serves shake shakes shoot shoots sing sings sit sits skate skates sleep sleeps slide slides
    smile smiles speak speaks spin spins stand stands stood stretch stretches surf surfs swim swims swing swings take
    takes talk talks teach teaches throw throws touch touches travel travels turn turns wait waits walk walks wash
    washes watch watches wave waves wear wears wore work works write writes
""")
"""Verbs that a picture can show, as they stand in captions."""


def is_action(word: str) -> bool:
    """Whether a word in small letters says that something is done: a known verb, or one in -ing."""
    return word in ACTIONS or (len(word) > 5 and word.endswith("ing") and word not in NO_ACTIONS)
