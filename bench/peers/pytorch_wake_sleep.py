#!/usr/bin/env python3
"""Wake-sleep by hand in PyTorch: the peer that the engine is measured against.

The algorithm is that of host/wake_sleep.cpp (docs/math.md): in every step a wake phase, then a sleep phase, each
training the other direction's weights by the local delta rule. Eager float32 on the CPU; no autograd, no modules; all
memory allocated before the first step; one product for each gradient, into which momentum is folded; the parameters
of one direction lie in one vector, so that an optimiser's update is one pass.

bench/README.md says how it was tuned; bench/compare.py finds its best setting on a machine and measures it.
pytorch_reweighted_wake_sleep.py builds on the parts of this file.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import time

import numpy
import torch

INITIAL_HIDDEN_BIAS = -1.0
SYNTHETIC_BATCHES = 16  # as many as `wakesleep bench` makes


class Direction:
    """Parameters, optimiser state and gradients of all conditionals of one direction.

    `parts` lists (sending, receiving) sizes; 0 sending units stand for the prior. weights[i] is [sending x receiving],
    so that logits are states @ weight + bias.
    """

    def __init__(self, parts, optimizer):
        self.optimizer = optimizer
        aligned = lambda count: (count + 15) // 16 * 16  # whole cache lines
        self.size = sum(aligned(sending * receiving) + aligned(receiving) for sending, receiving in parts)
        self.values = torch.zeros(self.size)
        self.first = torch.zeros(self.size)  # SGD and Adam: the mean gradient; momentum: the velocity
        self.moments = [torch.zeros(self.size), torch.zeros(self.size)] if optimizer.kind == "adam" else []
        self.weights, self.biases, self.weight_gradients, self.bias_gradients = [], [], [], []
        begin = 0
        for sending, receiving in parts:
            for weights, biases, vector in (
                (self.weights, self.biases, self.values),
                (self.weight_gradients, self.bias_gradients, self.first),
            ):
                weights.append(vector[begin : begin + sending * receiving].view(sending, receiving))
                bias_begin = begin + aligned(sending * receiving)
                biases.append(vector[bias_begin : bias_begin + receiving])
            begin += aligned(sending * receiving) + aligned(receiving)

    def logits(self, index, states, out=None):
        return torch.addmm(self.biases[index], states, self.weights[index], out=out)


class Optimizer:
    """SGD, momentum and Adam as in include/wakesleep/arithmetic.hpp; the rate multiplies the mean gradient."""

    def __init__(self, kind, rate, momentum=0.9, second_momentum=0.999, epsilon=1e-8):
        self.kind, self.rate, self.momentum = kind, rate, momentum
        self.second_momentum, self.epsilon = second_momentum, epsilon
        # What the product that makes a gradient keeps of what its memory held before.
        self.kept = momentum if kind == "momentum" else 0.0
        # One pass where this version of torch has it for the CPU.
        self.has_fused_adam = torch._C._dispatch_has_kernel_for_dispatch_key("aten::_fused_adam_", "CPU")

    def update(self, direction, step):
        if self.kind != "adam":
            direction.values.add_(direction.first, alpha=self.rate)
            return
        mean, square = direction.moments
        if self.has_fused_adam:
            torch._fused_adam_(
                [direction.values], [direction.first], [mean], [square], [], [step],
                lr=self.rate, beta1=self.momentum, beta2=self.second_momentum, weight_decay=0.0, eps=self.epsilon,
                amsgrad=False, maximize=True,
            )  # fmt: skip
            return
        gradient, t = direction.first, step.item()
        mean.mul_(self.momentum).add_(gradient, alpha=1 - self.momentum)
        square.mul_(self.second_momentum).addcmul_(gradient, gradient, value=1 - self.second_momentum)
        torch.sqrt(square, out=gradient)  # the gradient is used up: its memory takes the denominator
        gradient.div_(math.sqrt(1 - self.second_momentum**t)).add_(self.epsilon)
        direction.values.addcdiv_(mean, gradient, value=self.rate / (1 - self.momentum**t))


class WakeSleep:
    """A Helmholtz machine with layers `sizes`, the visible one first, and its training."""

    def __init__(self, sizes, batch_size, optimizer, visible_means, sampler="uniform"):
        self.sizes, self.batch_size, self.optimizer, self.sampler = sizes, batch_size, optimizer, sampler
        self.top = len(sizes) - 1
        pairs = list(zip(sizes, sizes[1:]))
        # recognition[l - 1]: h_{l-1} -> h_l;  generative[l - 1]: h_l -> h_{l-1};  the prior comes last.
        self.recognition = Direction(pairs, optimizer)
        self.generative = Direction([(above, below) for below, above in pairs] + [(0, sizes[-1])], optimizer)
        self.states = [torch.zeros(batch_size, units) for units in sizes]
        self.logits = [torch.zeros(batch_size, units) for units in sizes]
        scratch = torch.zeros(batch_size * max(sizes))
        self.uniforms = [scratch[: batch_size * units].view(batch_size, units) for units in sizes]
        self.ones = torch.ones(batch_size)
        self.prior_probabilities = torch.zeros(sizes[-1])
        self.step_count = torch.zeros(())
        self.initialize(visible_means)

    def initialize(self, visible_means):
        for direction in (self.recognition, self.generative):
            for weight, bias in zip(direction.weights, direction.biases):
                sending, receiving = weight.shape
                if sending > 0:
                    limit = math.sqrt(6 / (sending + receiving)) / sending
                    weight.uniform_(-limit, limit)
                bias.fill_(INITIAL_HIDDEN_BIAS)
        self.generative.biases[0].copy_(torch.logit(visible_means.clamp(1e-4, 1 - 1e-4)))

    @property
    def prior(self):
        return self.generative.biases[-1]

    def step(self, x):
        """One step on the batch `x` [batch_size x visible], which it does not keep."""
        self.step_count += 1
        self.wake(x)
        self.sleep()

    def wake(self, x):
        states = [x] + self.states[1:]
        for l in range(1, self.top + 1):
            probabilities = self.recognition.logits(l - 1, states[l - 1], self.logits[l]).sigmoid_()
            self.draw(probabilities, self.uniforms[l], states[l])
            self.learn(self.generative, l - 1, states[l], states[l - 1], self.logits[l - 1], self.optimizer.kept)
        self.add_prior_gradient(states[-1], self.ones)
        self.optimizer.update(self.generative, self.step_count)

    def sleep(self):
        self.learn_from_dreams(self.optimizer.kept)

    def learn_from_dreams(self, kept, share=1.0):
        """One dream an image; its gradient counts `share`, beside `kept` of what the memory of gradients holds."""
        states = self.states
        torch.sigmoid(self.prior, out=self.prior_probabilities)
        self.draw(self.prior_probabilities.expand_as(states[-1]), self.uniforms[-1], states[-1])
        for l in range(self.top, 0, -1):
            probabilities = self.generative.logits(l - 1, states[l], self.logits[l - 1]).sigmoid_()
            self.draw(probabilities, self.uniforms[l - 1], states[l - 1])
            self.learn(self.recognition, l - 1, states[l - 1], states[l], self.logits[l], kept, share)
        self.optimizer.update(self.recognition, self.step_count)

    def draw(self, probabilities, uniforms, out):
        """out ~ Bernoulli(probabilities). Both draw one uniform a unit; torch.bernoulli takes five times as long."""
        if self.sampler == "bernoulli":
            torch.bernoulli(probabilities, out=out)
        else:
            torch.lt(uniforms.uniform_(), probabilities, out=out)

    def learn(self, direction, index, sending, receiving, scratch, kept, share=1.0):
        """Mean gradient of log p(receiving | sending): states sent times what the prediction missed."""
        delta = direction.logits(index, sending, scratch).sigmoid_()
        torch.sub(receiving, delta, out=delta)
        self.add_gradient(direction, index, sending, delta, self.ones, kept, share)

    def add_gradient(self, direction, index, sending, delta, weights, kept, share=1.0):
        """gradient = kept * gradient + share / images * sum over rows. `sending` has its rows' weights in it; a bias's
        input is always 1, so that `weights` stand in its place."""
        mean = share / self.batch_size
        gradient = direction.weight_gradients[index]
        torch.addmm(gradient, sending.t(), delta, beta=kept, alpha=mean, out=gradient)
        gradient = direction.bias_gradients[index]
        torch.addmv(gradient, delta.t(), weights, beta=kept, alpha=mean, out=gradient)

    def add_prior_gradient(self, states, weights):
        """The prior's delta is h_L - sigma(a), and sigma(a) is the same for every row; an image's weights sum to 1."""
        gradient, mean = self.generative.bias_gradients[-1], 1 / self.batch_size
        torch.addmv(gradient, states.t(), weights, beta=self.optimizer.kept, alpha=mean, out=gradient)
        gradient.sub_(torch.sigmoid(self.prior, out=self.prior_probabilities))

    def log_weights(self, x, samples):
        """log p(x, h) - log q(h | x) for `samples` draws of h for each row: [rows x samples], float64."""
        states = [x.repeat_interleave(samples, 0)]
        for weights, biases in zip(self.recognition.weights, self.recognition.biases):
            probabilities = torch.addmm(biases, states[-1], weights).sigmoid_()
            states.append(torch.lt(torch.rand_like(probabilities), probabilities).float())
        return self.log_ratio(states).view(len(x), samples)

    def log_ratio(self, states):
        """log p(x, h) - log q(h | x) for rows of states, a matrix for each layer: float64."""
        total = log_bernoulli(states[-1], self.prior.expand_as(states[-1]))
        for index, (below, above) in enumerate(zip(states, states[1:])):
            total += log_bernoulli(below, self.generative.logits(index, above))
            total -= log_bernoulli(above, self.recognition.logits(index, below))
        return total

    def estimate(self, x, samples):
        """Importance-sampled estimate of log p(x) and the K=1 bound, for each row."""
        rows_at_once = max(1, 20000 // samples)
        weights = torch.cat([self.log_weights(part, samples) for part in x.split(rows_at_once)])
        return torch.logsumexp(weights, 1) - math.log(samples), weights.mean(1)


def log_bernoulli(states, logits):
    return (states * logits - torch.nn.functional.softplus(logits)).sum(1, dtype=torch.float64)


# ---------------------------------------------------------------------------------------------------- correctness


def give_up(why):
    sys.exit(f"{os.path.basename(sys.argv[0])}: {why}")


def require(holds, what):
    print(("ok      " if holds else "FAILED  ") + what, file=sys.stderr)
    if not holds:
        give_up(f"the peer is wrong ({what}); nothing it measures may be used.")


def randomize(machine, scale=1.0):
    for direction in (machine.recognition, machine.generative):
        for parameter in direction.weights + direction.biases:
            parameter.copy_(scale * torch.randn(parameter.shape))
    return machine


def fair(units):
    return torch.full((units,), 0.5)


def no_input(states):
    """What the prior's states are drawn from."""
    return states.new_zeros(len(states), 0)


