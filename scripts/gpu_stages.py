#!/usr/bin/env python3
"""The stages of `scripts/gpu_check.sh run`; its --help says what they are.

A stage is a list of items, each one command, the cheap and decisive ones first. What an item left is written to
DIR/STAGE.json at once, so that a stage that was interrupted, or that ran out of its time, goes on with the next item.
"""

import argparse
import concurrent.futures
import contextlib
import datetime
import json
import math
import os
import pathlib
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
NO_GPU, UNFINISHED, REFUSED = 69, 75, 64
STAGE_SECONDS = 460  # of one stage in one call
FIRST_SECONDS = 75  # of each stage before any has more, where several are run: the first items are the telling ones
ENDING_SECONDS = 5  # for the table and the archive, of the time that --seconds gives
CONTEST_SECONDS, CONTEST_BUDGET = 430, 60  # bench/gpu.py ends with what it was at when its budget was spent
# Layers, batch, seconds to measure for in all rounds, and seconds that this is expected to take with its set-up.
NETS = {
    "a": ("784,200,200,200", 100, 1, 12),
    "c": (",".join(["4096"] * 10), 4096, 3, 25),
    "e": (",".join(["16384"] * 4), 8192, 3, 35),
    "d": (",".join(["1024"] * 1000), 1024, 3, 35),
    "reweighted": ("784,200,200,200", 100, 1, 12),
}
TINY = {"tiny": ("64,32,16", 32, 0.2, 5), "tiny-reweighted": ("64,32,16", 32, 0.2, 5)}
SAMPLES = {"reweighted": 10, "tiny-reweighted": 3}  # of reweighted wake-sleep; the others train by wake-sleep
ARCHIVE = "results.tar.gz"
PERSISTENT_ITEM = "persistent kernel"
FIRST_TESTS = ("philox_test", "ops_test", "product_test", "recording_test")
SANITIZER_TOOLS = {
    # A status that is not success is no error by itself: the engine checks every one, and libraries ask and go on.
    "memcheck": ["--report-api-errors", "no"],
    # Of every kernel, although hazards inside the vendor's products are not ours to find, and take long to look for:
    # --kernel-name is suspected of the "Internal Sanitizer Error" with which it ended on an H200 (version 2025.3).
    "racecheck": [],
    "synccheck": [],
}
# Reported, never judged: the padding of matrices holds anything (include/wakesleep/matrix.hpp), and correct kernels read
# it, by whole words across the last column and by whole strides in products.
INITCHECK = ["--kernel-name", "kernel_substring=wakesleep"]
TARGET_NATS = 120


class Item:
    """One command: `expected` seconds decide whether it is begun, after `seconds` it hangs, or as good as."""

    def __init__(self, name, command, judge, seconds=None, expected=30):
        self.name, self.command, self.judge = name, [str(word) for word in command], judge
        self.seconds, self.expected = seconds or max(60, 3 * expected), expected
        self.when_late = "failed"
        self.alone = None  # the command that runs one of its tests alone
        self.beside = False  # whether others may run beside it: its verdict is no matter of time


class Interrupted(Exception):
    """By the signal that is its argument."""


class Context:
    def __init__(self, arguments):
        self.device, self.out = arguments.device, arguments.out
        self.cuda = arguments.device == "cuda"
        self.words = arguments.items or []
        self.end = math.inf if arguments.seconds is None else time.monotonic() + arguments.seconds - ENDING_SECONDS
        self.peer_python, self.jax_python = arguments.peer_python, arguments.jax_python
        self.jobs = arguments.jobs
        self.card = card() if self.cuda else ""  # asked once: a GPU that is lost on the way has still shown what it did
        self.finished = set()  # stages that need not be spoken of again
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="gpu_check-"))

    def chose(self, name):
        return not self.words or any(word in name for word in self.words)

    def program(self, name, *words):
        return [ROOT / "start", name, *words]

    @property
    def tests(self):
        """The part of a test's name that says on which set-up it runs."""
        return ("*/cuda_*" if self.persistent else "*/cuda_*-*/cuda_*persistent*") if self.cuda else "*/cpu_int8"

    @property
    def routes(self):
        return ("int8", "fp16") if self.cuda else ("int8", "float32")

    @property
    def persistent(self):
        """Whether the persistent kernel may run: not where `hashes` saw it hang or leave other bits, which would take
        the rest of the time on a GPU with it."""
        record = read_record(self.out / "hashes.json", self)
        return self.cuda and record.get("items", {}).get(PERSISTENT_ITEM, {}).get("state") not in ("failed", "unfinished")


