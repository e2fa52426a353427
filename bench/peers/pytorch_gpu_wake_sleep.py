#!/usr/bin/env python3
"""Wake-sleep by hand in PyTorch for a GPU: the peer that the CUDA engine is measured against.

The algorithm is that of host/wake_sleep.cpp with plain SGD: a wake phase, then a sleep phase, each training the other
direction by the local delta rule. What makes it fast:

  * No autograd, no modules. One product makes logits, one predicts, one adds the gradient into the float32 weights in
    place (`addmm` with beta 1, the learning rate as its alpha): no gradient is ever stored.
  * A bias is the weight of a unit that is always on. Every state has that unit as a column of ones, so that adding a
    bias and learning it cost no kernel of their own. Rows are padded to 16 bytes.
  * In bf16, states, errors and the weights that the products read are bf16; the weights that are learned are float32,
    and the product of bf16 states and errors adds to them directly. Data lies on the device in the products' type.
  * `--body compiled`: sampling (sigmoid, random number, comparison) and error (sigmoid, difference) are one kernel each
    by torch.compile, which may also take over the products and sample in their epilogues (`--autotune`).
  * `--graph N`: a CUDA graph of N whole steps; random numbers come from the generator that the graph advances.
  * `--branches 2`: learning runs on a second stream beside the chain of samples.

It proves itself before it is timed (`--check`), in the very setting that is timed. bench/gpu.py looks for its fastest
setting and measures it in turn with the engine. The peer for the CPU is pytorch_wake_sleep.py.
"""

import argparse
import functools
import itertools
import json
import math
import statistics
import sys
import time

import numpy
import torch

INITIAL_HIDDEN_BIAS = -1.0
SYNTHETIC_BATCHES = 16  # as many as `wakesleep bench` makes
MOST_PAIRS_COMPILED_TOGETHER = 12  # a phase of more layers is compiled as one function of a pair of layers
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


def round_up(value, multiple):
    return (value + multiple - 1) // multiple * multiple


# ---------------------------------------------------------------------------------------------------- learning


def add_in_place(master, states, errors, rate):
    torch.addmm(master, states.t(), errors, out_dtype=torch.float32, alpha=rate, out=master)


def add_stored_gradient(master, states, errors, rate):
    master.add_(torch.mm(states.t(), errors, out_dtype=torch.float32), alpha=rate)


def add_same_type(master, states, errors, rate):
    master.addmm_(states.t(), errors, alpha=rate)


def add_converted(master, states, errors, rate):
    master.addmm_(states.float().t(), errors.float(), alpha=rate)


@functools.cache
def way_to_add(dtype, device):
    """The best way to add a product of `dtype` operands to float32 weights that this PyTorch and device have."""
    if dtype == torch.float32:
        return add_same_type
    if device.type == "cpu":  # has no products of two types
        return add_converted
    states = torch.rand(48, 64, device=device).round().to(dtype)
    errors = (torch.rand(48, 32, device=device) - 0.5).to(dtype)
    before = torch.rand(64, 32, device=device)
    expected = before + 0.25 * states.float().t() @ errors.float()
    for way in (add_in_place, add_stored_gradient):
        master = before.clone()
        try:
            way(master, states, errors, 0.25)
        except (RuntimeError, NotImplementedError, TypeError) as why_not:
            print(f"{way.__name__} is not to be had here: {str(why_not).partition('. ')[0]}", file=sys.stderr)
            continue
        if torch.allclose(master, expected, rtol=1e-4, atol=1e-4):
            return way
        print(f"{way.__name__} gives wrong sums here and is not used.", file=sys.stderr)
    return add_converted


