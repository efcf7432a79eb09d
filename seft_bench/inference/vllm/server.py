"""A vLLM server of ours, which we start, watch, give other weights, and stop."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from seft_bench.checkpoints.merging import needs_float32
from seft_bench.checkpoints.weights import check_folder
from seft_bench.errors import InputError, ServiceUnavailableError
from seft_bench.files import read_object, sha256_file, sha256_folder_once, sha256_json
from seft_bench.inference.vllm.environment import CPU_ARGUMENTS, FLOAT32_ARGUMENTS, VLLMEnvironment
from seft_bench.inference.vllm.process import GRACE_SECONDS, BackgroundProcess

SERVED_NAME = "seft-bench"
START_SECONDS = 1800.0
"""A start reads all weights and compiles: minutes for a large model."""
RELOAD_SECONDS = 600.0
POLL_SECONDS = 0.2
HOST = "127.0.0.1"
VOLATILE_KEYS = ("_name_or_path", "transformers_version")
"""Of config.json: they differ between checkpoints of one run and mean nothing to the engine."""

# Nothing but loopback is asked, so a proxy of the user's must not see it.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class VLLMServer:
    """`python -m vllm.entrypoints.openai.api_server` on a free port of 127.0.0.1, for one checkpoint folder at a time.

    A context manager: `with VLLMServer(...) as server: server.serve(folder)`; on leaving, by whatever way, nothing of
    it runs any more. It also ends when this process dies.

    Args:
        log_folder: one log file a start.
        reloadable: lets `serve` load other weights into the running engine. This opens vLLM's development endpoints,
            which any user of this machine can then call, so a judge's server goes without.
        served_name: what requests call the model; one name for all checkpoints.
        arguments: further ones of the command line ("--max-model-len", "4096").
        grace_seconds: from SIGTERM to SIGKILL.

    Attributes:
        folder: whose weights are loaded; None before the first `serve`, and after one that failed.
        context_tokens: of the served model, prompt and answer together.
    """

    def __init__(
        self,
        environment: VLLMEnvironment,
        log_folder: Path,
        *,
        reloadable: bool = True,
        served_name: str = SERVED_NAME,
        trust_remote_code: bool = False,
        arguments: Sequence[str] = (),
        start_seconds: float = START_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self.environment, self.log_folder = environment, log_folder
        self.reloadable, self.served_name = reloadable, served_name
        self.trust_remote_code, self.arguments = trust_remote_code, tuple(arguments)
        self.start_seconds, self.grace_seconds = start_seconds, grace_seconds
        self.folder: Path | None = None
        self.context_tokens = 0
        self._shape, self._fingerprint, self._port = "", "", 0
        self._process: BackgroundProcess | None = None

    def __enter__(self) -> VLLMServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def engine(self) -> str:
        return self.environment.engine

    @property
    def base_url(self) -> str:
        """The address of chat completions; the port differs from start to start."""
        return f"http://{HOST}:{self._port}/v1"

    @property
    def weights_fingerprint(self) -> str:
        """The hash of what is really served: the loaded folder and the engine's version.

        Raises:
            RuntimeError: nothing is loaded.
        """
        if self.folder is None:
            raise RuntimeError("no checkpoint is loaded")
        return sha256_json([self._fingerprint, self.engine])[:16]

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.exit_status() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def serve(self, folder: Path) -> None:
        """Make the server serve this checkpoint: as it is, by loading its weights, or by a new start.

        A new start is needed where anything but the weights differs (architecture, tokenizer, chat template), as the
        server reads those once only, and where `reloads_rightly` says no.

        Raises:
            InputError: its weights are not all there or no numbers, or it does not start, or not in time.
        """
        folder, fingerprint = folder.resolve(), sha256_folder_once(folder)
        if self.is_running and self.folder == folder and self._fingerprint == fingerprint:
            return
        check_folder(folder, self.trust_remote_code)
        fits = self.is_running and self.reloadable and self._shape == shape_of(folder) and reloads_rightly(folder)
        if not (fits and self.reload_weights(folder)):
            self._start(folder)
        self.folder, self._fingerprint, self._shape = folder, fingerprint, shape_of(folder)

    def reload_weights(self, folder: Path) -> bool:
        """Load a folder's weights into the running engine and clear its caches; return False if it cannot."""
        self.folder = None  # in between nobody can say what is loaded
        try:
            self._post("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}})
            reset = self._post("/reset_prefix_cache")
        except (OSError, ValueError):
            return False
        return not isinstance(reset, dict) or reset.get("success") is not False

    def check_alive(self) -> None:
        """Raise at once, with the end of its log, when the process is gone.

        Raises:
            ServiceUnavailableError: it is.
        """
        if self._process is not None and self._process.exit_status() is not None:
            raise ServiceUnavailableError(
                f"the vLLM server died: {self._process.describe_end()}\nWhat arrived is kept; the same command goes on."
            )

    def stop(self) -> None:
        """End the server and everything that it started. May be called twice."""
        process, self._process, self.folder = self._process, None, None
        if process is not None:
            process.stop()

    def get(self, path: str, timeout_seconds: float = 10.0) -> Any:
        """Return the JSON of a GET below the server's root; None for an empty body.

        Raises:
            OSError: no answer, or an error status. ValueError: no JSON.
        """
        return self._send(urllib.request.Request(f"http://{HOST}:{self._port}{path}"), timeout_seconds)

    def post(self, path: str, body: Mapping[str, Any], timeout_seconds: float = 60.0) -> Any:
        """Post a JSON body, and return as `get` does."""
        request = urllib.request.Request(
            f"http://{HOST}:{self._port}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        return self._send(request, timeout_seconds)

    def _post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self.post(path, body or {}, RELOAD_SECONDS)

    def _send(self, request: urllib.request.Request, timeout_seconds: float) -> Any:
        with _OPENER.open(request, timeout=timeout_seconds) as response:
            text = response.read()
        return json.loads(text) if text.strip() else None

    def _start(self, folder: Path) -> None:
        self.stop()
        self._port = _free_port()
        log = self.log_folder / f"vllm-{time.strftime('%Y%m%dT%H%M%S')}-{self._port}.log"
        variables = self.environment.variables() | ({"VLLM_SERVER_DEV_MODE": "1"} if self.reloadable else {})
        self._process = BackgroundProcess(self._command(folder), variables, log, grace_seconds=self.grace_seconds)
        try:
            self._wait_until_ready(folder)
        except BaseException:  # Ctrl-C too: half a server is of no use
            self.stop()
            raise

    def _command(self, folder: Path) -> list[str]:
        """Return the command line: safetensors only, and no sampling defaults out of generation_config.json."""
        return [
            *(self.environment.python, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(folder), "--host", HOST, "--port", str(self._port)),
            *("--served-model-name", self.served_name, "--generation-config", "vllm", "--load-format", "safetensors"),
            *("--chat-template-content-format", "string"),
            *(CPU_ARGUMENTS if self.environment.on_cpu else FLOAT32_ARGUMENTS if needs_float32(folder) else ()),
            *(("--trust-remote-code",) if self.trust_remote_code else ()),
            *self.environment.arguments,
            *self.arguments,
        ]

    def _wait_until_ready(self, folder: Path) -> None:
        process = self._process
        assert process is not None
        deadline = time.monotonic() + self.start_seconds
        while not self._is_healthy():
            if process.exit_status() is not None:
                raise InputError(f"vLLM does not start on {folder}: {process.describe_end()}")
            if time.monotonic() > deadline:
                raise InputError(
                    f"vLLM was not ready on {folder} within {self.start_seconds:g} seconds; its log {process.log_path} "
                    f"ends:\n{process.log_tail()}"
                )
            time.sleep(POLL_SECONDS)
        served = self.get("/v1/models")["data"]
        entry: dict[str, Any] = next((entry for entry in served if entry.get("id") == self.served_name), {})
        if entry.get("root") != str(folder):  # somebody else took the port between choosing and starting
            raise InputError(
                f"port {self._port} answers, but it serves {entry.get('root')!r} and not {folder}. Run the same "
                "command again."
            )
        self.context_tokens = int(entry.get("max_model_len") or 1 << 30)

    def _is_healthy(self) -> bool:
        try:
            self.get("/health", timeout_seconds=2.0)
        except (OSError, ValueError):
            return False
        return True


def shape_of(folder: Path) -> str:
    """Hash all that a running server cannot change: configuration, tokenizer, chat template, number format."""
    whole = read_object(folder / "config.json", "configuration of a model")
    config = {key: value for key, value in whole.items() if key not in VOLATILE_KEYS}
    patterns = ("tokenizer*", "special_tokens*", "vocab*", "merges*", "*.jinja", "*.model")
    files = sorted(path for pattern in patterns for path in folder.glob(pattern))
    hashes = [(path.name, sha256_file(path)) for path in files if path.is_file()]
    return sha256_json([config, hashes, needs_float32(folder)])


def reloads_rightly(folder: Path) -> bool:
    """Return whether vLLM's `reload_weights` replaces all of this model's weights.

    Not where input and output embeddings are one tensor: vllm 0.32.0 on a CPU keeps the old output layer, and answers
    come out that are no model's. Its own notes (model_executor/model_loader/reload) name tied parameters as a limit on
    every device.
    """
    config = read_object(folder / "config.json", "configuration of a model")
    text_config = config.get("text_config") or {}
    return not (config.get("tie_word_embeddings", True) or text_config.get("tie_word_embeddings", False))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