def conditionals(states):
    """(sending, receiving) of every conditional of the generative and of the recognition direction, by index."""
    pairs = list(zip(states, states[1:]))
    return [(above, below) for below, above in pairs] + [(no_input(states[-1]), states[-1])], pairs


def autograd_gradients(direction, parameters, objective):
    """Gradients by autograd, in float64, of log-probabilities: `objective` lists (conditionals, row weights)."""
    with torch.inference_mode(False), torch.enable_grad():
        copies = [p.clone().double().requires_grad_() for p in parameters]
        weights, biases = copies[: len(direction.weights)], copies[len(direction.weights) :]
        total = 0.0
        for pairs, row_weights in objective:
            for (sending, receiving), weight, bias in zip(pairs, weights, biases, strict=True):
                logits, states = sending.clone().double() @ weight + bias, receiving.clone().double()
                cost = torch.nn.functional.binary_cross_entropy_with_logits(logits, states, reduction="none")
                total = total - row_weights.clone() @ cost.sum(1)
        return torch.autograd.grad(total, copies)


def learn_by_wake_sleep(machine, x):
    """Runs a step and yields, after each phase, the direction that has learnt and the objective at its states."""
    row_weights = torch.full((len(x),), 1 / len(x), dtype=torch.float64)
    machine.wake(x)
    yield machine.generative, [(conditionals([x] + machine.states[1:])[0], row_weights)]
    machine.sleep()
    yield machine.recognition, [(conditionals(machine.states)[1], row_weights)]


