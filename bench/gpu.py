#!/usr/bin/env python3
"""Measures the CUDA engine against its peers on one GPU, round by round in turn, and records everything as JSON.

For each net: every setting of the peers proves itself correct (once) and is tried; the fastest eager setting, the
fastest CUDA graph and, for the smallest net, the fastest `lax.scan` of JAX are kept. The engine is tried with both
routes of its products for each number of weight bits, and on the smallest net with its steps replayed as a graph, as one
persistent kernel, and as it chooses itself. Then all that were kept run in turn, a round each, and each round gives one
ratio, so that a GPU that changes its clock changes it for all. Plain SGD throughout. The net `reweighted` is (a) trained
by reweighted wake-sleep with ten samples.

The settings that are likely to be the fastest are tried and measured in turn first: that record says "provisional",
and is replaced when a faster setting was found, or none; `--likeliest` ends with it, where time on a GPU is short. The
peers of these settings are started at the beginning, those of all nets at the same time, and run until their net is
done: the GPU's memory must hold them all, or the nets be measured in several calls. What was found so far is kept in
OUT/progress-gpu.json: after `--budget` seconds the script stops with exit code 75, and goes on there when it is called
again.

    bench/gpu.py --engine build/release/wakesleep --net a c d e
    bench/gpu.py --engine build/release/wakesleep --likeliest --rounds 3 --seconds 0.3 --tuning-seconds 0.1
    bench/gpu.py --table bench/results/gpu-*.json
"""

import argparse
import concurrent.futures
import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import compare

BENCH = pathlib.Path(__file__).resolve().parent
PYTORCH = BENCH / "peers" / "pytorch_gpu_wake_sleep.py"
PYTORCH_REWEIGHTED = BENCH / "peers" / "pytorch_gpu_reweighted_wake_sleep.py"
JAX = BENCH / "peers" / "jax_wake_sleep.py"
UNFINISHED, NO_GPU = 75, 69
START_SECONDS = 150  # a peer that compiles, searches or proves itself for longer is not waited for
RUN_SECONDS = 200  # nor a measurement of the engine
CHECKS_AT_ONCE = 8
STARTS_AT_ONCE = 64  # more than all nets have peers

NETS = {
    "a": ([784, 200, 200, 200], 100),
    "c": ([4096] * 10, 4096),
    "d": ([1024] * 1000, 1024),
    "e": ([16384] * 4, 8192),
    "reweighted": ([784, 200, 200, 200], 100),
    "tiny": ([64, 32, 16], 32),  # to try the script
    "tiny-reweighted": ([64, 32, 16], 32),
}
SAMPLES = {"reweighted": 10, "tiny-reweighted": 3}  # of reweighted wake-sleep; the others train by wake-sleep
# What is divided, the goal for each net, and the aim beyond it. Steps over products: at most; speeds: at least.
GOALS = (
    ("step / bare products, 8-bit", {"a": 1.6, "c": 1.25, "d": 1.3, "e": 1.10}, {"a": 0.5, "c": 1.10, "d": 1.0, "e": 1.05}),
    ("step / bare products, 16-bit", {"a": 1.6, "c": 1.25, "d": 1.3, "e": 1.10}, {"a": 0.5, "c": 1.10, "d": 1.0, "e": 1.05}),
    ("speed / graph, 8-bit", {"a": 8, "c": 1.3, "d": 2.5, "e": 1.4, "reweighted": 8}, {}),
    ("speed / graph, 16-bit", {}, {}),
    ("speed / eager, 8-bit", {"a": 20, "c": 1.4, "d": 5, "e": 1.4}, {}),
    ("speed / eager, 16-bit", {}, {}),
    ("speed / jax, 8-bit", {}, {}),
    ("speed / jax, 16-bit", {}, {}),
)  # fmt: skip


class Unfinished(Exception):
    """The budget is spent; what was found is kept."""


class Failed(Exception):
    """A program ended with an error or took too long."""


class Interrupted(Exception):
    """By the signal that is its argument."""


# ---------------------------------------------------------------------------------------------------- programs


running, stopping = set(), threading.Event()


