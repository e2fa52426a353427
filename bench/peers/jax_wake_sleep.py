#!/usr/bin/env python3
"""Wake-sleep by hand in JAX: a second peer for small stacks, where XLA's fusion and `lax.scan` may beat a CUDA graph.

The algorithm is that of host/wake_sleep.cpp with plain SGD, as in pytorch_gpu_wake_sleep.py: many steps are one
compiled `lax.scan` whose carry is the machine, donated to the next call, so that weights are updated where they lie.
Biases are the weights of a unit that is always on, and rows are padded to 16 bytes. In bf16, states, errors and the weights that the products read are
bf16, and products add up in float32 beside float32 weights. Random numbers are XLA's own generator (`rbg`), which is
faster on a GPU than JAX's default, or that (`threefry`).

It proves itself before it is timed (`--check`): updates against float64 arithmetic on the same states, mean updates
against enumeration, steps as they are timed.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import time

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves memory for what it is measured beside

import jax
import jax.numpy as jnp
import numpy
from jax import lax

INITIAL_HIDDEN_BIAS = -1.0
SYNTHETIC_BATCHES = 16  # as many as `wakesleep bench` makes
# (type of the products' operands, precision that XLA is asked for)
PRECISIONS = {
    "float32": (jnp.float32, lax.Precision.HIGHEST),
    "tf32": (jnp.float32, lax.Precision.DEFAULT),  # TF32 on GPUs that have it
    "bf16": (jnp.bfloat16, lax.Precision.DEFAULT),
}


def padding(units):
    """Columns behind a row's units: the unit that is always on, then zeros up to a multiple of 8."""
    return (units + 8) // 8 * 8 - units


class WakeSleep:
    """One step as a pure function of (machine, key, batch). A machine is {recognition, generative, prior}: weights are
    [padded sending x receiving], row `sending` the bias, zeros after it; index l - 1 joins layers l - 1 and l."""

    def __init__(self, sizes, batch_size, learning_rate, precision):
        self.sizes, self.batch_size, self.learning_rate = sizes, batch_size, learning_rate
        self.dtype, self.precision = PRECISIONS[precision]

    def initialize(self, key, visible_means):
        machine = {"recognition": [], "generative": [], "prior": jnp.full(self.sizes[-1], INITIAL_HIDDEN_BIAS)}
        visible_bias = jax.scipy.special.logit(jnp.clip(visible_means, 1e-4, 1 - 1e-4))
        for index, (below, above) in enumerate(zip(self.sizes, self.sizes[1:])):
            for name, sending, receiving in (("recognition", below, above), ("generative", above, below)):
                key, own = jax.random.split(key)
                limit = math.sqrt(6 / (sending + receiving)) / sending
                weight = jax.random.uniform(own, (sending, receiving), minval=-limit, maxval=limit)
                bias = jnp.full(receiving, INITIAL_HIDDEN_BIAS)
                if (name, index) == ("generative", 0):
                    bias = visible_bias
                zeros = jnp.zeros((padding(sending) - 1, receiving))
                machine[name].append(jnp.concatenate([weight, bias[None], zeros]))
        return machine

    def with_tail(self, states):
        tail = jnp.zeros((len(states), padding(states.shape[1])), self.dtype).at[:, 0].set(1)
        return jnp.concatenate([states.astype(self.dtype), tail], 1)

    def probabilities(self, states, weight):
        logits = lax.dot_general(states, weight.astype(self.dtype), (((1,), (0,)), ((), ())),
                                 precision=self.precision, preferred_element_type=jnp.float32)  # fmt: skip
        return jax.nn.sigmoid(logits)

    def draw(self, key, probabilities):
        uniforms = jax.random.uniform(key, (self.batch_size, probabilities.shape[-1]))
        return self.with_tail(uniforms < probabilities)

    def learned(self, weight, sending, receiving):
        """`weight` after one step of log p(receiving | sending)."""
        error = receiving[:, : weight.shape[1]].astype(jnp.float32) - self.probabilities(sending, weight)
        gradient = lax.dot_general(sending, error.astype(self.dtype), (((0,), (0,)), ((), ())),
                                   precision=self.precision, preferred_element_type=jnp.float32)  # fmt: skip
        return weight + self.learning_rate / self.batch_size * gradient

    def wake(self, machine, key, x):
        states = [self.with_tail(x)]
        for weight, own in zip(machine["recognition"], jax.random.split(key, len(self.sizes))):
            states.append(self.draw(own, self.probabilities(states[-1], weight)))
        generative = [self.learned(w, above, below)
                      for w, above, below in zip(machine["generative"], states[1:], states)]  # fmt: skip
        mean = states[-1][:, : self.sizes[-1]].astype(jnp.float32).mean(0)
        prior = machine["prior"] + self.learning_rate * (mean - jax.nn.sigmoid(machine["prior"]))
        return {**machine, "generative": generative, "prior": prior}, states

    def sleep(self, machine, key):
        keys = jax.random.split(key, len(self.sizes))
        states = [self.draw(keys[-1], jax.nn.sigmoid(machine["prior"]))]
        for weight, own in zip(reversed(machine["generative"]), keys):
            states.insert(0, self.draw(own, self.probabilities(states[0], weight)))
        recognition = [self.learned(w, below, above)
                       for w, below, above in zip(machine["recognition"], states, states[1:])]  # fmt: skip
        return {**machine, "recognition": recognition}, states

    def step(self, machine, key, x):
        wake_key, sleep_key = jax.random.split(key)
        machine, _ = self.wake(machine, wake_key, x)
        return self.sleep(machine, sleep_key)[0]


