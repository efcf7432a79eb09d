"""Judgments against a server that fails in fourteen ways: are any lost, doubled or mixed up, and does memory stay flat?

    python benchmarks/soak.py [--judgments 50000] [--in-flight 64] [--faults 0.1]

The server is a process of its own on 127.0.0.1. A share of the requests (--faults, chosen by a hash of their number)
fails when it first arrives, and half of these a second time, in one of fourteen ways in turn:

    429 with and without Retry-After, 500, 503, no response until the time-out, a connection dropped before and within
    the response, half a JSON, no choices, an HTML page, an error in a 200 body, an error in a choice, a text cut short
    by an error, 200,000 brackets

Every fiftieth good reply is odd: half a surrogate pair in its text, token counts that are none, or a list of parts.
Each prompt has a number, and its reply the grade that follows from it, so that a verdict of another prompt would show.

The judging is a process of its own: `OpenAIJudge` with a key, a store, a budget that never ends and a file of
judgments, to which each is appended as `seft-bench eval` does, thousands of requests at a time. Its resident memory is
read after a fifth of the judgments and at the end. Then the file, the store and the server's own count are compared: a
judgment is lost if the file has no verdict of it, doubled if the file has two or the server gave two good replies,
mixed up if its grade is another's. Prints one line.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from seft_bench.errors import InputError

if TYPE_CHECKING:
    from aiohttp import web

KEY = "sk-soak-not-a-real-key"
BATCH = 5000
ESSAY = re.compile(r"Write essay (\d+) of many")
TIMEOUT_SECONDS = 3.0
SECONDS_TO_GIVE_UP = 3600


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judgments", type=int, default=50_000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--faults", type=float, default=0.1, help="share of requests that fail at first")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--judge", nargs=2, metavar=("URL", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        asyncio.run(serve(options.faults))
    elif options.judge:
        print(json.dumps(judge(options.judge[0], Path(options.judge[1]), options.judgments, options.in_flight)))
    else:
        try:
            print(line(soak(options.judgments, options.in_flight, options.faults)))
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_status)


def soak(judgments: int, in_flight: int, faults: float) -> dict[str, Any]:
    """Run server and judge, and compare what both kept.

    Raises:
        InputError: numbers out of range.
    """
    if judgments < 5 or not 1 <= in_flight <= 1024 or not 0 <= faults < 1:
        raise InputError("--judgments takes 5 or more, --in-flight 1 to 1024, --faults a share below 1.")
    with tempfile.TemporaryDirectory() as name, server(faults) as url:
        folder, started_at = Path(name), time.monotonic()
        command = [sys.executable, __file__, "--judge", url, name, "--judgments", str(judgments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "SOAK_KEY": KEY}
        done = subprocess.run(
            [*command, "--in-flight", str(in_flight)], capture_output=True, text=True, env=environment,
            timeout=SECONDS_TO_GIVE_UP,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"the judging failed:\n{done.stderr[-3000:]}")
        seconds = time.monotonic() - started_at
        memory = json.loads(done.stdout.splitlines()[-1])
        return compared(folder, judgments, tally(url)) | memory | {"judgments": judgments, "seconds": seconds}


def compared(folder: Path, judgments: int, counted: dict[str, Any]) -> dict[str, Any]:
    """Compare the judgments' file, the store and what the server counted."""
    from seft_bench.files import read_log
    from seft_bench.inference.store import ResponseStore

    rows = read_log(folder / "judgments.jsonl")
    verdicts = Counter(row["question_id"] for row in rows if row["status"] == "ok")
    good = Counter(dict(counted["good"]))
    with ResponseStore(folder / "store.sqlite") as store:
        stored = store.stats()["responses"]
    return {
        "lost": judgments - len(verdicts),
        "doubled": sum(count > 1 for count in verdicts.values()) + sum(count > 1 for count in good.values()),
        "mixed_up": sum(row["status"] == "ok" and row["score"] != grade_of(int(row["question_id"])) for row in rows),
        "unstored": judgments - stored,
        "faults": sum(counted["faults"].values()),
        "kinds": len(counted["faults"]),
        "odd": counted["odd"],
    }


def line(found: dict[str, Any]) -> str:
    """Return the figures in one line, for docs/reliability.md."""
    (early, late), count = found["megabytes"], found["judgments"]
    tried = f"{count:,} judgments, {found['faults']:,} faults of {found['kinds']} kinds, {found['odd']:,} odd replies"
    kept = ", ".join(f"{found[name]} {name.replace('_', ' ')}" for name in ("lost", "doubled", "mixed_up", "unstored"))
    memory = f"{early:.0f} MB resident at {count // 5:,} and {late:.0f} MB at {count:,}"
    return f"{tried}: {kept}; {memory}; {found['seconds']:.0f} s"


def grade_of(number: int) -> float:
    return float(1 + number % 10)


# The judge, in a process of its own