def begin(command, **streams):
    """Starts a program, which ends with this script at the latest (end_all)."""
    # In the process group of this script: whoever kills that, which nothing here can answer, ends the program as well.
    try:
        process = subprocess.Popen([str(word) for word in command], text=True, **streams)
    except OSError as why_not:
        raise Failed(f"cannot be started: {why_not.strerror}") from None
    running.add(process)
    if stopping.is_set():  # since this was begun
        process.kill()
    return process


def end(process):
    process.kill()
    process.wait()
    running.discard(process)


def end_all():
    stopping.set()
    processes = list(running)
    for process in processes:
        process.kill()
    for process in processes:
        end(process)


def interrupt(number, frame):
    """Once: what follows, the end of all programs, is not interrupted."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda *_: None)
    raise Interrupted(number)


def run(command, seconds):
    """Exit code, output and error output of a program."""
    process = begin(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Failed(f"took over {seconds} s") from None
    finally:
        end(process)
    return process.returncode, output, errors


def run_json(command):
    """The last line that a command prints, which is JSON."""
    code, output, errors = run(command, RUN_SECONDS)
    if code != 0:
        raise Failed(f"ended with {code}: {last_line(errors)}")
    return json.loads(output.splitlines()[-1])


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


class Served:
    """A peer that has been started once and measures a round whenever it is told to."""

    def __init__(self, command):
        self.errors = tempfile.TemporaryFile("w+", errors="replace")
        self.process = begin([*command, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)
        self.description = self.answer()

    def answer(self):
        asked = time.monotonic()
        alarm = threading.Timer(START_SECONDS, self.process.kill)
        alarm.start()
        try:
            line = self.process.stdout.readline()
            if line:
                return json.loads(line)
            code = self.process.wait()
        except ValueError:
            self.close()
            raise Failed("answered with something else than JSON") from None
        finally:
            alarm.cancel()
        self.close()
        if time.monotonic() - asked >= START_SECONDS:
            raise Failed(f"took over {START_SECONDS} s")
        self.errors.seek(0)
        raise Failed(f"ended with {code}: {last_line(self.errors.read())}")

    def measure(self, seconds):
        with contextlib.suppress(BrokenPipeError):  # it has ended; `answer` says why
            self.process.stdin.write(f"{seconds}\n")
            self.process.stdin.flush()
        return self.answer()

    def close(self):
        """Without waiting for an orderly end, which takes seconds that nothing can be measured in."""
        end(self.process)
        with contextlib.suppress(BrokenPipeError):  # of what it was asked and did not read
            self.process.stdin.close()


# ---------------------------------------------------------------------------------------------------- settings to try


def graph_steps(net):
    """As many steps as an engine's recording holds, fewer where a graph would have too many nodes."""
    return 1 if len(NETS[net][0]) > 100 else 8


def pytorch_settings(net, device):
    """(kind, options) of every setting of the PyTorch peer that is worth trying, the first of each kind the likeliest."""
    for precision in ("bf16", "tf32", "float32"):
        yield "eager", ["--precision", precision]
    if device == "cpu":
        return
    graph = ["--graph", str(graph_steps(net))]
    bf16 = [*graph, "--precision", "bf16", "--body", "compiled"]
    if net == "a":  # 89.3 microseconds a step on an H200, and 90.9 without the second stream
        yield "graph", [*bf16, "--branches", "2"]
    for precision in ("bf16", "tf32", "float32"):
        yield "graph", [*graph, "--precision", precision, "--body", "compiled"]
    yield "graph", [*graph, "--precision", "bf16"]
    if net != "a":
        yield "graph", [*bf16, "--branches", "2"]
    if net not in SAMPLES:  # whose weights are all copied at a phase's end
        yield "graph", [*bf16, "--branches", "2", "--cast", "layer"]
        yield "graph", [*bf16, "--cast", "layer"]
    yield "graph", [*bf16, "--pad", "64"]
    yield "graph", [*bf16, "--autotune"]


def jax_settings(net):
    if net in ("a", "tiny"):
        for precision in ("bf16", "tf32"):
            for generator in ("unsafe_rbg", "threefry2x32"):
                yield "jax", ["--precision", precision, "--generator", generator]