# ---------------------------------------------------------------------------------------------------- judging


def judged(holds, **details):
    return {"state": "passed" if holds else "failed", **details}


def not_run(name, why):
    return Item(name, ["true"], lambda code, output: {"state": "not run", "why": why})


def by_exit_code(code, output):
    return judged(code == 0, exit_code=code)


def of_tests(report):
    """Judges a GoogleTest program by the report that it wrote: all that ran passed, and something ran."""

    def judge(code, output):
        if not report.exists():
            return judged(False, exit_code=code, why=last_line(output))
        cases = [case for suite in json.loads(report.read_text())["testsuites"] for case in suite["testsuite"]]
        name = lambda case: f"{case['classname']}.{case['name']}"
        failed = [name(case) for case in cases if case.get("failures")]
        skipped = [name(case) for case in cases if case.get("result") == "SKIPPED"]
        ran = [name(case) for case in cases if case.get("result") == "COMPLETED" and name(case) not in failed]
        details = {"exit_code": code, "passed": ran, "failed": failed, "skipped": skipped}
        if not ran and not failed:
            return judged(False, **details, why="no test ran")
        return judged(code == 0 and not failed, **details)

    return judge


def of_sanitizer(of_program):
    def judge(code, output):
        broken = re.search(r".*Internal Sanitizer Error.*", output)
        if broken:  # the tool itself, which has then shown nothing, whatever it sums up
            return {"state": "not run", "why": broken.group(0).strip()}
        unsupported = re.search(r".*(not supported|Unable to|Failed to initialize).*", output, re.IGNORECASE)
        summary = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: .*", output)
        if unsupported and not summary:
            return {"state": "not run", "why": unsupported.group(0).strip()}
        verdict = of_program(code, output)
        if not summary:
            return {**verdict, "state": "failed", "why": "compute-sanitizer gave no summary"}
        return {**verdict, "summary": summary[-1]}

    return judge


def of_report(of_program):
    """What initcheck counted, which is no verdict: see INITCHECK."""
    judge_as_others = of_sanitizer(of_program)

    def judge(code, output):
        result = judge_as_others(code, output)
        return result if result["state"] == "not run" else {**result, "state": "reported"}

    return judge


def of_bench(code, output):
    if code == REFUSED:
        return {"state": "refused", "why": last_line(output)}
    if code != 0:
        return judged(False, exit_code=code, why=last_line(output))
    return judged(True, **json.loads([line for line in output.splitlines() if line.startswith("{")][-1]))


def of_contest(code, output):
    if code == UNFINISHED:
        return {"state": "unfinished"}
    if code != 0:
        return judged(False, exit_code=code, why=last_line(output))
    result = pathlib.Path(re.search(r"^recorded in (.*)$", output, re.MULTILINE).group(1))
    return judged(True, result=result.name, ratios=json.loads(result.read_text())["measurements"][0]["ratios"])


def of_training(run):
    """Seconds of training until the estimate on the validation rows reached TARGET_NATS, and the model's hash."""

    def judge(code, output):
        if code != 0:
            return judged(False, exit_code=code, why=last_line(output))
        epochs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        reached = next((e for e in epochs if e["log_likelihood"] >= -TARGET_NATS), None)
        best = max(epochs, key=lambda e: e["log_likelihood"])
        pick = lambda epoch: {k: epoch[k] for k in ("epoch", "seconds", "log_likelihood", "standard_error", "samples", "rows")}
        info = subprocess.run([ROOT / "start", "wakesleep", "info", run / "model.safetensors", "--json"],
                              text=True, capture_output=True)  # fmt: skip
        if info.returncode != 0:
            return judged(False, exit_code=info.returncode, why=last_line(info.stderr))
        return judged(
            reached is not None,
            seconds_to_target=reached and reached["seconds"],
            reached=reached and pick(reached),
            best=pick(best),
            hash=json.loads(info.stdout)["hash"],
        )

    return judge


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"


