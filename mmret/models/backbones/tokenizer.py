"""Text to token ids, from the files that published checkpoints bring: `tokenizer.json`, or `vocab.txt` for WordPiece.

Built on the `tokenizers` library directly: what is in the files decides, whatever the version of transformers.
"""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from mmret.errors import CheckpointError, ConfigError

SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
"""BERT's names; a tokenizer's own files override them."""

WORDS = (
    "about and answer are at black blue brown by capital city colour country describe document documents find flag for "
    "from green has how image in is it language map name of on orange people picture pink question red show square "
    "star stripe that the this to town used what where which white who with yellow"
)
TINY_VOCABULARY: list[str] = [
    "[PAD]",
    *(f"[unused{i}]" for i in range(99)),
    *("[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *string.punctuation,
    *string.digits,
    *string.ascii_lowercase,
    *(f"##{c}" for c in string.digits + string.ascii_lowercase),
    *WORDS.split(),
]
"""WordPiece vocabulary for tests, special ids where BERT has them; any ASCII text splits into words and letters."""


class TextTokenizer:
    """Token ids of texts, and ids of named tokens. Pickles into data workers."""

    def __init__(self, backend: Tokenizer, special: dict[str, str] | None = None) -> None:
        backend.no_padding()
        backend.no_truncation()
        self.backend = backend
        self.special = {**SPECIAL, **(special or {})}

    @classmethod
    def wordpiece(
        cls, vocabulary: Sequence[str], settings: dict[str, Any] | None = None, added: dict[str, int] | None = None
    ) -> TextTokenizer:
        """BERT's tokenizer over a list of tokens.

        Args:
            vocabulary: token of each id.
            settings: do_lower_case (default true), strip_accents, tokenize_chinese_chars.
            added: further special tokens; their ids must follow the vocabulary's.
        """
        settings = settings or {}
        if len(set(vocabulary)) != len(vocabulary):
            raise CheckpointError("the vocabulary lists a token twice")
        model = WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]")
        backend = Tokenizer(model)
        backend.normalizer = BertNormalizer(
            lowercase=settings.get("do_lower_case", True),
            strip_accents=settings.get("strip_accents"),
            handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        )
        backend.pre_tokenizer = BertPreTokenizer()
        backend.decoder = WordPieceDecoder()
        known = [token for token in SPECIAL.values() if token in vocabulary]
        backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in known])
        for token, number in sorted((added or {}).items(), key=lambda item: item[1]):
            backend.add_special_tokens([AddedToken(token, special=True, normalized=False)])
            if backend.token_to_id(token) != number:
                raise CheckpointError(f"added token {token} has id {number}, which does not follow the vocabulary")
        return cls(backend)

    @classmethod
    def tiny(cls) -> TextTokenizer:
        """The built-in vocabulary."""
        return cls.wordpiece(TINY_VOCABULARY)

    @classmethod
    def from_folder(cls, folder: str | Path) -> TextTokenizer:
        """The tokenizer in a checkpoint's folder.

        Raises:
            ConfigError: the folder holds no tokenizer that we read.
        """
        folder = Path(folder)
        settings = _json(folder / "tokenizer_config.json")
        special = {**_special(settings), **_special(_json(folder / "special_tokens_map.json"))}
        if (folder / "tokenizer.json").is_file():
            return cls(Tokenizer.from_file(str(folder / "tokenizer.json")), special)
        if not (folder / "vocab.txt").is_file():
            raise ConfigError(f"{folder} holds no tokenizer: neither tokenizer.json nor vocab.txt")
        # Not splitlines: a token may be a character that Unicode counts as a line's end.
        vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
        added = {**_decoder_tokens(settings, len(vocabulary)), **_json(folder / "added_tokens.json")}
        tokenizer = cls.wordpiece(vocabulary, settings, {t: i for t, i in added.items() if i >= len(vocabulary)})
        tokenizer.special.update(special)
        return tokenizer

    def begin_with(self, token: str) -> None:
        """Put a token before every text from now on; `ids` still leaves it out."""
        self.backend.post_processor = TemplateProcessing(
            single=f"{token} $A", special_tokens=[(token, self.backend.token_to_id(token))]
        )

    def __len__(self) -> int:
        return self.backend.get_vocab_size(with_added_tokens=True)

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens, uncut."""
        return [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def id_of(self, token: str) -> int | None:
        """Id of a token of the vocabulary; None if it has no such token."""
        return self.backend.token_to_id(token)

    def special_id(self, name: str) -> int:
        """Id of the pad, unk, cls, sep or mask token.

        Raises:
            ConfigError: this tokenizer has none.
        """
        number = self.id_of(self.special[name])
        if number is None:
            raise ConfigError(f"the tokenizer has no {name} token ({self.special[name]} is not in its vocabulary)")
        return number

    def save(self, folder: str | Path, **settings: Any) -> None:
        """Write `tokenizer.json`, special tokens' names and, for WordPiece, `vocab.txt`; `from_folder` opens it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(folder / "tokenizer.json"))
        names = {f"{name}_token": token for name, token in self.special.items() if self.id_of(token) is not None}
        (folder / "special_tokens_map.json").write_text(json.dumps(names, indent=1))
        normalizer = json.loads(self.backend.to_str()).get("normalizer") or {}
        if normalizer.get("type") == "BertNormalizer":
            settings = {
                "do_lower_case": normalizer["lowercase"],
                "strip_accents": normalizer["strip_accents"],
                "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
                **settings,
            }
        (folder / "tokenizer_config.json").write_text(json.dumps({**names, **settings}, indent=1))
        if isinstance(self.backend.model, WordPiece):
            size = self.backend.get_vocab_size(with_added_tokens=False)
            tokens = [self.backend.id_to_token(i) or "" for i in range(size)]
            (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
            added = {token: i for token, i in self.backend.get_vocab(with_added_tokens=True).items() if i >= size}
            if added:
                (folder / "added_tokens.json").write_text(json.dumps(added, indent=1))


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _special(settings: dict[str, Any]) -> dict[str, str]:
    """Special tokens by our short names; encoders outside BERT's family call cls and sep bos and eos."""
    found = {}
    for ours, theirs in {"cls": "bos", "sep": "eos", "pad": "", "unk": "", "mask": ""}.items():
        for name in (theirs, ours):
            token = settings.get(f"{name}_token")
            token = token.get("content") if isinstance(token, dict) else token
            if token:
                found[ours] = token
    return found


def _decoder_tokens(settings: dict[str, Any], size: int) -> dict[str, int]:
    entries = settings.get("added_tokens_decoder", {})
    return {entry["content"]: int(i) for i, entry in entries.items() if int(i) >= size}