class Steps:
    """Epochs of steps, each epoch in an order drawn anew, each one call of a compiled scan."""

    def __init__(self, algorithm, machine, data, key):
        self.data = jax.device_put(data.astype(algorithm.dtype))
        self.machine, self.key = machine, key
        self.at_once = len(data) // algorithm.batch_size

        def epoch(machine, key, data):
            key, order_key = jax.random.split(key)
            order = jax.random.permutation(order_key, len(data))[: self.at_once * algorithm.batch_size]

            def body(carry, rows):
                machine, key = carry
                key, own = jax.random.split(key)
                return (algorithm.step(machine, own, data[rows]), key), None

            return lax.scan(body, (machine, key), order.reshape(self.at_once, -1))[0]

        self.epoch = jax.jit(epoch, donate_argnums=(0, 1))

    def advance(self):
        self.machine, self.key = self.epoch(self.machine, self.key, self.data)

    def seconds_per_step(self, launches):
        jax.block_until_ready(self.machine)
        begin = time.perf_counter()
        for _ in range(launches):
            self.advance()
        jax.block_until_ready(self.machine)
        return (time.perf_counter() - begin) / (launches * self.at_once)

    def round(self, seconds):
        """Seconds a step, over about `seconds`."""
        once = self.at_once * self.seconds_per_step(2)
        return self.seconds_per_step(max(1, round(seconds / once)))


# ---------------------------------------------------------------------------------------------------- correctness

# Largest error of an update, in units of the largest update, against float64 arithmetic on the same states.
TOLERANCES = {"float32": 2e-5, "tf32": 4e-3, "bf16": 2e-2}


def require(holds, what):
    print(("ok      " if holds else "FAILED  ") + what, file=sys.stderr)
    if not holds:
        sys.exit(f"jax_wake_sleep.py: the peer is wrong ({what}); nothing it measures may be used.")


def sigmoid(logits):
    return 1 / (1 + numpy.exp(-logits))


def float64(array):
    return numpy.asarray(array.astype(jnp.float32), numpy.float64)


def random_machine(algorithm, key):
    """Values that bf16 holds exactly, so that every precision has the same machine."""
    machine = algorithm.initialize(key, jnp.full(algorithm.sizes[0], 0.5))
    leaves, tree = jax.tree.flatten(machine)
    normal = lambda k, leaf: jax.random.normal(k, leaf.shape).astype(jnp.bfloat16).astype(jnp.float32)
    return jax.tree.unflatten(tree, [normal(k, leaf) for k, leaf in zip(jax.random.split(key, len(leaves)), leaves)])