# ---------------------------------------------------------------------------------------------------- stages


def device_stage(context):
    if context.cuda:
        yield Item("nvidia-smi", ["nvidia-smi"], by_exit_code)
        fields = "name,driver_version,compute_cap,memory.total,clocks.sm,clocks.max.sm,power.limit"
        yield Item("gpu", ["nvidia-smi", f"--query-gpu={fields}", "--format=csv"], with_output)
    yield Item("engine", context.program("wakesleep", "bench", "--layers", "64,32", "--batch-size", 16, "--seconds", 0.1,
                                         "--rounds", 1, "--device", context.device, "--replay", "graph", "--json"),
               of_bench)  # fmt: skip
    versions = (
        "import importlib.metadata as m, sys\n"
        "print(sys.version.split()[0], *(f'{d.metadata[\"Name\"]}={d.version}' for d in m.distributions() "
        "if d.metadata['Name'] in ('torch', 'triton', 'jax', 'jaxlib', 'numpy')))"
    )
    yield Item("python", [*shlex.split(context.peer_python), "-c", versions], with_output)


def with_output(code, output):
    return judged(code == 0, exit_code=code, output=output.strip())


def test_item(context, program, tests, name=None):
    report = context.scratch / (re.sub(r"[^a-z0-9_]+", "-", name or program) + ".json")
    item = Item(name or program, context.program(program, f"--gtest_filter={tests}", f"--gtest_output=json:{report}"),
                of_tests(report))  # fmt: skip
    item.alone = lambda test: context.program(program, f"--gtest_filter={test}")
    item.beside = True
    return item


def first_failed_test(output):
    """The first test that a GoogleTest program said to have failed, or else the one in which it ended."""
    failed = re.search(r"^\[  FAILED  \] ([^\s,]+\.[^\s,]+)", output, re.MULTILINE)
    if failed:
        return failed.group(1)
    begun = re.findall(r"^\[ RUN      \] (\S+)", output, re.MULTILINE)
    ended = re.findall(r"^\[ +(?:OK|SKIPPED) \] ([^\s,]+)", output, re.MULTILINE)
    return begun[-1] if begun and begun[-1] not in ended else None


def hashes_stage(context):
    if context.cuda:  # early: whether it is to be left out of everything else
        item = test_item(context, "golden_test", "*GoldenTest.TrainedModels*/cuda_int8_persistent", PERSISTENT_ITEM)
        item.seconds, item.beside = item.expected, False
        yield item
    for route in context.routes:
        set_up = f"cuda_{route}" if context.cuda else f"cpu_{route}"
        for name, test in (("replayed", "TrainedModels"), ("one by one", "StepsQueuedOneByOne"), ("streamed", "StreamedRows")):
            yield test_item(context, "golden_test", f"*GoldenTest.{test}*/{set_up}", f"{route}, {name}")
    if context.cuda:
        yield test_item(context, "golden_test", "*GoldenTest.*/cuda_int8_one_stream", "one stream")


def programs_with_tests(context):
    """Test programs that have tests on this set-up; all of them where they have not been built (a dry run)."""
    if not (ROOT / "bin").is_dir():
        yield from sorted(path.stem for path in (ROOT / "tests").glob("*_test.cpp"))

    def has_tests(path):
        listed = subprocess.run([str(w) for w in context.program(path.name, "--gtest_list_tests",
                                                                 f"--gtest_filter={context.tests}")],
                                text=True, capture_output=True)  # fmt: skip
        return listed.returncode != 0 or re.search(r"^  ", listed.stdout, re.MULTILINE)

    paths = sorted((ROOT / "bin").glob("*_test"))
    with concurrent.futures.ThreadPoolExecutor(context.jobs) as pool:
        yield from (path.name for path, found in zip(paths, list(pool.map(has_tests, paths))) if found)