def check_updates(machine, learn):
    """Three steps of the peer against torch.optim fed with autograd's gradients at the same states."""
    parameters = lambda direction: direction.weights + direction.biases
    kind, rate = machine.optimizer.kind, machine.optimizer.rate
    expected, references = {}, {}
    for direction in (machine.generative, machine.recognition):
        with torch.inference_mode(False):
            copies = expected[direction] = [p.clone().double() for p in parameters(direction)]
            references[direction] = {
                "sgd": lambda: torch.optim.SGD(copies, lr=rate),
                "momentum": lambda: torch.optim.SGD(copies, lr=rate, momentum=0.9),
                "adam": lambda: torch.optim.Adam(copies, lr=rate, eps=1e-8),
            }[kind]()
    largest = 0.0
    for _ in range(3):
        x = torch.rand(machine.batch_size, machine.sizes[0]).round()
        before = {direction: [p.clone() for p in parameters(direction)] for direction in expected}
        machine.step_count += 1
        for direction, objective in learn(machine, x):
            gradients = autograd_gradients(direction, before[direction], objective)
            with torch.inference_mode(False):
                for parameter, gradient in zip(expected[direction], gradients):
                    parameter.grad = -gradient
                references[direction].step()
            for ours, theirs in zip(parameters(direction), expected[direction]):
                if ours.numel() > 0:
                    largest = max(largest, (ours.double() - theirs).abs().max().item())
    require(largest < 2e-5, f"updates with {kind}, {machine.sampler}: {largest:.1e} from autograd and torch.optim")