def check_updates(precision, key):
    sizes, batch_size, rate = [29, 13, 7, 5], 37, 0.5
    algorithm = WakeSleep(sizes, batch_size, rate, precision)
    machine = random_machine(algorithm, jax.random.fold_in(key, 1))
    x = jax.random.bernoulli(key, 0.5, (batch_size, sizes[0]))
    woken, wake_states = jax.jit(algorithm.wake)(machine, key, x)
    slept, sleep_states = jax.jit(algorithm.sleep)(woken, key)
    largest = 0.0
    for name, states, old, new in (("generative", wake_states, machine, woken), ("recognition", sleep_states, woken, slept)):
        states = [float64(s) for s in states]
        for rows, units in zip(states, sizes):
            require_quiet(bool(((rows == 0) | (rows == 1)).all()), "states are 0 or 1")
            require_quiet(bool((rows[:, units] == 1).all() and (rows[:, units + 1 :] == 0).all()), "tails")
        for index in range(len(sizes) - 1):
            sending, target = (states[index + 1], states[index]) if name == "generative" else states[index : index + 2]
            weight = float64(old[name][index])
            error = target[:, : weight.shape[1]] - sigmoid(sending @ weight)
            change = rate / batch_size * sending.T @ error
            found = float64(new[name][index]) - float64(old[name][index])
            largest = max(largest, numpy.abs(found - change).max() / numpy.abs(change).max())
    top = float64(wake_states[-1])[:, : sizes[-1]].mean(0)
    change = rate * (top - sigmoid(float64(machine["prior"])))
    require_quiet(numpy.abs(float64(woken["prior"]) - float64(machine["prior"]) - change).max() < 1e-5, "update of the prior")
    require(largest < TOLERANCES[precision], f"updates: within {largest:.1e} of float64 arithmetic on the same states")


def require_quiet(holds, what):
    if not holds:
        require(False, what)


def enumerated(machine, sizes, rows):
    """Mean and variance of one row's term in every update, over all states of a machine with two hidden layers."""
    every = lambda n: [numpy.array(bits, float) for bits in itertools.product((0, 1), repeat=n)]
    split = lambda weights, sending: zip(*((float64(w)[:n], float64(w)[n]) for w, n in zip(weights, sending)))
    (r, c), (g, b) = split(machine["recognition"], sizes), split(machine["generative"], sizes[1:])
    a = float64(machine["prior"])
    log_probability = lambda s, z: float((s * z - numpy.logaddexp(0, z)).sum())
    frequency = {}
    for row in rows.tolist():
        frequency[tuple(row)] = frequency.get(tuple(row), 0) + 1 / len(rows)
    moments = {n: [[numpy.zeros_like(w), numpy.zeros_like(w)] for w in ws] for n, ws in (("generative", g), ("recognition", r))}
    for h in itertools.product(*(every(n) for n in sizes)):
        q = math.exp(sum(log_probability(h[l], h[l - 1] @ r[l - 1] + c[l - 1]) for l in (1, 2)))
        p = math.exp(log_probability(h[2], a) + sum(log_probability(h[l - 1], h[l] @ g[l - 1] + b[l - 1]) for l in (1, 2)))
        for l in (1, 2):
            terms = {
                "generative": (frequency.get(tuple(h[0]), 0) * q,
                               numpy.outer(h[l], h[l - 1] - sigmoid(h[l] @ g[l - 1] + b[l - 1]))),
                "recognition": (p, numpy.outer(h[l - 1], h[l] - sigmoid(h[l - 1] @ r[l - 1] + c[l - 1]))),
            }  # fmt: skip
            for name, (mass, term) in terms.items():
                moments[name][l - 1][0] += mass * term
                moments[name][l - 1][1] += mass * term**2
    return moments


def check_expected_updates(precision, key):
    sizes, batch_size = [4, 3, 2], 32768
    algorithm = WakeSleep(sizes, batch_size, 1.0, precision)
    machine = random_machine(algorithm, jax.random.fold_in(key, 1))
    data_key, wake_key, sleep_key = jax.random.split(key, 3)
    rows = jax.random.bernoulli(data_key, 0.5, (batch_size, sizes[0]))
    changed = {
        "generative": jax.jit(algorithm.wake)(machine, wake_key, rows)[0],
        "recognition": jax.jit(algorithm.sleep)(machine, sleep_key)[0],
    }
    largest, compared = 0.0, 0
    for name, moments in enumerated(machine, sizes, numpy.asarray(rows, float)).items():
        for old, new, (mean, square) in zip(machine[name], changed[name][name], moments):
            update = (float64(new) - float64(old))[: len(mean)]
            deviation = numpy.sqrt((square - mean**2) / batch_size) + 1e-6
            largest = max(largest, (numpy.abs(update - mean) / deviation).max())
            compared += update.size
    require(largest < 5, f"expected updates: {compared} weights within {largest:.1f} standard errors of enumeration "
                         "(false alarm below 1e-4)")  # fmt: skip