class Direction:
    """The weights of all conditionals of one direction, in one vector.

    `parts` lists (sending, receiving) sizes. masters[i] and operands[i] are [padded sending x receiving]: logits are
    states @ operand. Row `sending` is the bias; the rows after it meet zeros only.
    """

    def __init__(self, parts, padded, dtype, device):
        self.parts = parts
        begins = [0, *itertools.accumulate(round_up(padded(sending) * receiving, 64) for sending, receiving in parts)]
        self.values = torch.zeros(begins[-1], device=device)
        self.copies = self.values if dtype == torch.float32 else torch.zeros(begins[-1], dtype=dtype, device=device)
        view = lambda vector, begin, part: vector[begin : begin + padded(part[0]) * part[1]].view(-1, part[1])
        self.masters = [view(self.values, begin, part) for begin, part in zip(begins, parts)]
        self.operands = [view(self.copies, begin, part) for begin, part in zip(begins, parts)]

    def weight(self, index):
        return self.masters[index][: self.parts[index][0]]

    def bias(self, index):
        return self.masters[index][self.parts[index][0]]

    def refresh(self, index=None):
        """Brings the products' copies up to date: of one conditional, or of all in one pass."""
        if self.copies is self.values:
            return
        if index is None:
            self.copies.copy_(self.values)
        else:
            self.operands[index].copy_(self.masters[index])


# ---------------------------------------------------------------------------------------------------- the step


def sampled(probabilities, dtype):
    return (torch.rand_like(probabilities, dtype=torch.float32) < probabilities).to(dtype)


def sample_and_predict(below, chain, predict, tail):
    """The states that follow `below` along the chain, and the error of predicting `below` from them.

    `tail` is what stands behind a row's units: the unit that is always on, and the padding.
    """
    drawn = sampled(torch.sigmoid((below @ chain).float()), below.dtype)
    states = torch.cat([drawn, tail], 1)
    prediction = torch.sigmoid((states @ predict).float())
    return states, (below[:, : predict.shape[1]].float() - prediction).to(below.dtype)


def sample_and_predict_all(first, chains, predicts, tails):
    states, errors = [first], []
    for chain, predict, tail in zip(chains, predicts, tails):
        above, error = sample_and_predict(states[-1], chain, predict, tail)
        states.append(above)
        errors.append(error)
    return states, errors


