"""Judgments a second of our judge client against a bare aiohttp loop, over a server that answers after 200 ms.

    python benchmarks/judge_throughput.py [--in-flight 32 256] [--repeats 3] [--log] [--peers]

The server is a process of its own on 127.0.0.1 (aiohttp) that reads each request, waits 200 ms and sends one fixed
grade. Each measurement is a process of its own too, the loops in turn in the same run, each with a connection pool of
its own and the same grading requests in the same number:

    ours   `OpenAIJudge.judge`: renders the prompts, looks into an empty SQLite store, holds each request's worst case
           in a budget, sends, stores each response before anything else, counts what it cost, reads the grade, makes
           the record; with --log it also appends each record to a judgments file as `seft-bench eval` does
    bare   as many workers as requests in flight, each: post(json=...), decode the response's JSON, take the next one;
           messages are ready, and the workers start spread over one latency: all at once they would stay in step and
           wait for each other, which costs the loop rate

Steady state: time starts when three times the requests in flight have been answered (ours begins with 10 in flight and
grows) and ends before the last ones drain, so that a whole number of rounds lies between. The possible rate is requests
in flight / 0.2 s. CPU and memory cover the whole run with its ramp-up: process CPU, and growth of the peak resident
memory from before the first request, divided by all judgments (all records are kept, as `eval` does). The ratio is the
median over repeats of ours / bare of the same repeat.

The server and a loop share this machine: on one with other work, or a single core, both rates fall. --peers adds
alpaca_eval's and FastChat's own request functions, in threads as they do it, where they are installed (extra
`official`), over 4 rounds at the first --in-flight; they keep no response, and their whole run counts, start-up of the
threads included. FastChat 0.2.36 calls openai as it was before 1.0, alpaca-eval 0.6.6 needs a later one, so no
environment runs both: --fastchat-python names the interpreter of another one, made with

    pip install 'fschat[llm_judge]==0.2.36' 'openai<1' anthropic psutil protobuf sentencepiece peft accelerate
    pip install torch transformers pydantic pyyaml
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from seft_bench.errors import InputError

LATENCY_SECONDS = 0.2
RAMP_ROUNDS, MEASURED_ROUNDS, DRAIN_ROUNDS, PEER_ROUNDS = 3, 20, 1, 4
MOST_IN_FLIGHT = 1024
SECONDS_TO_GIVE_UP = 300
PEERS = {"alpaca_eval": "alpaca_eval", "fastchat": "FastChat"}
HINTS = {"fastchat": ". It needs openai before 1.0, in an environment of its own: see --fastchat-python in --help."}
REPLY = "The answer is relevant and correct, but it could go deeper into the reasons. " * 8 + "Rating: [[7]]"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[32, 256], metavar="N")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--log", action="store_true", help="ours also appends each judgment to a file")
    parser.add_argument("--peers", action="store_true", help="also alpaca_eval and FastChat, where they are installed")
    parser.add_argument(
        "--fastchat-python",
        default=sys.executable,
        metavar="PATH",
        help="interpreter of an environment with FastChat and openai before 1.0",
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--worker", nargs=3, metavar=("LOOP", "URL", "IN_FLIGHT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        asyncio.run(serve())
    elif options.worker:
        loop, url, in_flight = options.worker
        print(json.dumps(LOOPS[loop](url, int(in_flight), options.log)))
    else:
        try:
            compare(options)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_status)


def compare(options: argparse.Namespace) -> None:
    """Measure in turn and print.

    Raises:
        InputError: numbers out of range, or aiohttp is not installed.
    """
    check(options.in_flight, options.repeats)
    with server() as url:
        runs = {
            in_flight: [turn(url, in_flight, options.log) for _ in range(options.repeats)]
            for in_flight in options.in_flight
        }
        print_table(runs)
        if options.peers:
            print_peers(url, options.in_flight[0], options.fastchat_python)


def check(in_flight: list[int], repeats: int) -> None:
    wrong = [number for number in in_flight if not 1 <= number <= MOST_IN_FLIGHT]
    if wrong or repeats < 1:
        raise InputError(
            f"--in-flight takes numbers from 1 to {MOST_IN_FLIGHT} and --repeats at least 1, not {wrong or repeats}. "
            "Run `python benchmarks/judge_throughput.py --in-flight 32 256`."
        )
    if importlib.util.find_spec("aiohttp") is None:
        raise InputError(
            "aiohttp is not installed, which the judge client and this benchmark's server need. Run `pip install -e .` "
            "first."
        )


# The server


@contextmanager
def server() -> Iterator[str]:
    """A server process; it ends with its standard input, so it never outlives this one."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError("the benchmark's server did not start; its message is above")
        yield address
    finally:
        process.stdin.close()
        process.wait(10)


