#!/usr/bin/env python3
"""Measures the engine against the PyTorch peer, in one run and alternating, and records everything as JSON.

First the peer proves itself correct and is tried in every setting (threads, waiting policy, BLAS library, MKL's
AVX-512 products); the fastest is its setting from there on. Then engine and peer run in turn, and each pair of
neighbours gives one ratio, so that a machine that changes its speed changes it for both.

    bench/compare.py --engine build/bench/wakesleep --peer-python python3
    bench/compare.py --engine build/bench/wakesleep --peer-python python3 --algorithm reweighted-wake-sleep --samples 10
"""

import argparse
import contextlib
import datetime
import glob
import itertools
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

BENCH = pathlib.Path(__file__).resolve().parent
PEERS = {
    "wake-sleep": BENCH / "peers" / "pytorch_wake_sleep.py",
    "reweighted-wake-sleep": BENCH / "peers" / "pytorch_reweighted_wake_sleep.py",
}
MKL_SHIM = BENCH / "peers" / "mkl_all_processors.c"
SETTING_VARIABLES = ("OMP_WAIT_POLICY", "LD_PRELOAD", "LD_LIBRARY_PATH", "BLIS_NUM_THREADS")


def run(command, environment=None):
    """Standard output of a command, which must succeed."""
    surroundings = {name: value for name, value in os.environ.items() if name not in SETTING_VARIABLES}
    done = subprocess.run(
        [str(word) for word in command], env={**surroundings, **(environment or {})}, text=True, stdout=subprocess.PIPE
    )
    if done.returncode != 0:
        sys.exit(f"compare.py: '{' '.join(map(str, command))}' ended with {done.returncode}; its message stands above.")
    return done.stdout


def run_json(command, environment=None):
    return json.loads(run(command, environment).splitlines()[-1])


def samples_of(arguments):
    """As options: wake-sleep has none."""
    return ["--samples", arguments.samples] if arguments.algorithm == "reweighted-wake-sleep" else []


class Engine:
    def __init__(self, arguments):
        self.arguments = arguments

    def measure(self, batch_size):
        a = self.arguments
        # Half of the engine's time goes to its bare products, hence twice the seconds.
        return run_json(
            [a.engine, "bench", "--algorithm", a.algorithm]
            + samples_of(a)
            + ["--layers", a.layers, "--batch-size", batch_size, "--optimizer", a.optimizer]
            + ["--weight-bits", a.weight_bits, "--device", "cpu", "--threads", a.threads]
            + ["--seconds", 2 * a.seconds, "--rounds", 3, "--json", "--quiet"]
        )


class Peer:
    """The peer in one setting: an interpreter, a number of threads, and variables of the environment."""

    def __init__(self, arguments, python, threads, environment):
        self.arguments, self.python, self.threads, self.environment = arguments, python, threads, environment
        self.script = PEERS[arguments.algorithm]

    def check(self):
        run([self.python, self.script, "--check"])

    def measure(self, batch_size, seconds=None):
        a = self.arguments
        return run_json(
            [self.python, self.script, "--layers", a.layers, "--batch-size", batch_size, "--optimizer", a.optimizer]
            + samples_of(a)
            + ["--threads", self.threads, "--seconds", seconds or a.seconds, "--rounds", 3, "--json"],
            self.environment,
        )

    def describe(self):
        # Which folder the shim was compiled into says nothing to a reader.
        shown = {name: os.path.basename(value) if name == "LD_PRELOAD" else value
                 for name, value in self.environment.items()}  # fmt: skip
        return {"threads": self.threads, "environment": shown}


def compile_shim(folder):
    shim = pathlib.Path(folder) / "mkl_all_processors.so"
    run(["cc", "-shared", "-fPIC", "-o", shim, MKL_SHIM])
    return shim


def blas_environments(blas, mkl, shim):
    """Variables that choose the library, or its instructions, behind torch's products."""
    if "Math Kernel" in blas:
        return {"as-shipped": [{}], "avx512": [{"LD_PRELOAD": str(shim)}], "best": [{}, {"LD_PRELOAD": str(shim)}]}[mkl]
    folders = sorted({os.path.dirname(path) for path in glob.glob("/usr/lib/*/*blas-*/libblas.so.3")}
                     | {os.path.dirname(path) for path in glob.glob("/usr/lib/*/blis-*/libblas.so.3")})  # fmt: skip
    return [{"LD_LIBRARY_PATH": folder} for folder in folders] or [{}]


def candidates(arguments, shim):
    """Every setting of the peer that is worth trying here, once it has proved itself with each interpreter."""
    for python in arguments.peer_python:
        peer = Peer(arguments, python, 1, {})
        peer.check()
        probe = peer.measure(arguments.batch_sizes[0], seconds=0.1)
        for environment, waiting, threads in itertools.product(
            blas_environments(probe["blas"], arguments.mkl, shim),
            ({}, {"OMP_WAIT_POLICY": "passive"}, {"OMP_WAIT_POLICY": "active"}),
            sorted({1, arguments.threads}),
        ):
            # BLIS takes one thread unless told; nothing else reads its variable.
            blis = {"BLIS_NUM_THREADS": str(threads)} if "blis" in str(environment) else {}
            yield Peer(arguments, python, threads, {**environment, **waiting, **blis})


def best_peer(peers, batch_size, seconds):
    """The fastest of the peers and a record of how fast each was."""
    tried = []
    for peer in peers:
        result = peer.measure(batch_size, seconds)
        speed = result["images_per_second"]
        tried.append({**peer.describe(), "torch": result["torch"], "blas": result["blas"], "images_per_second": speed})
        print(f"  torch {result['torch']:14} {peer.describe()}: {speed:,.0f} images/s")
        if speed == max(entry["images_per_second"] for entry in tried):
            best = peer
    return best, tried