class WakeSleep:
    """A Helmholtz machine with layers `sizes`, the visible one first, and its training by plain SGD."""

    def __init__(self, sizes, settings, rows=None):
        self.sizes, self.settings = sizes, settings
        self.batch_size, self.device = settings.batch_size, torch.device(settings.device)
        self.dtype = PRECISIONS[settings.precision]
        self.top = len(sizes) - 1
        self.rate = settings.learning_rate / self.batch_size
        self.padded = lambda units: round_up(units + 1, settings.pad)
        self.add = way_to_add(self.dtype, self.device)
        pairs = list(zip(sizes, sizes[1:]))
        # recognition index l - 1: h_{l-1} -> h_l;  generative index l - 1: h_l -> h_{l-1}.
        self.recognition = Direction(pairs, self.padded, self.dtype, self.device)
        self.generative = Direction([(a, b) for b, a in pairs], self.padded, self.dtype, self.device)
        self.prior = torch.zeros(sizes[-1], device=self.device)
        self.tails = [self.new_tail(units) for units in sizes]
        self.side = torch.cuda.Stream() if settings.branches > 1 else None
        self.prepare_body()
        self.x = self.with_tail(torch.zeros(self.batch_size, sizes[0], device=self.device))
        self.data = self.with_tail(rows) if rows is not None else None
        self.initialize(rows.mean(0, dtype=torch.float32) if rows is not None else torch.full((sizes[0],), 0.5))

    def new_tail(self, units, rows=None):
        tail = torch.zeros(rows or self.batch_size, self.padded(units) - units, dtype=self.dtype, device=self.device)
        tail[:, 0] = 1
        return tail

    def with_tail(self, rows):
        rows = rows.to(self.device, self.dtype)
        return torch.cat([rows, self.new_tail(rows.shape[1], len(rows))], 1)

    def prepare_body(self):
        compiled = self.settings.body == "compiled"
        if compiled:
            torch._dynamo.config.recompile_limit = 64  # one function for every shape of a pair
            mode = "max-autotune-no-cudagraphs" if self.settings.autotune else "default"
            options = {"mode": mode, "dynamic": False, "fullgraph": True}
            if self.top <= MOST_PAIRS_COMPILED_TOGETHER and self.side is None:
                self.run_all = torch.compile(sample_and_predict_all, **options)
            else:
                self.run_pair = torch.compile(sample_and_predict, **options)
                self.run_all = None
            self.draw_prior = torch.compile(sampled, **options)
            return
        self.run_all, self.run_pair = None, self.eager_pair
        self.draw_prior = sampled
        # Layers of one width take turns on few buffers, which then stay in the cache, unless a second stream may still
        # be reading them (or a check wants to see all states of a phase).
        self.places = 3 if self.top > MOST_PAIRS_COMPILED_TOGETHER and self.side is None else len(self.sizes)
        self.buffers = {}

    def buffer(self, kind, place, units, dtype=None):
        key = (kind, place % self.places, units)
        if key not in self.buffers:
            self.buffers[key] = torch.zeros(self.batch_size, units, dtype=dtype or self.dtype, device=self.device)
        return self.buffers[key]

    def state_buffer(self, phase, layer):
        key = (phase, layer % self.places, self.sizes[layer])
        if key not in self.buffers:
            units = torch.zeros(self.batch_size, self.sizes[layer], dtype=self.dtype, device=self.device)
            self.buffers[key] = torch.cat([units, self.tails[layer]], 1)
        return self.buffers[key]

    def initialize(self, visible_means):
        for direction in (self.recognition, self.generative):
            for index, (sending, receiving) in enumerate(direction.parts):
                limit = math.sqrt(6 / (sending + receiving)) / sending
                direction.weight(index).uniform_(-limit, limit)
                direction.bias(index).fill_(INITIAL_HIDDEN_BIAS)
        self.prior.fill_(INITIAL_HIDDEN_BIAS)
        self.generative.bias(0).copy_(torch.logit(visible_means.float().clamp(1e-4, 1 - 1e-4)))
        self.recognition.refresh()
        self.generative.refresh()

    def eager_pair(self, phase, place, below, above_layer, below_layer, chain, predict):
        above_units, below_units = self.sizes[above_layer], self.sizes[below_layer]
        states = self.state_buffer(phase, above_layer)
        logits = torch.mm(below, chain, out=self.buffer("logits", 0, above_units))
        drawn = states[:, :above_units]
        if self.settings.sampler == "bernoulli":
            # The sampler reads float32 probabilities; any other type it would convert in a pass of its own.
            drawn.bernoulli_(torch.sigmoid(logits, out=self.buffer("probabilities", 0, above_units, torch.float32)))
        else:
            uniforms = self.buffer("uniforms", 0, above_units, torch.float32).uniform_()
            torch.lt(uniforms, logits.sigmoid_(), out=drawn)
        error = torch.mm(states, predict, out=self.buffer("error", place, below_units)).sigmoid_()
        return states, torch.sub(below[:, :below_units], error, out=error)

    def phase(self, name, first, layers, chain, predict):
        """Samples from `first` through `layers`, while `predict` learns to find each layer from the next."""
        indices = [min(a, b) for a, b in zip(layers, layers[1:])]
        kept = []  # until the streams have met: the second may still be reading
        if self.run_all is not None:
            states, errors = self.run_all(
                first,
                [chain.operands[i] for i in indices],
                [predict.operands[i] for i in indices],
                [self.tails[layer] for layer in layers[1:]],
            )
            for index, above, error in zip(indices, states[1:], errors):
                self.learn(predict, index, above, error)
        else:
            states = [first]
            for place, (index, below, above) in enumerate(zip(indices, layers, layers[1:])):
                if self.settings.body == "compiled":
                    h, error = self.run_pair(states[-1], chain.operands[index], predict.operands[index], self.tails[above])
                else:
                    h, error = self.run_pair(
                        name, place, states[-1], above, below, chain.operands[index], predict.operands[index]
                    )
                self.learn(predict, index, h, error)
                states.append(h)
                kept.append(error)
        if self.settings.cast == "phase":
            self.beside(predict.refresh)
        if self.side is not None:
            torch.cuda.current_stream().wait_stream(self.side)
        return states

    def beside(self, work):
        """On the second stream, if there is one, after all that the first has been given."""
        if self.side is None:
            work()
            return
        self.side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.side):
            work()

    def learn(self, direction, index, states, error):
        def work():
            self.add(direction.masters[index], states, error, self.rate)
            if self.settings.cast == "layer":
                direction.refresh(index)

        self.beside(work)

    def wake(self, x):
        states = self.phase("wake", x, list(range(self.top + 1)), self.recognition, self.generative)
        # The prior's error is h_L - sigma(a), and sigma(a) is the same for every row.
        mean = states[-1][:, : self.sizes[-1]].mean(0, dtype=torch.float32)
        self.prior.add_(mean.sub_(torch.sigmoid(self.prior)), alpha=self.settings.learning_rate)
        return states

    def sleep(self):
        probabilities = torch.sigmoid(self.prior).expand(self.batch_size, -1)
        first = torch.cat([self.draw_prior(probabilities, self.dtype), self.tails[-1]], 1)
        return self.phase("sleep", first, list(range(self.top, -1, -1)), self.generative, self.recognition)

    def step(self, indices):
        torch.index_select(self.data, 0, indices, out=self.x)
        self.wake(self.x)
        self.sleep()