def tests_stage(context):
    place = {name: place for place, name in enumerate(FIRST_TESTS)}
    for program in sorted(programs_with_tests(context), key=lambda name: (place.get(name, len(place)), name)):
        if program != "golden_test":
            yield test_item(context, program, context.tests)


def sanitizer_stage(context):
    tool = shutil.which("compute-sanitizer") or next(
        (str(path) for path in sorted(pathlib.Path("/usr/local").glob("cuda*/bin/compute-sanitizer"))), None
    )
    if tool is None:
        yield not_run("compute-sanitizer", "it is not installed")
        return
    first = (("ops_test", "cuda_int8"), *((("recording_test", "cuda_int8_persistent"),) if context.persistent else ()))
    rest = (("ops_test", "cuda_fp16"), ("philox_test", "cuda_int8"), ("data_test", "cuda_int8"), ("machine_test", "cuda_int8"))
    for programs in (first, rest):
        for mode, options in SANITIZER_TOOLS.items():
            for program, set_up in programs:
                under = [tool, "--tool", mode, "--error-exitcode", 99, *options]
                yield sanitized_item(context, under, f"{mode}, {program}, {set_up}", program, set_up, of_sanitizer)
    for program, set_up in first:
        under = [tool, "--tool", "initcheck", *INITCHECK]
        item = sanitized_item(context, under, f"initcheck, {program}, {set_up}", program, set_up, of_report)
        yield item


def sanitized_item(context, under, name, program, set_up, of_tool):
    item = test_item(context, program, f"*/{set_up}", name)
    under = shlex.join([str(word) for word in under])
    item = Item(name, ["env", f"WAKESLEEP_RUN_UNDER={under}", *item.command], of_tool(item.judge), expected=60)
    item.when_late = "not run"  # instrumented programs are slow, which is no finding
    item.beside = True
    return item


def ways_of(context, net):
    """Routes of the products, and for the net that a persistent kernel is made for each way of replaying steps."""
    yield from ((route,) for route in context.routes)
    if context.persistent and net == "a":
        yield from (("int8", "graph"), ("int8", "persistent"))


def nets_stage(context):
    nets = NETS if context.cuda else TINY
    engine_may_choose = () if context.persistent or not context.cuda else ("--replay", "graph")
    items = [(net, bits, *way) for net in nets for bits in (8, 16) for way in ways_of(context, net)]
    # (a) in all its forms, the others' 8-bit int8 route, and then what is left.
    first = [item for item in items if item[0] == "a" or item[:3] == ("c", 16, "int8") or item[1:3] == (8, "int8")]
    for net, bits, route, *replay in [*first, *(item for item in items if item not in first)]:
        layers, batch_size, seconds, expected = nets[net]
        algorithm = ("--algorithm", "reweighted-wake-sleep", "--samples", SAMPLES[net]) if net in SAMPLES else ()
        yield Item(
            " ".join([f"({net}) {bits}-bit {route}", *replay]),
            context.program("wakesleep", "bench", "--layers", layers, "--batch-size", batch_size, "--optimizer", "sgd",
                            "--weight-bits", bits, "--route", route, "--device", context.device,
                            *algorithm, *(word for way in replay for word in ("--replay", way)),
                            *(() if replay else engine_may_choose),
                            "--seconds", seconds, "--rounds", 5, "--json", "--quiet"),
            of_bench,
            expected=expected,
        )  # fmt: skip
    if context.cuda:
        yield Item("learning, as one operation and as two", context.program(
            "operations_bench", "--device=cuda", "--weight-bits=8", "--benchmark_filter=learn"), with_output,
            expected=15)  # fmt: skip