def alternate(engine, peer, batch_size, rounds):
    results = []
    for _ in range(rounds):
        ours, theirs = engine.measure(batch_size), peer.measure(batch_size)
        ratio = ours["images_per_second"] / theirs["images_per_second"]
        results.append({"engine": ours, "peer": portable(theirs), "ratio": ratio})
        print(f"  engine {ours['images_per_second']:>9,.0f}   peer {theirs['images_per_second']:>9,.0f}"
              f"   ratio {ratio:.2f}   step / bare products {ours['step_over_products']:.2f}")  # fmt: skip
    return results


def portable(peer_result):
    """The result without the variables of the environment, which stand once, under the peer's setting."""
    return {name: value for name, value in peer_result.items() if name != "environment"}


def summary(results):
    of = lambda side, key: statistics.median(r[side][key] for r in results)
    ratios = [r["ratio"] for r in results]
    return {
        "engine_images_per_second": of("engine", "images_per_second"),
        "peer_images_per_second": of("peer", "images_per_second"),
        "engine_step_ms": of("engine", "step_ms"),
        "peer_step_ms": of("peer", "step_ms"),
        "step_over_products": of("engine", "step_over_products"),
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def device():
    """Name and abilities of the processor, from lscpu."""
    fields = {entry["field"].rstrip(":"): entry["data"] for entry in json.loads(run(["lscpu", "--json"]))["lscpu"]}
    flags = fields.get("Flags", "").split()
    return {
        "name": fields.get("Model name", "unknown"),
        "family": fields.get("CPU family"),
        "model": fields.get("Model"),
        "processors": os.cpu_count(),
        "instructions": [flag for flag in flags if re.match(r"avx|amx|fma", flag)],
    }


def commit():
    """The commit that this script lies in, marked when files differ from it."""
    with contextlib.suppress(OSError):
        git = lambda *words: subprocess.run(["git", "-C", BENCH, *words], capture_output=True, text=True)
        if (head := git("rev-parse", "HEAD")).returncode == 0:
            return head.stdout.strip() + (" with changes" if git("status", "--porcelain").stdout.strip() else "")
    return "unknown"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", required=True, help="the wakesleep command")
    parser.add_argument("--peer-python", required=True, nargs="+", help="Python interpreters that have torch")
    parser.add_argument("--algorithm", choices=PEERS, default="wake-sleep")
    parser.add_argument("--samples", type=int, default=5, help="hidden states for each image, of reweighted-wake-sleep")
    parser.add_argument("--layers", default="784,200,200,200", help="widths of all layers, the visible one first")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--optimizer", choices=("sgd", "momentum", "adam"), default="momentum")
    parser.add_argument("--weight-bits", type=int, choices=(16, 12, 8), default=16, help="of the engine")
    parser.add_argument("--threads", type=int, default=2, help="of the engine; the peer takes 1 or as many")
    parser.add_argument("--mkl", choices=("best", "as-shipped", "avx512"), default="best",
                        help="whether MKL may use AVX-512 on a processor that is not Intel's")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=7, help="pairs of measurements, at least 5")
    parser.add_argument("--seconds", type=float, default=4, help="of training in each measurement")
    parser.add_argument("--tuning-seconds", type=float, default=2, help="for each setting of the peer")
    parser.add_argument("--out", type=pathlib.Path, default=BENCH / "results", help="folder for the JSON")
    arguments = parser.parse_args()
    if arguments.rounds < 5:
        parser.error("argument --rounds: at least 5 pairs are needed for a median that means something")
    return arguments


def main():
    arguments = parse_arguments()
    date = datetime.datetime.now(datetime.timezone.utc)
    record = {
        "date": date.isoformat(timespec="seconds"),
        "commit": commit(),
        "device": device(),
        "load_average_before": os.getloadavg()[0],
        "settings": {name: value for name, value in vars(arguments).items()
                     if name not in ("engine", "peer_python", "out")},
        "measurements": [],
    }  # fmt: skip
    print(f"{record['device']['name']}, {record['device']['processors']} processors, "
          f"load average {record['load_average_before']:.1f}")  # fmt: skip
    if record["load_average_before"] > 0.5:
        print("Something else is running: these figures describe a busy machine.")
    engine = Engine(arguments)
    with tempfile.TemporaryDirectory() as folder:
        peers = list(candidates(arguments, compile_shim(folder)))
        for batch_size in arguments.batch_sizes:
            print(f"batch {batch_size}: the peer's settings")
            peer, tried = best_peer(peers, batch_size, arguments.tuning_seconds)
            print(f"batch {batch_size}: engine and peer in turn, peer with {peer.describe()}")
            rounds = alternate(engine, peer, batch_size, arguments.rounds)
            result = summary(rounds)
            print(f"  medians: engine {result['engine_images_per_second']:,.0f} images/s, peer "
                  f"{result['peer_images_per_second']:,.0f}, ratio {result['ratio_median']:.2f} "
                  f"({result['ratio_min']:.2f} to {result['ratio_max']:.2f})")  # fmt: skip
            record["measurements"].append(
                {"batch_size": batch_size, "summary": result, "peer_setting": peer.describe(), "peer_tuning": tried,
                 "rounds": rounds}
            )  # fmt: skip
    record["load_average_after"] = os.getloadavg()[0]
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"compare-{arguments.algorithm}-{date:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"recorded in {path}")


if __name__ == "__main__":
    main()