def name_of(kind, options):
    return f"{kind} {' '.join(options)}"


class Contest:
    """One net: who takes part, which peers run, what was found so far."""

    starters = concurrent.futures.ThreadPoolExecutor(STARTS_AT_ONCE)

    def __init__(self, arguments, net, progress):
        self.peers = {}  # by name_of their settings: the futures of what is Served
        self.arguments, self.net, self.progress = arguments, net, progress
        self.sizes, self.batch_size = NETS[net]
        self.found = progress.data.setdefault("nets", {}).setdefault(
            net, {"peers": {}, "engine": {}, "kept": None, "rounds": []}
        )
        self.samples = ["--samples", str(SAMPLES[net])] if net in SAMPLES else []

    def source(self, kind):
        return JAX if kind == "jax" else PYTORCH_REWEIGHTED if self.samples else PYTORCH

    def peer(self, kind, options):
        python = self.arguments.jax_python if kind == "jax" else self.arguments.peer_python
        return [*shlex.split(python), str(self.source(kind)), "--device", self.arguments.device, *options, *self.samples]

    def shape(self):
        return ["--layers", ",".join(map(str, self.sizes)), "--batch-size", str(self.batch_size)]

    def engine(self, bits, route, replay, seconds):
        # Not quite half of the time goes to the bare products, and a tenth to the peak.
        algorithm = ["--algorithm", "reweighted-wake-sleep", *self.samples] if self.samples else []
        return [*shlex.split(self.arguments.engine), "bench", *self.shape(), "--optimizer", "sgd", *algorithm,
                "--weight-bits", str(bits), "--route", route, "--replay", replay, "--device", self.arguments.device,
                "--seconds", str(2 * seconds), "--rounds", "1", "--json", "--quiet"]  # fmt: skip

    def routes(self):
        return ("int8", "float32") if self.arguments.device == "cpu" else ("int8", "fp16")

    def ways(self):
        """(route, replay) of every setting of the engine that is tried, the likeliest first."""
        ways = [(route, "fastest" if self.arguments.persistent else "graph") for route in self.routes()]
        if self.arguments.persistent and self.net in ("a", "tiny") and self.arguments.device == "cuda":
            ways += [("int8", "graph"), ("int8", "persistent")]
        return ways[:1] if self.arguments.likeliest else ways

    def settings(self):
        settings = [*pytorch_settings(self.net, self.arguments.device), *jax_settings(self.net)]
        return self.likeliest(settings) if self.arguments.likeliest else settings

    def commands(self):
        for kind, options in self.settings():
            command = self.peer(kind, options)
            yield [*command, "--check"]
            yield [*command, *self.shape(), "--serve"]
        for bits in self.arguments.weight_bits:
            for route, replay in self.ways():
                yield self.engine(bits, route, replay, self.arguments.seconds)

    # -------------------------------------------------------------------------------------- finding the fastest

    def likeliest(self, settings):
        """The first setting of each kind."""
        kinds = {}
        for kind, options in settings:
            kinds.setdefault(kind, options)
        return list(kinds.items())

    def check_key(self, kind, options):
        """A setting proves itself on small machines; once for all nets, as long as the peer's source stays the same."""
        source = hashlib.sha256(self.source(kind).read_bytes()).hexdigest()[:16]
        return f"{source} {self.arguments.device} {' '.join([*options, *self.samples])}"

    def unchecked(self, settings):
        """The commands of checks whose verdicts are not known, by their keys."""
        checks = self.progress.data.setdefault("checks", {})
        keys = {self.check_key(*setting): [*self.peer(*setting), "--check"] for setting in settings}
        return {key: command for key, command in keys.items() if key not in checks}

    def first_peers(self):
        """Settings that this begins with, as far as they did not fail: none where others are being tried already."""
        failed = lambda setting: "failed" in self.found["peers"].get(name_of(*setting), {})
        if "file" in self.found:
            return []
        return [setting for setting in self.likeliest(self.settings()) if not failed(setting)]

    def start(self, settings):
        """Starts those of the peers that do not run, all at the same time. Returns what to wait for."""
        for kind, options in settings:
            name = name_of(kind, options)
            if name not in self.peers:
                self.peers[name] = self.starters.submit(Served, [*self.peer(kind, options), *self.shape()])
        return [self.peers[name_of(*setting)] for setting in settings]

    def close(self, names):
        for future in [self.peers.pop(name) for name in names]:
            if future.exception() is None:
                future.result().close()

    def close_slower(self):
        """The peers that were tried and are not the fastest of their kind: whoever runs takes memory on the GPU."""
        fastest = self.fastest(self.found["peers"].values(), "kind").values()
        kept = {name_of(entry["kind"], entry["options"]) for entry in fastest}
        self.close((self.peers.keys() & self.found["peers"].keys()) - kept)

    def try_peers(self, settings):
        untried = [setting for setting in settings if name_of(*setting) not in self.found["peers"]]
        if not untried:
            return
        self.progress.pause_if_spent()
        check(self.unchecked(untried), self.progress)
        for kind, options in untried:
            name = name_of(kind, options)
            self.progress.pause_if_spent()
            entry = {"kind": kind, "options": options}
            try:
                verdict = self.progress.data["checks"][self.check_key(kind, options)]
                if verdict != "ok":
                    raise Failed(f"is not correct or does not run: {verdict}")
                served = self.start([(kind, options)])[0].result()
                entry.update(served.measure(self.arguments.tuning_seconds))
                entry["setting"] = served.description
                print(f"  {name}: {entry['images_per_second']:,.0f} images/s", flush=True)
            except Failed as why:
                entry["failed"] = str(why)
                print(f"  {name}: {why}", flush=True)
            self.found["peers"][name] = entry
            self.progress.save()
            self.close_slower()

    def try_engine(self, ways):
        for bits in self.arguments.weight_bits:
            for route, replay in ways:
                key = f"{bits} {route} {replay}"
                if key in self.found["engine"]:
                    continue
                self.progress.pause_if_spent()
                entry = {"bits": bits, "route": route, "replay": replay}
                try:
                    entry.update(run_json(self.engine(bits, route, replay, self.arguments.tuning_seconds)))
                    print(f"  engine, {bits}-bit, {route}, {replay}: {entry['images_per_second']:,.0f} images/s, "
                          f"step / products {entry['step_over_products']:.2f}", flush=True)  # fmt: skip
                except Failed as why:
                    entry["failed"] = str(why)
                    print(f"  engine, {bits}-bit, {route}, {replay}: {why}", flush=True)
                self.found["engine"][key] = entry
                self.progress.save()

    @staticmethod
    def fastest(entries, key):
        best = {}
        for entry in entries:
            name = entry[key]
            if "failed" not in entry and entry["images_per_second"] > best.get(name, {"images_per_second": 0})["images_per_second"]:
                best[name] = entry
        return best

    # -------------------------------------------------------------------------------------- in turn

    def kept(self):
        """The fastest setting of each kind of peer, and of the engine for each number of weight bits."""
        if self.arguments.likeliest:  # has no rival; a trial would take another start, which is most of a short round
            [(route, replay)] = self.ways()
            engines = {bits: {"bits": bits, "route": route, "replay": replay} for bits in self.arguments.weight_bits}
        else:
            engines = self.fastest(self.found["engine"].values(), "bits")
        if not engines:
            raise Failed(f"the engine ran net {self.net} in no setting")
        peers = self.fastest(self.found["peers"].values(), "kind")
        return {"engine": {str(bits): entry for bits, entry in engines.items()}, "peers": peers}

    def alternate(self, kept):
        """Rounds of all that were kept, in turn; one that fails in a round takes part no longer."""
        names = lambda taking_part: {
            "engine": {bits: [e["route"], e["replay"]] for bits, e in taking_part["engine"].items()},
            "peers": {kind: e["options"] for kind, e in taking_part["peers"].items()},
        }
        if self.found["kept"] != names(kept):
            self.found.update(kept=names(kept), rounds=[])
        if len(self.found["rounds"]) >= self.arguments.rounds:
            return
        self.progress.pause_if_spent()
        settings = {kind: (kind, entry["options"]) for kind, entry in kept["peers"].items()}
        concurrent.futures.wait(self.start(settings.values()))
        self.progress.owes_a_piece = True
        served = {}
        for kind, setting in settings.items():
            try:
                served[kind] = self.start([setting])[0].result()
            except Failed as why:
                print(f"  {kind} takes no part: {why}", flush=True)
        while len(self.found["rounds"]) < self.arguments.rounds:
            self.progress.pause_if_spent()
            turn = {"engine": {}, "peers": {}}
            for bits, entry in kept["engine"].items():
                try:
                    turn["engine"][bits] = run_json(
                        self.engine(bits, entry["route"], entry["replay"], self.arguments.seconds))
                except Failed as why:
                    print(f"  engine, {bits}-bit, takes no part in this round: {why}", flush=True)
            for kind in list(served):
                try:
                    turn["peers"][kind] = served[kind].measure(self.arguments.seconds)
                except Failed as why:
                    print(f"  {kind} takes part no longer: {why}", flush=True)
                    del served[kind]
                    self.close([name_of(*settings[kind])])  # so that it may be started again
            if not turn["engine"]:
                raise Failed("the engine took part in no setting")
            self.found["rounds"].append(turn)
            self.progress.save()
            print("  " + ", ".join(f"{name} {value:.3f}" for name, value in ratios(turn).items()), flush=True)

    def measure(self):
        """Yields a provisional measurement, if that is not the last one or all that is asked for, and the last one."""
        print(f"net {self.net}: {len(self.sizes)} layers, batch {self.batch_size}", flush=True)
        settings, ways = self.settings(), self.ways()
        if self.arguments.likeliest:
            self.try_peers(settings)
            self.alternate(self.kept())
            yield self.measurement(provisional=True)
            return
        if "file" not in self.found:  # not again in a later call
            self.try_peers(self.likeliest(settings))
            self.try_engine(ways[:1])
            self.alternate(self.kept())
            yield self.measurement(provisional=True)
        self.try_peers(settings)
        self.try_engine(ways)
        self.alternate(self.kept())
        yield self.measurement(provisional=False)

    def measurement(self, provisional):
        every = [ratios(turn) for turn in self.found["rounds"]]
        names = [name for name in every[0] if all(name in turn for turn in every)]
        return {
            "net": self.net,
            "provisional": provisional,
            "layers": self.sizes,
            "batch_size": self.batch_size,
            "algorithm": "reweighted-wake-sleep" if self.samples else "wake-sleep",
            "ratios": {name: statistics.median(turn[name] for turn in every) for name in names},
            "ratio_ranges": {name: [f(turn[name] for turn in every) for f in (min, max)] for name in names},
            "images_per_second": speeds(self.found["rounds"]),
            "kept": self.kept(),
            "tried": {"peers": list(self.found["peers"].values()), "engine": list(self.found["engine"].values())},
            "rounds": self.found["rounds"],
        }


