"""What of the service's own environment a program that it starts may see."""

import re
from collections.abc import Mapping

_KEPT = re.compile(
    r"HOME|PATH|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|USER|LOGNAME|SHELL|VIRTUAL_ENV|PYTHONPATH|LD_LIBRARY_PATH|XDG_\w+"
    r"|(HF|HUGGINGFACE|TRANSFORMERS|CUDA|NVIDIA|NCCL|TORCH|PYTORCH|MKL|SSL_CERT|AWS|AZURE|GOOGLE)_\w+"
    r"|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(http|https|ftp|all|no)_proxy|(HTTP|HTTPS|FTP|ALL|NO)_PROXY"
)
#: Of the clouds' variables those that are a secret themselves, and do not only name a file, a role or a place.
_SECRET = re.compile(r"(AWS|AZURE|GOOGLE)_(\w+_)?(KEY|KEY_ID|SECRET|TOKEN|PASSWORD|CREDENTIALS|SAS)(_\w*(KEY|TOKEN))?")
_FILES = ("GOOGLE_APPLICATION_CREDENTIALS",)


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's, the libraries', the clouds' and the proxies' variables; of the clouds' no secrets."""
    return {k: v for k, v in environ.items() if _may_be_seen(k)} | {"PYTHONUNBUFFERED": "1"}


def _may_be_seen(name: str) -> bool:
    return _KEPT.fullmatch(name) is not None and (name in _FILES or _SECRET.fullmatch(name) is None)
