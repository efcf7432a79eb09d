"""A judge as it is here and now: its settings and price, whether it can be used, and its server's reply to a probe."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from seft_bench.config import OpenAIJudgeConfig, load_judge
from seft_bench.errors import unknown_name
from seft_bench.inference.addresses import shown_url
from seft_bench.inference.prices import NO_SERVER, Price, judge_price
from seft_bench.judges import open_judge, state_of
from seft_bench.judges.probe import KINDS

if TYPE_CHECKING:
    from seft_bench.inference.client import ChatClient

ATTEMPTS = 2
"""A person waits for this probe."""


def judge_row(name: str) -> dict[str, str]:
    """One line of the list of judges."""
    config = load_judge(name)
    model = config.model if isinstance(config, OpenAIJudgeConfig) else "-"
    return {
        "name": name,
        "kind": config.kind,
        "model": model,
        "state": state_of(config),
        "description": config.description,
    }


def judge_settings(name: str) -> dict[str, Any]:
    """A judge's settings, its state and the price that holds, JSON-ready."""
    config = load_judge(name)
    price = judge_price(config) if isinstance(config, OpenAIJudgeConfig) else NO_SERVER
    settings: dict[str, Any] = json.loads(config.model_dump_json())
    settings |= {"base_url": shown_url(config.base_url)} if isinstance(config, OpenAIJudgeConfig) else {}
    return settings | {"state": state_of(config), "price_that_holds": price.as_row()}


def probe_judge(name: str, kind: str | None = None) -> list[dict[str, Any]]:
    """Send one small request a kind ("grade", "preference", "pair"; None: the first two) and say what came back.

    Raises:
        InputError: retired, no key, a refused key, an unknown model, no log-probabilities.
        ServiceUnavailableError: the server cannot be reached, or fails.
    """
    if kind is not None and kind not in KINDS:
        raise unknown_name("kind of judgment", kind, KINDS)
    config = load_judge(name)
    judge = open_judge(config)
    client = judge.client
    if client is not None:
        client.max_attempts = min(ATTEMPTS, client.max_attempts)
    rows = []
    for wanted in [kind] if kind else KINDS[:2]:
        judge.check([wanted])
        said = {"server": None} if client is None else _reply_row(client, judge.price)
        rows.append({"judge": config.name, "kind": wanted} | said)
    return rows


def _reply_row(client: ChatClient, price: Price) -> dict[str, Any]:
    """Return what the last probe's reply shows."""
    reply = client.probes[-1]
    return {
        "server": client.base_url,
        "requested_model": client.model,
        "returned_model": reply.model,
        "key": f"accepted ({client.api_key_env})" if client.api_key_env else "none needed",
        "log_probabilities": None if reply.top_logprobs is None else len(reply.top_logprobs),
        "latency_seconds": round(reply.latency_seconds or 0.0, 3),
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "price_usd": price.usd(reply.prompt_tokens or 0, reply.completion_tokens or 0),
    }


def probe_text(row: dict[str, Any]) -> str:
    """A probe's outcome for people, one line."""
    who = f"{row['judge']} ({row['kind']}): works"
    if row["server"] is None:
        return f"{who}; no server is asked"
    model = f"model {row['returned_model'] or 'not named'}"
    if row["returned_model"] not in ("", row["requested_model"]):
        model += f", asked for {row['requested_model']}"
    logprobs = f", {row['log_probabilities']} log-probabilities" if row["log_probabilities"] else ""
    return f"{who}; key {row['key']}, {model}{logprobs}, {row['latency_seconds']:.3f} s at {row['server']}"