def every_state(units):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=units)))


def check_expected_updates(machine, counts, insomnia=0.0):
    """Mean updates of a tiny machine over a large batch against enumeration: samples and rule together.

    counts(log p, log q), all [images x hidden states]: how much a hidden state counts for an image, on average over the
    samples of q. `insomnia`: their share of the recognition gradient; the dreams have the rest.
    """
    rows = torch.rand(machine.batch_size, machine.sizes[0]).round()
    images = every_state(machine.sizes[0])
    frequency = torch.tensor([(rows == image).all(1).double().mean() for image in images])
    every = every_state(sum(machine.sizes))  # the images vary slowest
    states = list(every.split(machine.sizes, 1))
    log_p = log_bernoulli(states[-1], machine.prior.expand_as(states[-1]))
    log_q = torch.zeros_like(log_p)
    for index, (below, above) in enumerate(zip(states, states[1:])):
        log_p += log_bernoulli(below, machine.generative.logits(index, above))
        log_q += log_bernoulli(above, machine.recognition.logits(index, below))
    by_image = lambda values: values.view(len(images), -1)
    samples = (frequency[:, None] * counts(by_image(log_p), by_image(log_q))).flatten()
    dreams = log_p.exp()

    directions = (machine.generative, machine.recognition)
    with_bias = lambda direction: [
        torch.cat([weight, bias[None]]).double() for weight, bias in zip(direction.weights, direction.biases)
    ]
    before = [with_bias(direction) for direction in directions]
    generative = machine.generative.values.clone()
    machine.wake(rows)
    updates = [[new - old for new, old in zip(with_bias(machine.generative), before[0])]]
    # The sleep phase dreams from the generative weights that the wake phase has just trained; undo that here.
    machine.generative.values.copy_(generative)
    machine.sleep()
    updates.append([new - old for new, old in zip(with_bias(machine.recognition), before[1])])

    shares = ([(1.0, samples)], [(insomnia, samples), (1 - insomnia, dreams)])
    largest, compared = 0.0, 0
    for pairs, parameters, parts, updated in zip(conditionals(states), before, shares, updates):
        for (sending, receiving), parameter, update in zip(pairs, parameters, updated, strict=True):
            sending = torch.cat([sending, torch.ones(len(sending), 1)], 1).double()
            error = receiving - torch.sigmoid(sending @ parameter)
            mean, variance = 0.0, 0.0
            for share, mass in parts:
                part = sending.t() @ (mass[:, None] * error)
                mean = mean + share * part
                # Rows are fixed and an image's samples are averaged: both make the true variance smaller than this one.
                variance = variance + share**2 * (sending.t() @ (mass[:, None] * error**2) - part**2)
            deviation = torch.sqrt(variance.clamp(min=0) / machine.batch_size) + 1e-6
            largest = max(largest, ((update - mean) / deviation).abs().max().item())
            compared += update.numel()
    require(largest < 5, f"expected updates, {machine.sampler}: {compared} parameters within {largest:.1f} standard "
                         "errors of enumeration (false alarm below 1e-4)")  # fmt: skip