# ---------------------------------------------------------------------------------------------------- running steps


class Steps:
    """Endless steps in an order of the rows drawn anew each epoch, launched one by one or as a graph of several."""

    def __init__(self, machine):
        self.machine, self.rows = machine, len(machine.data)
        self.at_once = max(1, machine.settings.graph)
        self.window = torch.zeros(self.at_once * machine.batch_size, dtype=torch.int64, device=machine.device)
        if self.rows < len(self.window):
            sys.exit(f"pytorch_gpu_wake_sleep.py: {self.rows} rows are fewer than the {len(self.window)} of one launch.")
        self.position = self.rows
        self.graph = None
        if machine.settings.graph:
            self.capture()

    def queue(self):
        for indices in self.window.split(self.machine.batch_size):
            self.machine.step(indices)

    def capture(self):
        warm_up = torch.cuda.Stream()
        warm_up.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warm_up):
            for _ in range(3):
                self.queue()
        torch.cuda.current_stream().wait_stream(warm_up)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.queue()

    def advance(self):
        """`at_once` steps."""
        if self.position + len(self.window) > self.rows:
            self.order, self.position = torch.randperm(self.rows, device=self.machine.device), 0
        self.window.copy_(self.order[self.position : self.position + len(self.window)])
        self.position += len(self.window)
        if self.graph is not None:
            self.graph.replay()
        else:
            self.queue()

    def seconds_per_step(self, launches):
        wait = torch.cuda.synchronize if self.machine.device.type == "cuda" else lambda: None
        wait()
        begin = time.perf_counter()
        for _ in range(launches):
            self.advance()
        wait()
        return (time.perf_counter() - begin) / (launches * self.at_once)

    def round(self, seconds):
        """Seconds a step, over about `seconds`."""
        once = self.at_once * self.seconds_per_step(2)
        return self.seconds_per_step(max(1, round(seconds / once)))


# ---------------------------------------------------------------------------------------------------- correctness

# Largest error of an update, in units of the largest update, against float64 arithmetic on the same states: sums of 24-,
# 11- and 8-bit significands.
TOLERANCES = {"float32": 2e-5, "tf32": 4e-3, "bf16": 2e-2}


def require(holds, what):
    print(("ok      " if holds else "FAILED  ") + what, file=sys.stderr)
    if not holds:
        sys.exit(f"pytorch_gpu_wake_sleep.py: the peer is wrong ({what}); nothing it measures may be used.")


def float64(tensor):
    return tensor.detach().to("cpu", torch.float64).numpy().copy()


def sigmoid(logits):
    return 1 / (1 + numpy.exp(-logits))


