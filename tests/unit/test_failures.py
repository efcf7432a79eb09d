"""What refusals of real servers mean: their words as public reports have them, abridged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from seft_bench.inference.failures import Settings, context_limit, kind_of, parameter_advice, read_error

SENT = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 2048, "seed": 1, "logprobs": True}


def error(message: str, **more: Any) -> str:
    return json.dumps({"error": {"message": message, **more}})


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (402, error("Insufficient Balance"), "credits"),
        (402, "", "credits"),
        (400, error("Your credit balance is too low to access the API"), "credits"),
        (403, error("account is not active", code="billing_not_active"), "credits"),
        (429, error("You exceeded your current quota", code="insufficient_quota"), "credits"),
        (429, error("You exceeded your current quota. Please retry in 23s", status="RESOURCE_EXHAUSTED"), "throttled"),
        (429, error("Rate limit reached", code="rate_limit_exceeded"), "throttled"),
        (401, error("Incorrect API key provided"), "key"),
        (400, error("API key not valid. Please pass a valid API key.", status="INVALID_ARGUMENT"), "key"),
        (403, error("Forbidden"), "key"),
        (403, "<html><title>Access denied</title></html>", "key"),
        (403, error("Your account was flagged for usage policy reasons"), "key"),
        (403, error("Your chosen model requires moderation and your input was flagged for violence"), "refused"),
        (400, error("The response was filtered", code="content_filter"), "refused"),
        (400, error("Invalid prompt: your prompt was flagged as potentially violating our usage policy"), "refused"),
        (400, error("x", code="data_inspection_failed"), "refused"),
        (400, error("x", code="content_policy_violation"), "refused"),
        (451, "", "refused"),
        (404, error("The model `m` does not exist", code="model_not_found"), "model"),
        (400, error("m is not a valid model ID"), "model"),
        (400, error("x", code="context_length_exceeded"), "over_length"),
        (413, "", "over_length"),
        (400, error("This model's maximum context length is 8192 tokens, you sent 9000"), "over_length"),
        (400, error("This model's maximum context length is 2048 tokens and your request has 9 input"), "no_room"),
        (400, error("Input is too long for requested model."), "over_length"),
        (400, error("litellm.ContextWindowExceededError: input is too long for requested model"), "over_length"),
        (400, error("The input token count (40000) exceeds the maximum number of tokens (32768)."), "over_length"),
        (400, error("Input tokens exceed the configured limit of 272000 tokens"), "over_length"),
        (400, error("Please reduce the length of the messages or completion"), "over_length"),
        (400, error("Unsupported parameter: 'max_tokens' is not supported", param="max_tokens"), "parameter"),
        (400, error("Unsupported value: 'temperature' does not support 0"), "parameter"),
        (400, error("`temperature` and `top_p` cannot both be specified for this model"), "parameter"),
        (
            422,
            json.dumps({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}),
            "parameter",
        ),
        (403, error("You are not allowed to request logprobs from this model"), "parameter"),
        (400, error("Unrecognized request argument supplied: max_completion_tokens"), "request"),  # nobody sent it
        (400, error("this account is asleep"), "request"),
        (409, "", "request"),
        (500, error("insufficient_quota"), "server"),
        (529, "", "server"),
        (408, "", "server"),
    ],
)
def test_kinds(status: int, text: str, kind: str) -> None:
    assert kind_of(status, read_error(text), SENT) == kind


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (error("No."), "No"),
        ("", ""),
        ('{"detail": "Not Found"}', "Not Found"),
        ('{"object": "error", "message": "no", "code": 400}', "no"),
        (json.dumps({"error": "just words"}), "just words"),
        ("<html><style>p{}</style><p>Bad\n\n  <b>gateway</b></p>", "Bad gateway"),
        (error("up", metadata={"raw": error("the provider's words")}), "up: the provider's words"),
        (error("\x1b[31mred\x1b[0m \u202e"), "\ufffd[31mred\ufffd[0m \ufffd"),
        ("[" * 100_000, "[" * 400 + "..."),
        (error("a" * 5000), "a" * 400 + "..."),
        ('{"error": {"message": ["odd", 1]}}', "odd: 1"),
        ('{"detail": [1, {"loc": 5}]}', "1: : None (None)"),
    ],
)
def test_words(text: str, words: str) -> None:
    assert read_error(text).words == words


def test_secrets_are_masked_in_decoded_words() -> None:
    text = json.dumps({"error": {"message": "no: hidden\u200bhidden", "code": "hidden"}})
    found = read_error(text, lambda string: string.replace("\u200b", "").replace("hidden", "[key]"))
    assert (found.words, found.codes) == ("no: [key][key]", "[key]")


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        ("'max_tokens' is not supported. Use 'max_completion_tokens'", "`max_tokens_parameter: max_completion_tokens`"),
        ("'temperature' does not support 0", "`send_temperature: false`"),
        ("`temperature` and `top_p` cannot both be specified", "`send_top_p: false`"),
        ("unknown field: seed", "`send_seed: false`"),
        ("unknown field: logprobs", "Change `logprobs`"),
        ("something else", ""),
    ],
)
def test_advice_fits_what_was_sent(words: str, setting: str) -> None:
    assert setting in parameter_advice(words, SENT, Settings())
    assert bool(parameter_advice(words, SENT, Settings())) == bool(setting)
    assert "max_tokens_parameter: max_tokens`" in parameter_advice(
        "unknown: max_completion_tokens", {"max_completion_tokens": 5}, Settings()
    )


def test_limits_in_words() -> None:
    assert context_limit("maximum context length is 4096 tokens") == 4096
    assert context_limit("exceeds the context size (2048 tokens)") == 2048
    assert context_limit("too long") is None