def peers_stage(context):
    more = [] if context.cuda else ["--seconds", 0.1, "--tuning-seconds", 0.1]
    more += [] if context.persistent or not context.cuda else ["--no-persistent"]
    for net in NETS if context.cuda else TINY:
        yield Item(
            f"({net})",
            [sys.executable, ROOT / "bench" / "gpu.py", "--engine", shlex.join([str(w) for w in context.program("wakesleep")]),
             "--net", net, "--device", context.device, "--peer-python", context.peer_python, "--jax-python",
             context.jax_python, "--budget", CONTEST_BUDGET, "--out", context.out, *more],
            of_contest,
            CONTEST_SECONDS,
            expected=60,
        )  # fmt: skip


CPU_HALF = ROOT / "data" / "cpu-half.json"  # of the stage `quality`, as --cpu-half left it
CPU_HALF_SECONDS = 3600


def training_item(context, device):
    data, epochs = ROOT / "data", 100 if context.cuda else 20
    run = context.scratch / f"run-{device}"
    replay = ("--replay", "graph") if device == "cuda" and not context.persistent else ()
    return Item(
        device,
        context.program(
            "wakesleep", "train", data / "binarized_mnist_train.packed.npy", "--row-length", 784, "--validation",
            data / "binarized_mnist_valid.packed.npy", "--evaluate-rows", 0, "--evaluate-samples", 10, "--layers",
            "200,200,200", "--epochs", epochs, "--batch-size", 100, "--optimizer", "adam", "--learning-rate", 0.003,
            "--schedule", "cosine", "--weight-bits", 8, "--seed", 1, "--checkpoint-every", epochs, "--device",
            device, *replay, "--out", run, "--force", "--quiet"),
        of_training(run),
        expected=60,
    )  # fmt: skip


def quality_stage(context):
    if not (ROOT / "data" / "binarized_mnist_train.packed.npy").exists():
        yield not_run("data", "the bundle has none (bundle --data)")
        return
    if context.cuda:
        yield training_item(context, "cuda")
    given = json.loads(CPU_HALF.read_text()) if CPU_HALF.exists() and context.cuda else None
    if given and given["bundle"] == identity():
        yield Item("cpu", ["cat", CPU_HALF], lambda code, output: {**given["result"], "given": True}, expected=0)
    else:
        yield training_item(context, "cpu")


def train_cpu_half(context):
    """Trains what the stage `quality` compares the GPU with, and leaves it for `run` of this bundle."""
    item = training_item(context, "cpu")
    item.seconds = CPU_HALF_SECONDS
    result = run_item(item, sys.stderr, math.inf)
    if result["state"] != "passed":
        sys.exit(f"gpu_check.sh: the CPU's half of `quality` failed: {result.get('why', f'{TARGET_NATS} nats were not reached')}.")
    save(CPU_HALF, {"bundle": identity(), "machine": platform.processor() or platform.machine(), "result": {k: v for k, v in result.items() if k != "command"}})


STAGES = {
    "device": device_stage,
    "hashes": hashes_stage,
    "tests": tests_stage,
    "nets": nets_stage,
    "sanitizer": sanitizer_stage,
    "peers": peers_stage,
    "quality": quality_stage,
}


def check_same_bits(results):
    """Of the trainings of the stage `quality`."""
    hashes = {name: item["hash"] for name, item in results.items() if "hash" in item}
    if len(hashes) > 1:
        results["same bits"] = judged(len(set(hashes.values())) == 1, hashes=hashes)


# ---------------------------------------------------------------------------------------------------- running


def identity():
    bundle = ROOT / "bundle.json"
    return json.loads(bundle.read_text()) if bundle.exists() else {"commit": "not a bundle"}


