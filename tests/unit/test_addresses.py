"""Base URLs taken apart, and keys cut out of texts."""

from __future__ import annotations

import time
from base64 import b64encode

import pytest

from seft_bench.errors import InputError
from seft_bench.inference.addresses import address_of, shown_url
from seft_bench.inference.secrets import Secrets
from seft_bench.inference.transport import Credentials


@pytest.mark.parametrize(
    ("base_url", "shown", "chat"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://host/v1/", "http://host/v1", "http://host/v1/chat/completions"),
        ("https://host", "https://host", "https://host/chat/completions"),
        ("http://host/v1/chat/completions", "http://host/v1", "http://host/v1/chat/completions"),
        (
            "https://x.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
            "https://x.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
            "https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
        ),
        ("http://me:pw%40long@host:1/v1", "http://host:1/v1", "http://host:1/v1/chat/completions"),
        ("http://h/v1?key=s3cret&a=b", "http://h/v1?key=[key]&a=b", "http://h/v1/chat/completions?key=s3cret&a=b"),
        ("http://[::1]:80/v1", "http://[::1]:80/v1", "http://[::1]:80/v1/chat/completions"),
    ],
)
def test_a_base_url_is_a_url(base_url: str, shown: str, chat: str) -> None:
    address = address_of(base_url)
    assert (address.shown, address.url("/chat/completions")) == (shown, chat)


def test_the_address_beside_the_api_keeps_the_query() -> None:
    assert address_of("http://h/v1?a=b").beside("/version") == "http://h/version?a=b"
    assert address_of("http://h/v1", {"api-version": "7"}).url("/models") == "http://h/v1/models?api-version=7"


@pytest.mark.parametrize(
    "wrong", ["", "host/v1", "ftp://host", "http://", "http://host:port", "http://a b/", "//host", "http://a..b"]
)
def test_what_is_no_address_is_said(wrong: str) -> None:
    with pytest.raises(InputError, match="not an address"):
        address_of(wrong)


def test_a_wrong_address_does_not_show_its_password() -> None:
    with pytest.raises(InputError) as caught:
        address_of("htp://me:hunter2@host/v1")
    assert "hunter2" not in str(caught.value)
    assert shown_url("http://me:hunter2@host?token=x") == "http://host?token=[key]"


def test_where_a_key_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "secret-of-mine")
    azure, other = address_of("https://x.openai.azure.com/v1"), address_of("https://azure.com.evil/v1")
    assert Credentials("A_KEY").headers_for(azure) == {"api-key": "secret-of-mine"}
    assert Credentials("A_KEY").headers_for(other) == {"Authorization": "Bearer secret-of-mine"}
    assert Credentials("A_KEY", "x-api-key", {"a": "b"}).headers_for(other) == {"a": "b", "x-api-key": "secret-of-mine"}
    assert Credentials().headers_for(other) == {}
    with pytest.raises(InputError, match="NO_KEY is not set"):
        Credentials("NO_KEY").headers_for(other)


KEY = "sk-Proj_0123-aZ"


@pytest.mark.parametrize("before", ["", "u:", "us:", "use:", ":"])
def test_base64_is_seen_at_every_alignment(before: str) -> None:
    for text in (
        b64encode(f"{before}{KEY}".encode()).decode(),
        "x" + b64encode(f"{before}{KEY} and".encode()).decode(),
    ):
        assert Secrets([KEY]).mask(f"Basic {text} end") == "Basic [key] end"


def test_texts_without_the_key_are_left_alone() -> None:
    for text in ("sk-Proj_0123-a", "100% of \\u0041 &#65; <b>", b64encode(b"some other text of length").decode(), ""):
        assert Secrets([KEY]).mask(text) == text


def test_a_short_word_is_a_placeholder_and_no_secret() -> None:
    assert Secrets(["EMPTY", "", "abc"]).mask("EMPTY abc") == "EMPTY abc"


@pytest.mark.parametrize("text", ["sk-" * 50_000, "\\" * 100_000, "s" + "<" * 100_000, "s____" * 30_000, "%7" * 60_000])
def test_masking_takes_time_in_proportion(text: str) -> None:
    started_at = time.process_time()
    Secrets([KEY]).mask(text)
    assert time.process_time() - started_at < 2