async def serve() -> None:
    """Answer every POST with one grade after the latency, every GET with the list of models, until stdin ends."""
    from aiohttp import web

    message = {"role": "assistant", "content": REPLY, "refusal": None}
    choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}
    usage = {"prompt_tokens": 600, "completion_tokens": 140, "total_tokens": 740}
    completion = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "judge"}
    graded = json.dumps(completion | {"choices": [choice], "usage": usage}).encode()
    models = json.dumps({"object": "list", "data": [{"id": "judge"}]}).encode()

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            return web.Response(body=models, content_type="application/json")
        await request.read()
        await asyncio.sleep(LATENCY_SECONDS)
        return web.Response(body=graded, content_type="application/json")

    runner = web.ServerRunner(web.Server(answer, access_log=None), shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2 * MOST_IN_FLIGHT).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()


# The loops, each in a process of its own


def turn(url: str, in_flight: int, log: bool) -> dict[str, dict[str, float]]:
    """One measurement of ours and one of the bare loop."""
    measured = {loop: in_own_process(loop, url, in_flight, log) for loop in ("ours", "bare")}
    print(f"{in_flight} in flight: {measured}", file=sys.stderr)
    return measured


def in_own_process(
    loop: str, url: str, in_flight: int, log: bool = False, python: str = sys.executable
) -> dict[str, float]:
    command = [python, __file__, "--worker", loop, url, str(in_flight), *(["--log"] if log else [])]
    keys = {"OPENAI_API_KEY": "none", "OPENAI_API_BASE": url, "OPENAI_BASE_URL": url}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **keys}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS_TO_GIVE_UP)
    if done.returncode:
        raise RuntimeError(f"the loop {loop!r} failed at {in_flight} in flight:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def judge_requests(count: int) -> list[Any]:
    """Grading requests of an MT-Bench answer's size, all different, so that the store can never answer one."""
    from seft_bench.records import JudgeRequest, Question

    answer = "A river finds its way around the stone, and so may you; here is how one could go about it. " * 18
    questions = [
        Question("mtbench", str(number), "writing", (f"Write essay number {number} about rivers and stones.",))
        for number in range(count)
    ]
    return [JudgeRequest("grade", question, 1, (f"{question.id}: {answer}",)) for question in questions]


def run_ours(url: str, in_flight: int, log: bool) -> dict[str, float]:
    import aiohttp  # noqa: F401  loaded before the clock, as for the bare loop

    from seft_bench.config import OpenAIJudgeConfig
    from seft_bench.files import append_rows
    from seft_bench.inference.budget import Budget, Meter
    from seft_bench.judges.openai_compatible import OpenAIJudge
    from seft_bench.records import to_row

    config = OpenAIJudgeConfig(
        name="bench",
        kind="openai",
        model="judge",
        base_url=url,
        api_key_env=None,
        templates="seft-bench",
        max_in_flight=in_flight,
        input_usd_per_million_tokens=1.0,
        output_usd_per_million_tokens=2.0,
    )
    requests, kept = judge_requests(total(in_flight)), []
    with tempfile.TemporaryDirectory() as folder:
        judge, path = OpenAIJudge.from_config(config, Path(folder) / "store.sqlite"), Path(folder) / "judgments.jsonl"
        judge.client.meter = Meter(budget := Budget(1e6), judge.price)  # as `seft-bench eval` always does

        def run(answered: Callable[[], None]) -> None:
            def on_judgment(judgment: Any) -> None:
                kept.append(judgment)
                if log:
                    append_rows(path, [to_row(judgment)])
                answered()

            judge.judge(requests, "model", on_judgment)

        found = measure(run, in_flight)
        stored = judge.client.store.stats()["responses"] if judge.client.store else 0
    if any(judgment.score != 7 for judgment in kept) or stored != len(requests) or budget.spent_usd <= 0:
        raise AssertionError(
            f"{stored} of {len(requests)} responses are stored, a grade is not 7, or nothing was paid: the figures "
            "would mean nothing"
        )
    return found


def run_bare(url: str, in_flight: int, log: bool) -> dict[str, float]:
    import aiohttp

    from seft_bench.judges.prompts import render

    messages = [render(request, "seft-bench").messages for request in judge_requests(total(in_flight))]
    kept: list[Any] = []

    async def ask(answered: Callable[[], None]) -> None:
        queue = iter(messages)

        async def work(session: aiohttp.ClientSession, number: int) -> None:
            await asyncio.sleep(LATENCY_SECONDS * number / in_flight)
            for message in queue:
                body = {"model": "judge", "messages": message, "temperature": 0.0, "max_tokens": 2048}
                async with session.post(f"{url}/chat/completions", json=body) as response:
                    kept.append(await response.json())
                answered()

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*[work(session, number) for number in range(in_flight)])

    return measure(lambda answered: asyncio.run(ask(answered)), in_flight)


def total(in_flight: int) -> int:
    return (RAMP_ROUNDS + MEASURED_ROUNDS + DRAIN_ROUNDS) * in_flight