def check_steps(precision, key):
    sizes, batch_size = [16, 8, 4], 64
    algorithm = WakeSleep(sizes, batch_size, 0.1, precision)
    means = jnp.linspace(0.1, 0.9, 16)
    rows = jax.random.bernoulli(key, means, (SYNTHETIC_BATCHES * batch_size, 16))
    steps = Steps(algorithm, random_machine(algorithm, jax.random.fold_in(key, 1)), rows, jax.random.key(1))
    changes = []
    for _ in range(20):
        before = float64(steps.machine["recognition"][0])
        steps.advance()
        changes.append(float64(steps.machine["recognition"][0]) - before)
    require(not numpy.array_equal(changes[-1], changes[-2]), "every launch draws random numbers of its own")
    sleep = jax.jit(lambda machine, key: algorithm.sleep(machine, key)[1][0].astype(jnp.float32).mean(0)[:16])
    dreams = numpy.mean([sleep(steps.machine, k) for k in jax.random.split(key, 50)], 0)
    error = float(numpy.abs(dreams - numpy.asarray(rows, float).mean(0)).max())
    require(error < 0.15, f"after {20 * steps.at_once} steps dreams have the data's means within {error:.2f}")


def check(arguments):
    for run in (check_updates, check_expected_updates, check_steps):
        run(arguments.precision, jax.random.key(arguments.seed))


# ---------------------------------------------------------------------------------------------------- timing


def read_packed(path, units):
    packed = numpy.load(path)
    if packed.dtype != numpy.uint8 or packed.ndim != 2 or packed.shape[1] != (units + 7) // 8:
        sys.exit(f"jax_wake_sleep.py: {path} holds {packed.dtype} {packed.shape}; expected bit-packed uint8 rows of "
                 f"{(units + 7) // 8} bytes for {units} visible units.")  # fmt: skip
    return numpy.unpackbits(packed, axis=1, count=units)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="784,200,200,200", help="widths of all layers, the visible one first")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=0.003, help="multiplies the mean gradient")
    parser.add_argument("--data", metavar="FILE.npy", help="bit-packed rows; without it, fair coin flips")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--precision", choices=tuple(PRECISIONS), default="bf16")
    parser.add_argument("--generator", choices=("rbg", "unsafe_rbg", "threefry2x32"), default="unsafe_rbg")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10, help="time to measure for, about")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of steps; medians are reported")
    parser.add_argument("--serve", action="store_true",
                        help="measure one round for each line of standard input, which holds its seconds")  # fmt: skip
    parser.add_argument("--check", action="store_true", help="check the peer's correctness in this setting and stop")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def choose_device(name):
    jax.config.update("jax_platforms", name)
    try:
        return jax.devices()[0]
    except (RuntimeError, AssertionError) as why_not:
        because = f": {str(why_not).splitlines()[0]}" if str(why_not) else ""
        print(f"jax_wake_sleep.py: JAX has no device '{name}'{because}; --device cpu needs none.", file=sys.stderr)
        sys.exit(69)


def figures(batch_size, times):
    step = statistics.median(times)
    return {"images_per_second": batch_size / step, "step_ms": 1e3 * step, "step_ms_rounds": [1e3 * t for t in times]}


def main():
    arguments = parse_arguments()
    jax.config.update("jax_default_prng_impl", arguments.generator)
    device = choose_device(arguments.device)
    if arguments.check:
        check(arguments)
        return
    sizes = [int(width) for width in arguments.layers.split(",")]
    if arguments.data:
        data = read_packed(arguments.data, sizes[0])
    else:
        shape = (SYNTHETIC_BATCHES * arguments.batch_size, sizes[0])
        data = numpy.random.default_rng(arguments.seed).integers(0, 2, shape, numpy.uint8)
    algorithm = WakeSleep(sizes, arguments.batch_size, arguments.learning_rate, arguments.precision)
    key = jax.random.key(arguments.seed)
    machine = algorithm.initialize(key, jnp.asarray(data.mean(0), jnp.float32))
    steps = Steps(algorithm, machine, jnp.asarray(data), key)
    steps.seconds_per_step(2)  # compiles
    description = {
        "peer": "jax",
        "layers": sizes,
        "batch_size": arguments.batch_size,
        "optimizer": "sgd",
        "device": device.device_kind,
        "precision": arguments.precision,
        "generator": arguments.generator,
        "scan_steps": steps.at_once,
        "jax": jax.__version__,
    }
    if arguments.serve:
        print(json.dumps(description), flush=True)
        for line in sys.stdin:
            print(json.dumps(figures(arguments.batch_size, [steps.round(float(line))])), flush=True)
        return
    times = [steps.round(arguments.seconds / arguments.rounds) for _ in range(arguments.rounds)]
    result = {**figures(arguments.batch_size, times), **description}
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:26} {value}")


if __name__ == "__main__":
    main()