def machine_for_check(sizes, arguments, batch_size, learning_rate, rows=None, make=None):
    settings = argparse.Namespace(**{**vars(arguments), "batch_size": batch_size, "learning_rate": learning_rate})
    machine = (make or WakeSleep)(sizes, settings, rows)
    for direction in (machine.recognition, machine.generative):
        for index in range(machine.top):
            for parameter in (direction.weight(index), direction.bias(index)):
                # Values that bf16 holds exactly, so that every precision has the same machine to begin with.
                parameter.copy_(torch.randn(parameter.shape).bfloat16())
        direction.refresh()
    machine.prior.copy_(torch.randn(machine.prior.shape).bfloat16())
    return machine


def check_updates(arguments):
    """Every update of several steps against numpy in float64 at the same states; operands must follow the masters."""
    sizes, batch_size = [29, 13, 7, 5], 37
    machine = machine_for_check(sizes, arguments, batch_size, 0.5)
    largest = 0.0
    for _ in range(3):
        x = machine.with_tail(torch.rand(batch_size, sizes[0]).round())
        for name, direction, run in (
            ("wake", machine.generative, lambda: machine.wake(x)),
            ("sleep", machine.recognition, machine.sleep),
        ):
            masters, operands = ([float64(t) for t in part] for part in (direction.masters, direction.operands))
            prior = float64(machine.prior)
            states = [float64(t) for t in run()]
            for rows, layer in zip(states, range(len(sizes)) if name == "wake" else reversed(range(len(sizes)))):
                units = rows[:, : sizes[layer]]
                require_quiet(((units == 0) | (units == 1)).all(), "states are 0 or 1")
                require_quiet((rows[:, sizes[layer]] == 1).all() and (rows[:, sizes[layer] + 1 :] == 0).all(), "tails")
            if name == "sleep":
                states.reverse()
            for index in range(machine.top):
                input_layer, target_layer = (index + 1, index) if name == "wake" else (index, index + 1)
                target = states[target_layer][:, : sizes[target_layer]]
                error = target - sigmoid(states[input_layer] @ operands[index])
                expected = masters[index] + 0.5 / batch_size * states[input_layer].T @ error
                change = numpy.abs(expected - masters[index]).max()
                largest = max(largest, numpy.abs(float64(direction.masters[index]) - expected).max() / change)
                copy = direction.masters[index].to(machine.dtype)
                require_quiet(bool((copy == direction.operands[index]).all()), "operands follow the masters")
            if name == "wake":
                expected = prior + 0.5 * (states[-1][:, : sizes[-1]].mean(0) - sigmoid(prior))
                require_quiet(numpy.abs(float64(machine.prior) - expected).max() < 1e-5, "update of the prior")
    require(largest < TOLERANCES[arguments.precision],
            f"updates: within {largest:.1e} of float64 arithmetic on the same states")  # fmt: skip


def require_quiet(holds, what):
    if not holds:
        require(False, what)


def enumerated(machine, rows):
    """Mean and variance of one row's term in every update, over all states of a machine with two hidden layers."""
    sizes = machine.sizes
    every = lambda n: [numpy.array(bits, float) for bits in itertools.product((0, 1), repeat=n)]
    matrices = lambda d: ([float64(d.weight(i)) for i in range(2)], [float64(d.bias(i)) for i in range(2)])
    (r, c), (g, b), a = matrices(machine.recognition), matrices(machine.generative), float64(machine.prior)
    log_probability = lambda s, z: float((s * z - numpy.logaddexp(0, z)).sum())
    frequency = {}
    for row in rows.tolist():
        frequency[tuple(row)] = frequency.get(tuple(row), 0) + 1 / len(rows)
    moments = {p: [[numpy.zeros_like(w), numpy.zeros_like(w)] for w in ws] for p, ws in (("wake", g), ("sleep", r))}
    for h in itertools.product(*(every(n) for n in sizes)):
        q = math.exp(sum(log_probability(h[l], h[l - 1] @ r[l - 1] + c[l - 1]) for l in (1, 2)))
        p = math.exp(log_probability(h[2], a) + sum(log_probability(h[l - 1], h[l] @ g[l - 1] + b[l - 1]) for l in (1, 2)))
        for l in (1, 2):
            terms = {
                "wake": (frequency.get(tuple(h[0]), 0) * q,
                         numpy.outer(h[l], h[l - 1] - sigmoid(h[l] @ g[l - 1] + b[l - 1]))),
                "sleep": (p, numpy.outer(h[l - 1], h[l] - sigmoid(h[l - 1] @ r[l - 1] + c[l - 1]))),
            }  # fmt: skip
            for phase, (mass, term) in terms.items():
                moments[phase][l - 1][0] += mass * term
                moments[phase][l - 1][1] += mass * term**2
    return moments


