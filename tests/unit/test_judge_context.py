"""Does a prompt fit? Counted with a real tokenizer and chat template, and estimated without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from seft_bench.config import OpenAIJudgeConfig
from seft_bench.errors import InputError
from seft_bench.inference.replies import Reply
from seft_bench.judges import open_judge
from seft_bench.judges.context import estimated_tokens, outgrown, token_counter, unread_details
from seft_bench.records import JudgeRequest, Judgment, Message, Question
from tests.faults.chat_server import serving
from tests.tiny_model import make_tiny_tokenizer

MESSAGES: list[Message] = [
    {"role": "system", "content": "Be fair."},
    {"role": "user", "content": "Which is red? <|end|> 1234567890 ünïcödé"},
]


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def test_the_count_is_that_of_the_rendered_conversation(tokenizer_folder: str) -> None:
    """The template written out by hand; markers inside a text are tokens of their own, as on the server."""
    tokenizer = make_tiny_tokenizer()
    text = (
        "<|bos|>"
        + "".join(f"<|{message['role']}|>{message['content']}<|end|>" for message in MESSAGES)
        + "<|assistant|>"
    )
    count = token_counter(tokenizer_folder, 4096)
    assert count(MESSAGES) == len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert count(MESSAGES) != estimated_tokens(MESSAGES)


def test_a_prompt_fits_to_the_token(tokenizer_folder: str) -> None:
    count = token_counter(tokenizer_folder, 4096)
    needed = count(MESSAGES) + 10
    assert outgrown(MESSAGES, 10, needed, count) == ""
    assert (
        outgrown(MESSAGES, 10, needed - 1, count)
        == f"not sent: {needed} tokens with the reply, the judge's context has {needed - 1}"
    )
    assert outgrown(MESSAGES, 10, None, count) == ""
    assert "about" in outgrown(MESSAGES, 10, 5, estimated_tokens)


def judge(url: str, **settings: object) -> OpenAIJudgeConfig:
    return OpenAIJudgeConfig(
        name="j", kind="openai", model="judge", base_url=url, api_key_env=None, templates="seft-bench", **settings
    )  # type: ignore[arg-type]


def test_text_of_many_tokens_is_over_length_where_the_estimate_would_send_it(tokenizer_folder: str) -> None:
    """Chinese text has about one token a character or more, not one for four characters."""
    question = Question("own", "q", "", ("Say it.",))
    request = JudgeRequest("grade", question, 1, ("河" * 1200,))
    seen: dict[str, Judgment] = {}
    with serving() as server:
        for name, tokenizer in (("estimated", None), ("exact", tokenizer_folder)):
            opened = open_judge(judge(server.url, context_tokens=4096, tokenizer=tokenizer))
            opened.judge([request], "m", lambda judgment, name=name: seen.update({name: judgment}))  # type: ignore[misc]
        assert len(server.bodies) == 1
    assert (seen["estimated"].status, seen["exact"].status) == ("ok", "over_length")
    assert seen["exact"].score is None
    assert seen["exact"].raw.startswith("not sent: ")


def test_a_tokenizer_that_is_not_there_is_said_by_the_check(tmp_path: Path) -> None:
    with serving() as server:
        opened = open_judge(judge(server.url, context_tokens=4096, tokenizer=str(tmp_path / "none")))
        with pytest.raises(InputError, match="no tokenizer can be loaded"):
            opened.check(["grade"])
        assert server.bodies == []


def test_a_template_that_takes_no_system_message_is_said(tmp_path: Path) -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}x"
    )
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no system role"):
        token_counter(str(tmp_path), 4096)(MESSAGES)


def test_a_tokenizer_needs_something_to_count_against(tokenizer_folder: str) -> None:
    with pytest.raises(InputError, match="context_tokens"):
        open_judge(judge("http://127.0.0.1:9/v1", tokenizer=tokenizer_folder))


def test_cut_and_empty_replies_are_explained() -> None:
    assert unread_details(Reply("ok", "Fine.", finish_reason="stop"), 2048) == {}
    cut = unread_details(Reply("ok", "Fi", finish_reason="length"), 2048)
    assert cut["why"] == "the reply was cut at max_tokens (2048) before a verdict"
    assert unread_details(Reply("empty", reasoning="hm"), 2048)["why"].endswith("2 characters came apart, as reasoning")