def card():
    """Name and driver of the GPU: what one has shown is not continued on another. Nothing where none answers."""
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
                              text=True, capture_output=True)  # fmt: skip
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def why_no_gpu():
    """One clause, or nothing where a GPU answers."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], text=True, capture_output=True)
    except OSError:
        return "there is no nvidia-smi"
    return "" if done.returncode == 0 and "GPU" in done.stdout else f"nvidia-smi says: {last_line(done.stdout + done.stderr)}"


def save(path, record):
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


running, stopping, log_lock = set(), threading.Event(), threading.Lock()
INTERRUPTED = {"state": "unfinished", "why": "interrupted"}


def kill(process):
    """With all that it started; nothing where another thread has seen it end by now."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def execute(command, log, seconds, environment=None):
    """Exit code (None where it was not done in time) and output of a command. It is logged with its output when it has
    ended, so that they stay together where others run beside it."""
    environment = environment or {}
    # Its own session, so that what it started ends with it when its time is over.
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                                   env={**os.environ, **environment})  # fmt: skip
        running.add(process)
        if stopping.is_set():  # since this was begun
            kill(process)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            running.discard(process)
            if process.returncode is None:
                kill(process)
                process.wait()
            output.seek(0)
            text = output.read()
            words = [*(f"{name}={value}" for name, value in environment.items()), *command]
            with log_lock:
                log.write(f"\n$ {shlex.join(words)}\n{text}")
                log.flush()
    return code, text


def run_item(item, log, end):
    """Runs an item until `end` at most. What was interrupted on the way, and so was killed, has shown nothing."""
    begin = time.monotonic()
    allowed = min(item.seconds, end - begin)
    try:
        code, text = execute(item.command, log, allowed)
    except OSError as why_not:
        return judged(False, why=f"{item.command[0]} cannot be started: {why_not.strerror}")
    if stopping.is_set():
        return INTERRUPTED
    if code is not None:
        result = item.judge(code, text)
    elif allowed < item.seconds:
        result = {"state": "unfinished", "why": f"the {allowed:.0f} s that were left were not enough"}
    else:
        begun = f", in {first_failed_test(text)}" if item.alone and first_failed_test(text) else ""
        result = {"state": item.when_late, "why": f"was not done in {item.seconds} s{begun}"}
    # What hangs is not begun again: it would hang again.
    if code is not None and result["state"] == "failed" and item.alone and (test := first_failed_test(text)):
        result["alone"] = run_alone(item.alone(test), test, log, min(item.seconds, end - time.monotonic()))
        if stopping.is_set():
            return INTERRUPTED
    return {**result, "command": shlex.join(item.command), "wall_seconds": round(time.monotonic() - begin, 1)}


def run_alone(command, test, log, seconds):
    """Where the first failed test fails by itself: a fault of one kernel makes every later test of its process fail."""
    if seconds <= 0:
        return {"test": test, "why": "no time was left to run it alone"}
    code, text = execute([str(word) for word in command], log, seconds, {"CUDA_LAUNCH_BLOCKING": "1"})
    return {"test": test, "exit_code": code, "output": text[-4000:]}


def state_of(results, complete):
    states = {result["state"] for result in results.values()}
    if not complete or "unfinished" in states:
        return "unfinished"
    if "failed" in states:
        return "failed"
    return "passed" if "passed" in states else "reported" if "reported" in states else "not run"


def what_is_tried(context):
    return {"bundle": identity(), "device": context.device, "card": context.card}


def read_record(path, context):
    """Of the same programs on the same card; nothing where there is none."""
    record = json.loads(path.read_text()) if path.exists() else {}
    return record if all(record.get(key) == value for key, value in what_is_tried(context).items()) else {}


def finish(begun):
    """Waits for all of it, and raises what one of them raised."""
    for future in begun:
        future.result()
    begun.clear()


def stop_what_runs(pool):
    stopping.set()
    pool.shutdown(wait=False, cancel_futures=True)
    for process in list(running):
        kill(process)