def check_log_weights(machine, x, log_weights):
    """The estimate of a small three-layer machine meets the exact likelihood, summed over all states."""
    h1 = every_state(machine.sizes[1]).repeat_interleave(2 ** machine.sizes[2], 0)
    h2 = every_state(machine.sizes[2]).repeat(2 ** machine.sizes[1], 1)
    above = log_bernoulli(h2, machine.prior.expand_as(h2)) + log_bernoulli(h1, machine.generative.logits(1, h2))
    visible = machine.generative.logits(0, h1)
    exact = torch.stack([torch.logsumexp(above + log_bernoulli(row.expand_as(visible), visible), 0) for row in x])
    ratios = torch.exp(log_weights.double() - exact[:, None])
    standard_error = ratios.std(1) / math.sqrt(log_weights.shape[1])
    largest = (ratios.mean(1) - 1).abs().div(standard_error).max().item()
    require(largest < 5, f"importance-sampled estimate: {len(x)} rows within {largest:.1f} standard errors of "
                         "enumeration (false alarm below 1e-5)")  # fmt: skip
    require(bool((log_weights.mean(1) < exact).all()), "the K=1 bound lies below the exact log-likelihood")


def check_tails(sampler):
    """Frequencies of the sampler from p = 0.001 to 0.999."""
    probabilities = torch.tensor([0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
    draws = 1000000
    machine = WakeSleep([9, 9], draws, Optimizer("sgd", 1.0), fair(9), sampler)
    machine.draw(probabilities.expand(draws, 9).contiguous(), machine.uniforms[0], machine.states[0])
    values = machine.states[0]
    require(bool(((values == 0) | (values == 1)).all()), f"samples are 0 or 1, {sampler}")
    error = (values.mean(0, dtype=torch.float64) - probabilities).abs()
    largest = (error / torch.sqrt(probabilities * (1 - probabilities) / draws)).max().item()
    require(largest < 5, f"sampling frequencies, {sampler}: within {largest:.1f} standard errors (false alarm 1e-5)")


def check():
    sgd = Optimizer("sgd", 1.0)
    for sampler in ("uniform", "bernoulli"):
        check_tails(sampler)
        for kind in ("sgd", "momentum", "adam"):
            machine = WakeSleep([13, 7, 5, 3], 37, Optimizer(kind, 0.05), fair(13), sampler)
            check_updates(randomize(machine), learn_by_wake_sleep)
        machine = WakeSleep([4, 3, 2], 200000, sgd, fair(4), sampler)
        check_expected_updates(randomize(machine), lambda log_p, log_q: log_q.exp())
    machine, x = randomize(WakeSleep([6, 4, 3], 8, sgd, fair(6)), scale=0.7), torch.rand(8, 6).round()
    check_log_weights(machine, x, machine.log_weights(x, 20000))


# ---------------------------------------------------------------------------------------------------- data and timing


def read_packed(path, units):
    packed = numpy.load(path)
    if packed.dtype != numpy.uint8 or packed.ndim != 2 or packed.shape[1] != (units + 7) // 8:
        give_up(f"{path} holds {packed.dtype} {packed.shape}; expected bit-packed uint8 rows of {(units + 7) // 8} "
                f"bytes for {units} visible units.")  # fmt: skip
    return torch.from_numpy(numpy.unpackbits(packed, axis=1, count=units).astype(numpy.float32))


class Minibatches:
    """Endless minibatches in an order drawn anew each epoch; rows that fill no whole batch wait for the next epoch."""

    def __init__(self, data, batch_size):
        if len(data) < batch_size:
            give_up(f"{len(data)} rows are fewer than a batch of {batch_size}.")
        self.data, self.batch_size = data, batch_size
        self.batch = torch.zeros(batch_size, data.shape[1])
        self.per_epoch = len(data) // batch_size
        self.position = self.per_epoch

    def next(self):
        if self.position == self.per_epoch:
            self.order, self.position = torch.randperm(len(self.data)), 0
        begin = self.position * self.batch_size
        self.position += 1
        return torch.index_select(self.data, 0, self.order[begin : begin + self.batch_size], out=self.batch)


def seconds_per_step(advance, steps):
    begin = time.perf_counter()
    for _ in range(steps):
        advance()
    return (time.perf_counter() - begin) / steps


def measure(advance, seconds, rounds):
    """Seconds a step in each of `rounds` rounds that take about `seconds` together."""
    seconds_per_step(advance, 20)  # warm-up
    steps = max(1, round(seconds / rounds / seconds_per_step(advance, 20)))
    return [seconds_per_step(advance, steps) for _ in range(rounds)]


def parser_of(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="784,200,200,200", help="widths of all layers, the visible one first")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--optimizer", choices=("sgd", "momentum", "adam"), default="momentum")
    parser.add_argument("--learning-rate", type=float, default=0.003, help="multiplies the mean gradient")
    parser.add_argument("--data", metavar="FILE.npy", help="bit-packed rows; without it, fair coin flips")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sampler", choices=("uniform", "bernoulli"), default="uniform")
    parser.add_argument("--seconds", type=float, default=10, help="time to measure for, about")
    parser.add_argument("--rounds", type=int, default=9, help="rounds of steps; medians are reported")
    parser.add_argument("--epochs", type=int, help="train for so many epochs instead, timed as one round")
    parser.add_argument("--test", metavar="FILE.npy", help="then estimate the likelihood of these bit-packed rows")
    parser.add_argument("--test-samples", type=int, default=1000, help="samples of the estimate")
    parser.add_argument("--limit", type=int, default=1000, help="rows of --test to use")
    parser.add_argument("--compile", action="store_true", help="run the phases through torch.compile")
    parser.add_argument("--check", action="store_true", help="check the peer's correctness and stop")
    parser.add_argument("--json", action="store_true")
    return parser


@torch.inference_mode()
def main(arguments, algorithm, make, check):
    """Checks, trains or measures; `make(sizes, batch_size, optimizer, visible_means, sampler)` makes the machine and
    `algorithm` is what the result says of it."""
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)  # before the first parallel operation, whose threads inherit it
    torch.manual_seed(arguments.seed)
    if arguments.check:
        check()
        return

    sizes = [int(width) for width in arguments.layers.split(",")]
    if arguments.data:
        data = read_packed(arguments.data, sizes[0])
    else:
        data = torch.rand(SYNTHETIC_BATCHES * arguments.batch_size, sizes[0]).round()
    optimizer = Optimizer(arguments.optimizer, arguments.learning_rate)
    machine = make(sizes, arguments.batch_size, optimizer, data.mean(0), arguments.sampler)
    if arguments.compile:
        machine.wake, machine.sleep = torch.compile(machine.wake), torch.compile(machine.sleep)
    minibatches = Minibatches(data, arguments.batch_size)
    advance = lambda: machine.step(minibatches.next())

    if arguments.epochs:
        times = [seconds_per_step(advance, arguments.epochs * minibatches.per_epoch)]
    else:
        times = measure(advance, arguments.seconds, arguments.rounds)
    step_seconds = statistics.median(times)
    result = {
        "images_per_second": arguments.batch_size / step_seconds,
        "step_ms": 1e3 * step_seconds,
        "images_per_second_rounds": [arguments.batch_size / t for t in times],
        **algorithm,
        "layers": sizes,
        "batch_size": arguments.batch_size,
        "optimizer": arguments.optimizer,
        "sampler": arguments.sampler,
        "compiled": arguments.compile,
        "threads": arguments.threads,
        "torch": torch.__version__,
        "blas": blas_name(),
        "environment": {
            name: os.environ[name]
            for name in ("OMP_WAIT_POLICY", "LD_PRELOAD", "LD_LIBRARY_PATH")
            if name in os.environ
        },
    }
    if arguments.test:
        rows = read_packed(arguments.test, sizes[0])[: arguments.limit]
        estimate, bound = machine.estimate(rows, arguments.test_samples)
        result.update(
            nll=-estimate.mean().item(),
            standard_error=(estimate.std() / math.sqrt(len(estimate))).item(),
            bound=-bound.mean().item(),
            test_samples=arguments.test_samples,
            rows=len(estimate),
        )
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:26} {value}")


def blas_name():
    """What torch says about its BLAS, and the library behind a generic one."""
    lines = torch.__config__.show().splitlines()
    named = [line.strip(" -") for line in lines if "Math Kernel Library Version" in line]
    if named:
        return named[0]
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        loaded = {os.path.realpath(line.split()[-1]) for line in maps if "blas" in line or "blis" in line}
    return ", ".join(sorted(os.path.basename(path) for path in loaded)) or "unknown"


if __name__ == "__main__":
    main(parser_of(__doc__).parse_args(), {"algorithm": "wake-sleep"}, WakeSleep, check)