def measure(run: Callable[[Callable[[], None]], None], in_flight: int) -> dict[str, float]:
    """`run(answered)` sends everything and calls `answered` once for each judgment."""
    moments: list[float] = []
    memory, cpu = peak_kilobytes(), time.process_time()
    run(lambda: moments.append(time.perf_counter()))
    cpu, memory = time.process_time() - cpu, peak_kilobytes() - memory
    first, last = RAMP_ROUNDS * in_flight, (RAMP_ROUNDS + MEASURED_ROUNDS) * in_flight
    rate = (last - first) / (moments[last - 1] - moments[first - 1])
    return {
        "per_second": round(rate, 1),
        "cpu_milliseconds": round(1000 * cpu / len(moments), 3),
        "kilobytes": round(memory / len(moments), 1),
    }


def peak_kilobytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "darwin" else peak


# The peers


def peer_texts(in_flight: int) -> list[str]:
    from seft_bench.judges.prompts import render

    requests = judge_requests(PEER_ROUNDS * in_flight)
    return [render(request, "seft-bench").messages[-1]["content"] for request in requests]


def run_alpaca_eval(url: str, in_flight: int, log: bool) -> dict[str, float]:
    """Its `openai_completions`: a pool of threads, and a client of its own for every request."""
    from alpaca_eval.decoders.openai import openai_completions

    prompts = [f"<|im_start|>user\n{text}\n<|im_end|>" for text in peer_texts(in_flight)]

    def run() -> int:
        done = openai_completions(prompts, "judge", max_tokens=2048, temperature=0.0, num_procs=in_flight)
        return len(done["completions"])

    return whole_run(run)


def run_fastchat(url: str, in_flight: int, log: bool) -> dict[str, float]:
    """Its `chat_completion_openai` under the thread pool of `gen_judgment.py --parallel`."""
    from concurrent.futures import ThreadPoolExecutor

    from fastchat.conversation import get_conv_template
    from fastchat.llm_judge.common import API_ERROR_OUTPUT, chat_completion_openai

    def ask(text: str) -> str:
        conversation = get_conv_template("chatgpt")
        conversation.append_message(conversation.roles[0], text)
        conversation.append_message(conversation.roles[1], None)
        return str(chat_completion_openai("judge", conversation, temperature=0.0, max_tokens=2048))

    def run() -> int:
        with ThreadPoolExecutor(in_flight) as executor:
            return sum(reply != API_ERROR_OUTPUT for reply in executor.map(ask, texts))

    texts = peer_texts(in_flight)
    return whole_run(run)


def whole_run(run: Callable[[], int]) -> dict[str, float]:
    memory, cpu, start = peak_kilobytes(), time.process_time(), time.perf_counter()
    answered = run()
    seconds, cpu, memory = time.perf_counter() - start, time.process_time() - cpu, peak_kilobytes() - memory
    if not answered:
        raise AssertionError("no request was answered")
    return {
        "per_second": round(answered / seconds, 1),
        "cpu_milliseconds": round(1000 * cpu / answered, 3),
        "kilobytes": round(memory / answered, 1),
    }


LOOPS: dict[str, Callable[[str, int, bool], dict[str, float]]] = {
    "ours": run_ours,
    "bare": run_bare,
    "alpaca_eval": run_alpaca_eval,
    "fastchat": run_fastchat,
}


# Printing


def print_table(runs: Mapping[int, list[dict[str, dict[str, float]]]]) -> None:
    print(f"{'':12}{'':8}{'judgments/s':>14}{'of possible':>14}{'CPU ms each':>14}{'KB each':>12}")
    for in_flight, turns in runs.items():
        for loop in ("ours", "bare"):
            medians = {name: statistics.median(turn[loop][name] for turn in turns) for name in turns[0][loop]}
            print_row(f"{in_flight}", loop, medians, in_flight)
        ratios = [turn["ours"]["per_second"] / turn["bare"]["per_second"] for turn in turns]
        print(
            f"{in_flight:<12}ratio of ours to the bare loop: {statistics.median(ratios):.3f} ({min(ratios):.3f} to "
            f"{max(ratios):.3f})"
        )


def print_row(label: str, loop: str, found: Mapping[str, float], in_flight: int) -> None:
    possible = in_flight / LATENCY_SECONDS
    rate, share = found["per_second"], found["per_second"] / possible
    print(
        f"{label:12}{loop:12}{rate:>10.1f}{share:>14.1%}{found['cpu_milliseconds']:>14.2f}{found['kilobytes']:>12.1f}"
    )


def print_peers(url: str, in_flight: int, fastchat_python: str = sys.executable) -> None:
    for module, name in PEERS.items():
        python = fastchat_python if module == "fastchat" else sys.executable
        if python == sys.executable and importlib.util.find_spec(module) is None:
            print(f'{name} is not installed, so it is skipped: pip install "seft-bench[official]"')
            continue
        try:
            print_row(f"{in_flight}", name, in_own_process(module, url, in_flight, python=python), in_flight)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            print(f"{name} did not run, so it is skipped: {str(error).strip().splitlines()[-1]}{HINTS.get(module, '')}")


if __name__ == "__main__":
    main()