def check_expected_updates(arguments):
    """Mean updates of a tiny machine over many rows against enumeration: samples and rule together."""
    sizes, batch_size = [4, 3, 2], 32768
    machine = machine_for_check(sizes, arguments, batch_size, 1.0)
    rows = torch.rand(batch_size, sizes[0]).round()
    moments = enumerated(machine, rows)
    before = {d: d.values.clone() for d in (machine.generative, machine.recognition)}
    largest, compared = 0.0, 0
    prior = machine.prior.clone()
    for name, direction, run in (
        ("wake", machine.generative, lambda: machine.wake(machine.with_tail(rows))),
        ("sleep", machine.recognition, machine.sleep),
    ):
        old = [float64(direction.weight(index)) for index in range(2)]
        run()
        for index, (mean, square) in enumerate(moments[name]):
            update = float64(direction.weight(index)) - old[index]
            deviation = numpy.sqrt((square - mean**2) / batch_size) + 1e-6
            largest = max(largest, (numpy.abs(update - mean) / deviation).max())
            compared += update.size
        # The sleep phase is to dream from the machine that was enumerated, not from what the wake phase made of it.
        direction.values.copy_(before[direction])
        direction.refresh()
        machine.prior.copy_(prior)
    require(largest < 5, f"expected updates: {compared} weights within {largest:.1f} standard errors of enumeration "
                         "(false alarm below 1e-4)")  # fmt: skip


def check_steps(arguments, make=None):
    """Steps as they are timed, a graph's included: fresh random numbers each time, finite weights, learned means."""
    sizes, batch_size = [16, 8, 4], 64
    rows = (torch.rand(SYNTHETIC_BATCHES * batch_size, 16) < torch.linspace(0.1, 0.9, 16)).float()
    machine = machine_for_check(sizes, arguments, batch_size, 0.1, rows, make)
    steps = Steps(machine)
    changes = []
    for _ in range(300 // steps.at_once + 2):
        before = machine.recognition.values.clone()
        steps.advance()
        changes.append(machine.recognition.values - before)
    require_quiet(bool(torch.isfinite(machine.recognition.values).all()), "weights are finite")
    require(not torch.equal(changes[-1], changes[-2]), "every launch draws random numbers of its own")
    dreams = torch.stack([machine.sleep()[-1][:, :16].float().mean(0) for _ in range(50)]).mean(0).cpu()
    error = (dreams - rows.mean(0)).abs().max().item()
    require(error < 0.15, f"after {len(changes) * steps.at_once} steps dreams have the data's means within {error:.2f}")


def check(arguments):
    check_updates(arguments)
    check_expected_updates(arguments)
    check_steps(arguments)


# ---------------------------------------------------------------------------------------------------- timing


def read_packed(path, units):
    packed = numpy.load(path)
    if packed.dtype != numpy.uint8 or packed.ndim != 2 or packed.shape[1] != (units + 7) // 8:
        sys.exit(f"pytorch_gpu_wake_sleep.py: {path} holds {packed.dtype} {packed.shape}; expected bit-packed uint8 rows "
                 f"of {(units + 7) // 8} bytes for {units} visible units.")  # fmt: skip
    return torch.from_numpy(numpy.unpackbits(packed, axis=1, count=units))


def parser_of(doc):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="784,200,200,200", help="widths of all layers, the visible one first")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=0.003, help="multiplies the mean gradient")
    parser.add_argument("--data", metavar="FILE.npy", help="bit-packed rows; without it, fair coin flips")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=tuple(PRECISIONS), default="bf16")
    parser.add_argument("--body", choices=("eager", "compiled"), default="eager")
    parser.add_argument("--autotune", action="store_true", help="torch.compile's max-autotune")
    parser.add_argument("--graph", type=int, default=0, metavar="STEPS", help="steps of a CUDA graph; 0: no graph")
    parser.add_argument("--branches", type=int, choices=(1, 2), default=1)
    parser.add_argument("--sampler", choices=("bernoulli", "uniform"), default="bernoulli", help="of the eager body")
    parser.add_argument("--cast", choices=("phase", "layer"), default="phase",
                        help="when bf16 copies are made: all at a phase's end, or each behind its update")  # fmt: skip
    parser.add_argument("--pad", type=int, default=8, help="rows are padded to a multiple of so many units")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10, help="time to measure for, about")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of steps; medians are reported")
    parser.add_argument("--serve", action="store_true",
                        help="measure one round for each line of standard input, which holds its seconds")  # fmt: skip
    parser.add_argument("--check", action="store_true", help="check the peer's correctness in this setting and stop")
    parser.add_argument("--json", action="store_true")
    return parser