def run_stage(name, context, again, seconds):
    path = context.out / f"{name}.json"
    record = read_record(path, context)
    results = record.get("items", {})
    if again:
        record, results = {}, {n: result for n, result in results.items() if not context.chose(n)}
    if record.get("state") in ("passed", "failed", "reported", "not run"):
        if name not in context.finished:
            print(f"{name}: finished before ({record['state']})", flush=True)
        context.finished.add(name)
        return record
    record = {"stage": name, **what_is_tried(context), "items": results}
    end, complete, left = min(time.monotonic() + seconds, context.end), True, []
    open_still = lambda item: results.get(item.name, {}).get("state", "unfinished") == "unfinished"
    kept = threading.Lock()
    with open(context.out / f"{name}.log", "a", encoding="utf-8") as log:

        def attempt(item):
            in_time = lambda: time.monotonic() + item.expected <= end and not stopping.is_set()
            while context.chose(item.name) and open_still(item) and in_time():
                result = run_item(item, log, end)
                with kept:
                    results[item.name] = result
                    print(f"{name}: {item.name}: {result['state']} {result.get('why', '')}", flush=True)
                    save(path, {**record, "state": "unfinished"})
                    # Also now, because whoever ends this from outside may leave it no time.
                    archive(context.out)

        items = []
        with concurrent.futures.ThreadPoolExecutor(context.jobs) as pool:
            begun = []
            try:
                for item in STAGES[name](context):
                    items.append(item)
                    if not item.beside:
                        finish(begun)
                    begun.append(pool.submit(attempt, item))
                    if not item.beside:
                        finish(begun)
                finish(begun)
            except BaseException:
                stop_what_runs(pool)
                raise
        for item in filter(open_still, items):
            complete = False
            if context.chose(item.name):
                left.append(item.name)
    if name == "quality":
        check_same_bits(results)
    record["state"] = state_of(results, complete)
    record["left"] = left
    record["date"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    save(path, record)
    return record


def summary_of(record):
    """What a stage's line in the table says."""
    items = record.get("items", {})
    if record["state"] == "no GPU":
        return record["why"]
    if record["stage"] == "nets":
        lines = (f"{i['images_per_second']:,.0f} images/s, step / products {i['step_over_products']:.2f}, "
                 f"{i.get('step_share_of_peak', math.nan):.0%} of the peak"
                 if "step_over_products" in i else f"{i['state']} {i.get('why', '')}" for i in items.values())  # fmt: skip
        return "".join(f"\n           {name:16} {line}" for name, line in zip(items, lines))
    if record["stage"] == "quality":
        return "; ".join(f"{n}: {i['seconds_to_target']} s to {TARGET_NATS} nats" if "seconds_to_target" in i
                         else f"{n}: {i['state']} {i.get('why', '')}" for n, i in items.items())  # fmt: skip
    failed = [f"{n} ({', '.join(i['failed']) if i.get('failed') else i.get('why', '')})" for n, i in items.items() if i["state"] == "failed"]
    not_run = [f"{n} ({i.get('why', '')})" for n, i in items.items() if i["state"] == "not run"]
    reported = [f"{n} ({i.get('summary', i.get('why', ''))})" for n, i in items.items() if i["state"] == "reported"]
    ran = sum(len(i.get("passed", [])) for i in items.values())
    parts = [f"{sum(i['state'] == 'passed' for i in items.values())} of {len(items)} passed"]
    parts += [f"{ran} tests passed"] if ran else []
    parts += [f"failed: {'; '.join(failed)}"] if failed else []
    parts += [f"reported: {'; '.join(reported)}"] if reported else []
    parts += [f"not run: {'; '.join(not_run)}"] if not_run else []
    parts += [f"left: {'; '.join(record['left'])}"] if record.get("left") else []
    return ", ".join(parts)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="gpu_check.sh run", description="scripts/gpu_check.sh --help says what the stages are")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("results"))
    parser.add_argument("--items", action="append", metavar="TEXT", help="only items whose name has this; may be given again")
    parser.add_argument("--seconds", type=float, help="of all stages: begins nothing that is expected to take longer")
    parser.add_argument("--again", action="store_true", help="also what is finished")
    parser.add_argument("--cpu-half", action="store_true", help="only train the CPU's half of `quality`, for runs of this bundle")
    parser.add_argument("--jobs", type=int, default=max(1, min(8, (os.cpu_count() or 1) // 2)), metavar="N",
                        help="how many items that measure no time run at once (default: %(default)s)")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: small machines, to try the script")
    parser.add_argument("--peer-python", default="python3", help="interpreter that has PyTorch")
    parser.add_argument("--jax-python", default="python3", help="interpreter that has JAX")
    arguments = parser.parse_args()
    for stage in arguments.stages:
        if stage not in STAGES:
            parser.error(f"there is no stage '{stage}'; expected {', '.join(STAGES)}")
    if arguments.jobs < 1:
        parser.error(f"--jobs {arguments.jobs}: expected 1 or more")
    arguments.out = arguments.out.resolve()
    return arguments


def run_stages(stages, context, again, records):
    """Keeps the latest record of each stage in `records`, which the caller has also when this is interrupted."""
    missing = why_no_gpu() if context.cuda else ""
    passes = [(name, seconds) for seconds in ((FIRST_SECONDS, STAGE_SECONDS) if len(stages) > 1 else (STAGE_SECONDS,)) for name in stages]
    for place, (name, seconds) in enumerate(passes):
        if missing:
            record = {"stage": name, "state": "no GPU", "why": f"needs a GPU, and none answers: {missing}"}
            if not (context.out / f"{name}.json").exists():
                save(context.out / f"{name}.json", record)
        else:
            record = run_stage(name, context, again and place < len(stages), seconds)
        records[name] = record
        archive(context.out)


def archive(folder):
    """All of the folder as one file in it, whole or not there."""
    temporary = folder / f"{ARCHIVE}.new"
    with tarfile.open(temporary, "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            if path.name not in (ARCHIVE, temporary.name):
                tar.add(path, arcname=path.name)
    temporary.replace(folder / ARCHIVE)


def interrupt(number, frame):
    """Once: what follows, the tables and the archive, is not interrupted."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(number)


def print_tables(records, context):
    print()
    for record in records:
        print(f"{record['stage']:10} {record['state']:10} {summary_of(record)}")
    contests = [context.out / item["result"] for record in records if record["stage"] == "peers"
                for item in record.get("items", {}).values() if "result" in item]  # fmt: skip
    if contests:
        print(flush=True)
        subprocess.run([sys.executable, ROOT / "bench" / "gpu.py", "--table", *contests], check=True)


def exit_code_of(records, context):
    """Of the items that were asked for."""
    if any(record["state"] == "no GPU" for record in records):
        return NO_GPU
    asked_for = [item for record in records for name, item in record["items"].items() if context.chose(name)]
    if any(record.get("left") for record in records):
        return UNFINISHED
    if context.words and not asked_for:
        print(f"gpu_check.sh: no item of these stages has {' or '.join(context.words)} in its name; --dry-run lists them.", file=sys.stderr)
        return REFUSED
    return int(any(item["state"] == "failed" for item in asked_for))


def main():
    arguments = parse_arguments()
    context = Context(arguments)
    stages = arguments.stages or list(STAGES)
    records, interruption = {}, 0
    try:
        if arguments.cpu_half:
            train_cpu_half(context)
            return 0
        if arguments.dry_run:
            for name in stages:
                for item in (item for item in STAGES[name](context) if context.chose(item.name)):
                    print(f"{name}: {item.name}: {shlex.join(item.command)}")
            return 0
        arguments.out.mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupt)
        run_stages(stages, context, arguments.again, records)
    except Interrupted as by:
        print(f"\ngpu_check.sh: interrupted by {signal.Signals(by.args[0]).name}; run goes on there.", file=sys.stderr)
        interruption = by.args[0]
        for name in stages:  # the one that was interrupted has more by now
            if record := read_record(context.out / f"{name}.json", context):
                records[name] = record
    finally:
        shutil.rmtree(context.scratch, ignore_errors=True)
        if not (arguments.dry_run or arguments.cpu_half) and arguments.out.is_dir():
            archive(arguments.out)
    records = list(records.values())
    print_tables(records, context)
    print(f"\nall of it: {arguments.out / ARCHIVE}, {(arguments.out / ARCHIVE).stat().st_size:,} bytes")
    return 128 + interruption if interruption else exit_code_of(records, context)


if __name__ == "__main__":
    sys.exit(main())