def check(commands, progress):
    """Several at a time: most of a check is the start of its interpreter, and what it compiles."""

    def outcome(command):
        try:
            code, _, errors = run(command, START_SECONDS)
        except Failed as why:
            return str(why)
        return "ok" if code == 0 else last_line(errors)

    pool = concurrent.futures.ThreadPoolExecutor(min(CHECKS_AT_ONCE, os.cpu_count() or 1))
    try:
        for key, result in zip(commands, pool.map(outcome, commands.values())):
            progress.data["checks"][key] = result
            progress.save()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # what runs yet is ended by end_all


def prepare(contests, progress):
    """Starts the peers that the contests begin with, and checks their settings meanwhile: a start is mostly that of an
    interpreter and of what it compiles, which takes one peer as long as all of them. Nothing is measured beside it."""
    starts, unchecked = [], {}
    for contest in contests:
        starts += contest.start(contest.first_peers())
        unchecked.update(contest.unchecked(contest.first_peers()))
    if starts:
        print(f"starting {len(starts)} peers and checking {len(unchecked)} settings", flush=True)
    check(unchecked, progress)
    concurrent.futures.wait(starts)
    progress.owes_a_piece = bool(starts)


def ratios(turn):
    result = {}
    for bits, engine in turn["engine"].items():
        result[f"step / bare products, {bits}-bit"] = engine["step_over_products"]
        for kind, peer in turn["peers"].items():
            result[f"speed / {kind}, {bits}-bit"] = engine["images_per_second"] / peer["images_per_second"]
    return result