def judge(url: str, folder: Path, judgments: int, in_flight: int) -> dict[str, Any]:
    """Judge everything, a batch at a time; return the megabytes resident after a fifth and at the end."""
    from seft_bench.config import OpenAIJudgeConfig
    from seft_bench.files import append_rows
    from seft_bench.inference.budget import Budget, meter
    from seft_bench.judges import open_judge
    from seft_bench.records import to_row

    config = OpenAIJudgeConfig(
        name="soak", kind="openai", model="judge", base_url=url, api_key_env="SOAK_KEY", templates="seft-bench",
        max_in_flight=in_flight, timeout_seconds=TIMEOUT_SECONDS, input_usd_per_million_tokens=1.0,
        output_usd_per_million_tokens=1.0,
    )  # fmt: skip
    opened, path, megabytes = open_judge(config, folder / "store.sqlite"), folder / "judgments.jsonl", [0.0, 0.0]
    meter(opened.client, opened.price, Budget(1e9))
    batch = min(BATCH, judgments // 5)
    for start in range(0, judgments, batch):
        numbers = range(start, min(start + batch, judgments))
        opened.judge(requests(numbers), "model", lambda judgment: append_rows(path, [to_row(judgment)]))
        megabytes[numbers.stop > judgments // 5] = resident_megabytes()
    return {"megabytes": megabytes}


def requests(numbers: range) -> list[Any]:
    from seft_bench.records import JudgeRequest, Question

    answer = "A river finds its way around the stone, and so may you; here is how one could go about it. " * 8
    questions = [
        Question("mtbench", str(number), "writing", (f"Write essay {number} of many, on stones.",))
        for number in numbers
    ]
    return [JudgeRequest("grade", question, 1, (answer,)) for question in questions]


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# The server, in a process of its own


@contextmanager
def server(faults: float) -> Iterator[str]:
    """A server process; it ends with its standard input, so it never outlives this one."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", "--faults", str(faults)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError("the server did not start; its message is above")
        yield address
    finally:
        process.stdin.close()
        process.wait(10)


def tally(url: str) -> dict[str, Any]:
    from urllib.request import urlopen

    with urlopen(url.removesuffix("/v1") + "/tally") as response:
        found: dict[str, Any] = json.load(response)
    return found


def completion(number: int, **choice: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"Fine. Rating: [[{grade_of(number):g}]]"} | choice.pop("message", {})
    usage = {"prompt_tokens": 300, "completion_tokens": 8}
    return {"model": "judge", "choices": [{"finish_reason": "stop", "message": message} | choice], "usage": usage}


async def serve(faults: float) -> None:
    """Answer until stdin ends."""
    from aiohttp import web

    flaky = FlakyServer(faults)
    app = web.Application(client_max_size=2**22)
    app.router.add_post("/v1/chat/completions", flaky.answer)
    app.router.add_get("/tally", flaky.tally)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


Fault = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


class FlakyServer:
    """Fails as the module says, and counts what it did."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.arrived, self.good, self.faults = Counter[int](), Counter[int](), Counter[str]()
        self.odd = 0
        self.kinds: dict[str, Fault] = {**by_status(), **by_connection(), **by_body()}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        text = (await request.json())["messages"][-1]["content"]
        number = int(ESSAY.findall(text)[-1])
        self.arrived[number] += 1
        if self.is_to_fail(number):
            kind = list(self.kinds)[(number + self.arrived[number]) % len(self.kinds)]
            self.faults[kind] += 1
            return await self.kinds[kind](request)
        self.good[number] += 1
        return web.json_response(self.reply(number))

    def is_to_fail(self, number: int) -> bool:
        drawn = int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:4], "big") / 2**32
        return drawn < self.share and self.arrived[number] <= 1 + (drawn < self.share / 2)

    def reply(self, number: int) -> dict[str, Any]:
        if number % 50:
            return completion(number)
        self.odd += 1
        grade, thought = f"Rating: [[{grade_of(number):g}]]", {"type": "thinking", "thinking": "[[3]]"}
        odd: list[dict[str, Any]] = [
            completion(number, message={"content": f"half \ud83d of a pair. {grade}"}),
            completion(number) | {"usage": {"prompt_tokens": float("nan"), "completion_tokens": -(10**30)}},
            completion(number, message={"content": [thought, {"type": "text", "text": grade}]}),
        ]
        return odd[number // 50 % len(odd)]

    async def tally(self, request: web.Request) -> web.Response:
        from aiohttp import web

        return web.json_response({"good": list(self.good.items()), "faults": self.faults, "odd": self.odd})


def by_status() -> dict[str, Fault]:
    def status(code: int, **headers: str) -> Fault:
        async def respond(request: web.Request) -> web.StreamResponse:
            from aiohttp import web

            return web.Response(status=code, text="busy", headers={"Retry-After": headers["wait"]} if headers else None)

        return respond

    return {"429": status(429), "429, wait": status(429, wait="0.05"), "500": status(500), "503": status(503, wait="0")}


def by_connection() -> dict[str, Fault]:
    async def silent(request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        await asyncio.sleep(2 * TIMEOUT_SECONDS)  # nobody waits so long
        return web.Response()

    async def dropped(request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def cut(request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        assert request.transport is not None
        request.transport.abort()
        return response

    return {"silent": silent, "dropped": dropped, "cut": cut}


def by_body() -> dict[str, Fault]:
    def body(text: str) -> Fault:
        async def respond(request: web.Request) -> web.StreamResponse:
            from aiohttp import web

            return web.Response(text=text, content_type="application/json")

        return respond

    error = {"code": 502, "message": "Provider returned error"}
    values: dict[str, Any] = {
        "no choices": {"choices": []},
        "error in the body": {"error": error},
        "error in a choice": completion(0, message={"content": ""}, finish_reason="error", error=error),
        "cut short": completion(0, message={"content": "Rating: [[1]] beca"}, finish_reason="error", error=error),
    }
    texts = {"half a JSON": '{"choices": [{"mess', "HTML": "<html>Sign in</html>", "brackets": "[" * 200_000}
    return {name: body(text) for name, text in {**texts, **{k: json.dumps(v) for k, v in values.items()}}.items()}


if __name__ == "__main__":
    main()