def checked(parser):
    """The arguments, where this machine can do what they ask for."""
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(f"{parser.prog}: PyTorch finds no GPU; --device cpu runs all but graphs.", file=sys.stderr)
        sys.exit(69)
    if arguments.device == "cpu" and (arguments.graph or arguments.branches > 1):
        parser.error("--graph and --branches 2 need a GPU")
    return arguments


def description(arguments, machine):
    on_gpu = machine.device.type == "cuda"
    return {
        "peer": "pytorch",
        "layers": machine.sizes,
        "batch_size": arguments.batch_size,
        "optimizer": "sgd",
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "precision": arguments.precision,
        "body": arguments.body,
        "autotune": arguments.autotune,
        "graph_steps": arguments.graph,
        "branches": arguments.branches,
        "sampler": arguments.sampler if arguments.body == "eager" else "compiled",
        "cast": arguments.cast,
        "pad": arguments.pad,
        "learning": machine.add.__name__,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
    }


def figures(batch_size, times):
    step = statistics.median(times)
    return {"images_per_second": batch_size / step, "step_ms": 1e3 * step, "step_ms_rounds": [1e3 * t for t in times]}


def main(arguments, more, make, check):
    """`more` tells what this peer is; `make` makes its machine of sizes, arguments and rows."""
    torch.manual_seed(arguments.seed)
    torch.set_float32_matmul_precision("high" if arguments.precision == "tf32" else "highest")
    if arguments.check:
        check(arguments)
        return
    sizes = [int(width) for width in arguments.layers.split(",")]
    if arguments.data:
        rows = read_packed(arguments.data, sizes[0])
    else:
        count = SYNTHETIC_BATCHES * arguments.batch_size
        rows = torch.randint(0, 2, (count, sizes[0]), dtype=torch.uint8, device=arguments.device)
    machine = make(sizes, arguments, rows)
    del rows  # the machine has its own; what was freed is given back, to whatever else is to run beside this
    if machine.device.type == "cuda":
        torch.cuda.empty_cache()
    steps = Steps(machine)
    describe = lambda: {**description(arguments, steps.machine), **more}
    steps.seconds_per_step(max(1, 20 // steps.at_once))  # warm-up
    if arguments.serve:
        print(json.dumps(describe()), flush=True)
        for line in sys.stdin:
            print(json.dumps(figures(arguments.batch_size, [steps.round(float(line))])), flush=True)
        return
    times = [steps.round(arguments.seconds / arguments.rounds) for _ in range(arguments.rounds)]
    result = {**figures(arguments.batch_size, times), **describe()}
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:26} {value}")


if __name__ == "__main__":
    with torch.inference_mode():
        main(checked(parser_of(__doc__)), {}, WakeSleep, check)
