"""Hiding secrets in JSON whose shape nobody has declared: by the look of a key's name, and inside every URL."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from schemas.uri import mask_urls
from schemas.values import MASK

_LOOKS: Final = ("token", "secret", "passw", "key", "auth")

#: Names that look secret and are known not to be: of tokenizers, of peft's configurations, of ordinary words.
OPEN_NAMES: Final = frozenset((
    "additional_special_tokens", "author", "authors", "bos_token", "bos_token_id", "eos_token",
    "eos_token_id", "keyframes", "mask_token", "max_new_tokens", "max_tokens",
    "min_tokens", "num_virtual_tokens", "pad_token", "pad_token_id", "special_tokens",
    "token_dim", "token_type", "tokenizer", "tokenizer_id", "tokenizer_kwargs", "tokenizer_max_length",
    "tokenizer_mode", "tokenizer_name", "tokenizer_name_or_path", "tokenizer_path", "tokens_per_batch",
    "tokens_per_second",
    "trainable_token_indices", "unk_token",
))  # fmt: skip

Path = tuple[str | int, ...]
Keep = Callable[[Path, str], None]


def looks_secret(name: str) -> bool:
    """Would a person give a secret under this name?

    >>> looks_secret("hf_Token"), looks_secret("tokenizer_name")
    (True, False)
    """
    folded = name.lower()
    return any(look in folded for look in _LOOKS) and folded not in OPEN_NAMES


def mask_free(value: Any, path: Path, keep: Keep, *, secret: bool = False) -> Any:
    """A masked copy of undeclared JSON; `keep` is handed each secret's path and text.

    Under a key that looks secret every number, and every string that is not empty, is one, however deep it lies.
    """
    if isinstance(value, dict):
        return {
            key: mask_free(item, (*path, key), keep, secret=secret or looks_secret(str(key)))
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [mask_free(item, (*path, n), keep, secret=secret) for n, item in enumerate(value)]
    if secret and not isinstance(value, bool) and value not in (None, ""):
        return mask_leaf(value, path, keep)
    return mask_text(value, path, keep)


def mask_leaf(value: Any, path: Path, keep: Keep) -> str:
    """The mask, after the value was kept."""
    if value != MASK:
        keep(path, value if isinstance(value, str) else str(value))
    return MASK


def mask_text(value: Any, path: Path, keep: Keep) -> Any:
    """The value with the secret parts of its URLs hidden; kept whole where there were any."""
    if not isinstance(value, str) or "://" not in value:
        return value
    masked = mask_urls(value)
    if masked != value:
        keep(path, value)
    return masked


def shown_free(value: Any) -> Any:
    """A masked copy of undeclared JSON, for showing."""
    return mask_free(value, (), _drop)


def shown_url(text: str | None) -> str:
    """The `repr` of a field that holds a URL."""
    return repr(text if text is None else mask_urls(text))


def shown_mapping(value: Mapping[str, Any] | None) -> str:
    """The `repr` of a field that holds undeclared JSON."""
    return repr(value if value is None else shown_free(dict(value)))


def shown_labels(labels: Mapping[str, str]) -> str:
    """The `repr` of strings by name that people chose: only URLs in them are looked at."""
    return repr({name: mask_urls(text) for name, text in labels.items()})


def _drop(_path: Path, _text: str) -> None:
    """Nothing is kept of what is only shown."""