def speeds(rounds):
    of = lambda side, name: [turn[side][name]["images_per_second"] for turn in rounds if name in turn[side]]
    return {f"{side} {name}": statistics.median(of(side, name)) for side in ("engine", "peers") for name in rounds[0][side]}


class Progress:
    """What was found so far, on disk after every piece, and the time that is left for more."""

    def __init__(self, path, budget, identity):
        self.path, self.end = path, time.monotonic() + budget
        # What peers were just started for is measured once, or no call would ever get beyond a start that takes long.
        self.owes_a_piece = False
        self.data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if self.data.get("identity") != identity:
            self.data = {"identity": identity}

    def save(self):
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(self.data), encoding="utf-8")
        temporary.replace(self.path)
        self.owes_a_piece = False

    def pause_if_spent(self):
        if time.monotonic() > self.end and not self.owes_a_piece:
            raise Unfinished


# ---------------------------------------------------------------------------------------------------- records


def commit():
    """Of the sources that a bundle was made from, or that this script lies in."""
    bundle = BENCH.parent / "bundle.json"
    return json.loads(bundle.read_text(encoding="utf-8"))["commit"] if bundle.exists() else compare.commit()


def gpu():
    """Name, driver and state of the GPU; ends the script where none answers."""
    fields = ("name", "driver_version", "compute_cap", "memory.total", "clocks.sm", "clocks.mem", "power.limit")
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"],
                              text=True, capture_output=True)  # fmt: skip
    except OSError as why_not:
        done = subprocess.CompletedProcess([], 1, "", why_not.strerror)
    if done.returncode != 0:
        print(f"gpu.py: no GPU answers (nvidia-smi: {last_line(done.stdout + done.stderr)}).", file=sys.stderr)
        sys.exit(NO_GPU)
    return dict(zip(fields, (value.strip() for value in done.stdout.splitlines()[0].split(","))))


