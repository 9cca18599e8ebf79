"""What options name in files, put in the options' own place."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from schemas.converter import structure
from schemas.diffusion.dataloader import read_entries
from schemas.diffusion.files import FileProblem, entries_at, read_json
from schemas.diffusion.lycoris import LycorisFile
from schemas.diffusion.spelling import UNSET, is_json
from schemas.strict_json import JSONProblem, parse_json
from schemas.values import FieldError

_Errors = tuple[FieldError, ...]


def _of_entries(content: object, at: str) -> _Errors:
    return read_entries(content, at, hidden=True).errors


def _of_adapter(content: object, at: str) -> _Errors:
    return structure(content, LycorisFile, hidden=True, prefix=at).errors


#: Options that take an object or a list, as itself, as text or as the path of a file with it; how each is checked.
FILES: Final[Mapping[str, Callable[[object, str], _Errors]]] = {
    "data_backend_config": _of_entries,
    "lycoris_config": _of_adapter,
}

#: Where SimpleTuner looks for an adapter's file that nobody wrote: many configurations say so.
_USUAL_ADAPTER: Final = ("config", "lycoris_config.json")


def put_in(options: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], list[FieldError]]:
    """The options with what is in the files that they name, and all that is wrong with those; `prefix`: their path.

    A file that can't be taken leaves its path where it is; the usual path of an adapter's file that nobody wrote is
    left out. Messages never name a value of a file, only its kind: the service may read more than the caller.
    """
    found, errors = dict(options), []
    for name, errors_of in FILES.items():
        text, at = options.get(name), f"{prefix}.{name}"
        if not isinstance(text, str) or text in UNSET:
            continue
        try:
            content = _content(name, text)
        except FileProblem as e:
            if name == "lycoris_config" and _is_unwritten(text, e):
                del found[name]  # the usual adapter, then
            else:
                errors.append(FieldError(at, str(e)))
            continue
        wrong = errors_of(content, at)
        errors += wrong
        if not wrong:
            found[name] = content
    return found, errors


def _content(name: str, text: str) -> object:
    if is_json(text):
        try:
            return parse_json(text.encode("utf-8", "surrogatepass"))
        except JSONProblem as e:
            raise FileProblem(f"holds text that can't be read, {e}") from e
    path = Path(text)
    content = read_json(path)
    return entries_at(content, path.absolute().parent) if name == "data_backend_config" else content


def _is_unwritten(text: str, problem: FileProblem) -> bool:
    """Whether a path is the one that stands in configurations whether or not there is such a file."""
    return Path(text).parts[-2:] == _USUAL_ADAPTER and isinstance(problem.__cause__, FileNotFoundError)
