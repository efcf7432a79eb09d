"""A fingerprint of the weights that a local server serves, as far as it can be told from outside.

One server serves many checkpoints over time under one name, so its stored responses need more in their key than the
name. Measured, and hashed together:

    GET /models       the model's entry, and the checkpoint folder that it names in `root` if that lies on this machine
    GET /version      the engine's version (vLLM)
    a fixed prompt    greedily, the likeliest tokens of the first positions; without log-probabilities a longer text

The last one tells weights apart that were loaded in place under one name and root. A hash knows no tolerance, so
log-probabilities are rounded to one decimal: two checkpoints that agree so far on all these figures count as the same,
and a server whose figures waver more than that has its responses asked for again, never mixed up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seft_bench.errors import ServiceUnavailableError
from seft_bench.files import sha256_folder_once, sha256_json
from seft_bench.inference.client import ChatCall, ChatClient
from seft_bench.inference.replies import KEPT, Reply
from seft_bench.inference.responses import ParameterRefusedError
from seft_bench.records import Message

FIXED_PROMPT: tuple[Message, ...] = (
    {"role": "user", "content": "Write a short story about whatever comes to your mind first."},
)
TOKENS, TOP_LOGPROBS, DECIMALS = 4, 5, 1
TEXT_TOKENS = 64

Adapt = Callable[[Mapping[str, Any]], dict[str, Any]]


def fingerprint_local_weights(client: ChatClient, adapt: Adapt = dict) -> str:
    """Measure a keyless server's weights into `client.weights_fingerprint`, which enters every key of the store.

    A server with a key is a provider's, and a fingerprint that was given is kept. Measured anew at each call, as the
    weights may have changed since; it costs two tiny replies and, the first time, reading a local folder.

    Args:
        adapt: makes the sampling parameters what this server takes.

    Returns:
        A note where the server refuses the fixed prompt, so that only what it says of itself tells weights apart; else
            "".

    Raises:
        ServiceUnavailableError: the server does not answer: without its fingerprint nothing stored could be told apart.
    """
    if client.api_key_env is not None or client.weights_fingerprint != client.measured_fingerprint:
        return ""
    behaviour, refusal = measure_behaviour(client, adapt)
    measured = sha256_json([model_identity(client), engine_version(client), behaviour])[:16]
    client.weights_fingerprint = client.measured_fingerprint = measured
    if not refusal:
        return ""
    return (
        f"{client.base_url} refuses the prompt that tells its weights apart ({refusal[:120]}): stored replies are told "
        "apart by what it says of itself only"
    )


def measure_behaviour(client: ChatClient, adapt: Adapt = dict) -> tuple[Any, str]:
    """Return the server's reply to the fixed prompt, and why it could not be asked ("" if it could)."""
    greedy = {"temperature": 0.0, "max_tokens": TOKENS, "logprobs": True, "top_logprobs": TOP_LOGPROBS}
    if rounded_logprobs(_body_with_logprobs(client, adapt(greedy))):
        # The second reply counts: the first filled the server's prefix cache, whose state can change the last digits.
        return rounded_logprobs(_ask(client, adapt(greedy)).body), ""
    reply = _ask(client, adapt({"temperature": 0.0, "max_tokens": TEXT_TOKENS}))
    return (_words(reply.body), "") if reply.status in KEPT else (None, reply.text)


def _body_with_logprobs(client: ChatClient, sampling: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the body of a reply, {} where the server gives no log-probabilities."""
    try:
        return _ask(client, sampling).body
    except ParameterRefusedError as error:
        if not {"logprobs", "top_logprobs"} & set(error.names):
            raise
        return {}


def _ask(client: ChatClient, sampling: Mapping[str, Any]) -> Reply:
    reply = client.probe(ChatCall(FIXED_PROMPT, sampling))
    if reply.attempts_failed:
        raise ServiceUnavailableError(
            f"{client.base_url} does not say which weights it serves ({reply.text}). Run the same command again later."
        )
    return reply


def rounded_logprobs(body: Mapping[str, Any]) -> list[list[Any]]:
    """Return the likeliest tokens of each position with their rounded log-probabilities, by token; [] if none.

    >>> content = [{"token": "a", "top_logprobs": [{"token": "a", "logprob": -0.04}]}]
    >>> rounded_logprobs({"choices": [{"logprobs": {"content": content}}]})
    [['a', [('a', 0.0)]]]
    """
    try:
        positions = body["choices"][0]["logprobs"]["content"]
        return [
            [item["token"], sorted((str(top["token"]), _rounded(top["logprob"])) for top in item["top_logprobs"])]
            for item in positions
        ]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return []


def _rounded(logprob: Any) -> float:
    return round(float(logprob), DECIMALS) + 0.0  # -0.0 + 0.0 is 0.0: the two would hash apart


def _words(body: Mapping[str, Any]) -> list[str]:
    """Return all that the model wrote, reasoning included, whatever the server calls it."""
    message = body["choices"][0].get("message") or {}
    return [str(message.get(name) or "") for name in ("content", "reasoning_content", "reasoning")]


def model_identity(client: ChatClient) -> list[Any]:
    """Return the model's entry of `GET /models`, and the hash of the checkpoint folder that it names.

    The hash is "" for a folder that is not on this machine.

    `created` and `permission` change with every listing of vLLM, so they are left out.
    """
    listed = client.get_json(client.address.url("/models"))
    entries = listed.get("data") if listed else None
    known = [item for item in entries if isinstance(item, dict)] if isinstance(entries, list) else []
    entry = next((item for item in known if item.get("id") == client.model), {})
    stable = {key: value for key, value in entry.items() if key not in ("created", "permission")}
    return [stable, _hash_of_folder(str(stable.get("root") or "."))]


def _hash_of_folder(name: str) -> str:
    root = Path(name)
    try:
        return sha256_folder_once(root) if root.is_absolute() and root.is_dir() else ""
    except (OSError, ValueError):  # no name of a folder here
        return ""


def engine_version(client: ChatClient) -> str:
    """Return the version that `GET /version` beside the API gives (vLLM), "" if there is no such thing."""
    said = client.get_json(client.address.beside("/version"))
    return str(said.get("version") or "") if said else ""