def result_in(path):
    """What an earlier call recorded; ends the script where the file holds no such thing."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if not all("net" in measurement and "ratios" in measurement for measurement in result["measurements"]):
            raise ValueError("its measurements are those of another script")
        return result
    except (KeyError, TypeError):
        why_not = "it holds no measurements"
    except (OSError, ValueError) as error:
        why_not = error.strerror if isinstance(error, OSError) else error
    sys.exit(f"gpu.py: {path} cannot be read as a result of this script: {why_not}; give files that it recorded.")


def print_table(records, whole=True):
    """The goals beside what was measured, a line for each ratio and net; whole: also what was not."""
    by_net = {m["net"]: m for record in records for m in record["measurements"]}
    print(f"{'ratio':30} {'net':>15} {'goal':>8} {'aim':>8} {'measured':>9}  {'range':15} verdict")
    for name, goals, aims in GOALS:
        for net in NETS:
            measured = by_net.get(net, {}).get("ratios", {}).get(name)
            if measured is None and (net not in goals or not whole):
                continue
            sign = "<=" if name.startswith("step") else ">="
            wanted = lambda table: f"{sign} {table[net]:g}" if net in table else "-"
            met = lambda table: measured <= table[net] if sign == "<=" else measured >= table[net]
            if measured is None:
                print(f"{name:30} {net:>15} {wanted(goals):>8} {wanted(aims):>8} {'-':>9}  {'':15} not measured")
                continue
            low, high = by_net[net]["ratio_ranges"][name]
            verdict = "" if net not in goals else "missed" if not met(goals) else "met, and the aim" if net in aims and met(aims) else "met"
            verdict = "provisional " * by_net[net].get("provisional", False) + verdict
            print(f"{name:30} {net:>15} {wanted(goals):>8} {wanted(aims):>8} {measured:9.3f}  {f'{low:.3f} to {high:.3f}':15} {verdict}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", help="the wakesleep command")
    parser.add_argument("--net", nargs="+", choices=tuple(NETS), default=["a", "c", "d", "e", "reweighted"])
    parser.add_argument("--weight-bits", nargs="+", type=int, choices=(16, 12, 8), default=[8, 16])
    parser.add_argument("--peer-python", default="python3", help="interpreter that has PyTorch")
    parser.add_argument("--jax-python", default="python3", help="interpreter that has JAX")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is for trying the script")
    parser.add_argument("--likeliest", action="store_true",
                        help="only the settings that are likely to be the fastest; the record stays provisional")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="rounds in turn")
    parser.add_argument("--seconds", type=float, default=2, help="of a round, about, for each that takes part")
    parser.add_argument("--tuning-seconds", type=float, default=1, help="for each setting that is tried")
    parser.add_argument("--no-persistent", dest="persistent", action="store_false",
                        help="without the persistent kernel, which the engine may choose otherwise")  # fmt: skip
    parser.add_argument("--budget", type=float, default=240, help="seconds after which to stop, to be called again")
    parser.add_argument("--out", type=pathlib.Path, default=BENCH / "results")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    parser.add_argument("--table", nargs="+", type=pathlib.Path, metavar="FILE", help="print the table of such results and stop")
    arguments = parser.parse_args()
    if not arguments.table and not arguments.engine:
        parser.error("--engine is missing")
    return arguments


def main():
    arguments = parse_arguments()
    if arguments.table:
        print_table([result_in(path) for path in arguments.table])
        return
    if arguments.dry_run:
        for net in arguments.net:
            for command in Contest(arguments, net, Progress(pathlib.Path(os.devnull, "none"), 0, None)).commands():
                print(shlex.join(map(str, command)))
        return
    device = gpu() if arguments.device == "cuda" else compare.device()
    names = ("weight_bits", "rounds", "seconds", "device", "persistent", "likeliest")
    settings = {name: str(getattr(arguments, name)) for name in names}
    # Nothing is continued on another card, nor with other settings.
    card = {"card": device["name"], "driver": device.get("driver_version")}
    arguments.out.mkdir(parents=True, exist_ok=True)
    progress = Progress(arguments.out / "progress-gpu.json", arguments.budget, {"commit": commit(), **card, **settings})
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, interrupt)
    try:
        hold(arguments, progress, lambda contest, measurement: record(contest, measurement, device, settings))
    except Interrupted as by:
        print(f"gpu.py: interrupted by {signal.Signals(by.args[0]).name}; call again to go on.", file=sys.stderr)
        sys.exit(128 + by.args[0])
    finally:
        end_all()


def hold(arguments, progress, keep):
    """The contests of all the nets; `keep` is given every measurement."""
    nets = progress.data.setdefault("nets", {})
    over = lambda net: nets.get(net, {}).get("over", False)
    if all(over(net) for net in arguments.net):  # measured anew when asked for anew
        for net in arguments.net:
            nets.pop(net, None)
    contests = [Contest(arguments, net, progress) for net in arguments.net if not over(net)]
    prepare(contests, progress)
    for contest in contests:
        try:
            for measurement in contest.measure():
                keep(contest, measurement)
        except Unfinished:
            print(f"gpu.py: {arguments.budget:.0f} s are over; call again to go on with net {contest.net}.",
                  file=sys.stderr)  # fmt: skip
            sys.exit(UNFINISHED)
        except Failed as why:
            sys.exit(f"gpu.py: net {contest.net}: {why}.")
        contest.close(list(contest.peers))
        contest.found["over"] = True
        progress.save()


def record(contest, measurement, device, settings):
    """One file a contest: the last measurement takes the place of the provisional one."""
    arguments, date = contest.arguments, datetime.datetime.now(datetime.timezone.utc)
    name = contest.found.setdefault("file", f"gpu-{contest.net}-{date:%Y%m%dT%H%M%SZ}.json")
    contest.progress.save()
    path = arguments.out / name
    whole = {"date": date.isoformat(timespec="seconds"), "commit": contest.progress.data["identity"]["commit"],
             "device": device, "command": shlex.join(sys.argv), "settings": settings, "measurements": [measurement]}  # fmt: skip
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print("a provisional measurement:" if measurement["provisional"] else "the measurement:")
    print(f"recorded in {path}", flush=True)
    print_table([whole], whole=False)


if __name__ == "__main__":
    main()
