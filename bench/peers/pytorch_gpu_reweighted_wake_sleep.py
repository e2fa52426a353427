#!/usr/bin/env python3
"""Reweighted wake-sleep by hand in PyTorch for a GPU: the peer that the CUDA engine is measured against.

The algorithm is that of host/reweighted_wake_sleep.cpp with plain SGD (docs/math.md): K samples an image with
self-normalised importance weights w_k train the generative weights (wake-theta) and, mixed with one dream an image
(sleep-phi), the recognition weights (wake-phi). Layers, dreams, precisions, graphs and timing are those of
pytorch_gpu_wake_sleep.py, whose reasons hold here too. What makes the K samples fast:

  * They share the image, and with it the first recognition layer's product; its gradient takes one row an image, for
    which the samples' states are averaged first.
  * No product is done twice: the logits that draw or score a sample become the error that learns from it.
  * w_k multiplies the states that send, which both directions share and which are fewer than the visible layer's errors.
  * `--body compiled`: all that lies between two products is one or two kernels by torch.compile.

It proves itself before it is timed (`--check`), in the very setting that is timed. The peer for the CPU is
pytorch_reweighted_wake_sleep.py.
"""

import argparse
import itertools

import numpy
import torch
from torch.nn.functional import softplus

import pytorch_gpu_wake_sleep as peer
from pytorch_reweighted_wake_sleep import expected_counts


def log_probability(states, logits):
    """Of rows of states, their last dimension: the sum of s a - softplus(a)."""
    return (states * logits - softplus(logits)).sum(-1)


def draw_samples(x, recognition, generative, prior, tails, samples):
    """h^k ~ q(. | x) and w_k = softmax_k(log p(x, h^k) - log q(h^k | x)), with all that learns from them.

    Sample k of image b is row b K + k. Returns the states of layers 1.. with their tails, the weights, the states times
    the weights, the errors of the generative predictions of layers 0.., those of the recognition predictions of layers
    2.., and of layer 1 sum_k w_k h^k - q, one row an image.
    """
    images, dtype = len(x), x.dtype
    by_image = lambda rows: rows.view(images, samples, -1)
    first_logits = (x @ recognition[0]).float()
    first_q = torch.sigmoid(first_logits)
    units = (torch.rand(images, samples, first_q.shape[1], device=x.device) < first_q[:, None]).float()
    log_w = -log_probability(units, first_logits[:, None])
    below = x[:, None, : generative[0].shape[1]].float()
    hidden, states, generative_errors, recognition_errors = [units], [], [], []
    for l, predict in enumerate(generative):
        if l > 0:
            logits = by_image((states[-1] @ recognition[l]).float())
            q = torch.sigmoid(logits)
            below, units = units, (torch.rand_like(q) < q).float()
            log_w = log_w - log_probability(units, logits)
            recognition_errors.append((units - q).to(dtype).flatten(0, 1))
            hidden.append(units)
        states.append(torch.cat([units.to(dtype).flatten(0, 1), tails[l + 1]], 1))
        logits = by_image((states[-1] @ predict).float())
        log_w = log_w + log_probability(below, logits)
        generative_errors.append((below - torch.sigmoid(logits)).to(dtype).flatten(0, 1))
    log_w = log_w + log_probability(units, prior)
    w = torch.softmax(log_w, 1)
    weighted = [(s.float() * w.view(-1, 1)).to(dtype) for s in states]
    first_error = ((hidden[0] * w[:, :, None]).sum(1) - first_q).to(dtype)
    return states, w, weighted, generative_errors, recognition_errors, first_error


class ReweightedWakeSleep(peer.WakeSleep):
    def __init__(self, sizes, settings, rows=None):
        super().__init__(sizes, settings, rows)
        self.samples, self.insomnia = settings.samples, settings.insomnia
        self.sample_tails = [self.new_tail(units, self.batch_size * self.samples) for units in sizes]
        self.rates = self.rate, self.rate * self.insomnia  # of wake-theta and wake-phi
        self.rate *= 1 - self.insomnia  # of sleep-phi, which the inherited phase learns by
        self.draw = draw_samples
        if settings.body == "compiled":
            mode = "max-autotune-no-cudagraphs" if settings.autotune else "default"
            self.draw = torch.compile(draw_samples, mode=mode, dynamic=False, fullgraph=True)

    def sample(self, x):
        return self.draw(
            x, self.recognition.operands, self.generative.operands, self.prior, self.sample_tails, self.samples
        )

    def wake_theta(self, drawn):
        states, w, weighted, generative_errors, *_ = drawn
        for index, error in enumerate(generative_errors):
            self.beside(lambda: self.add(self.generative.masters[index], weighted[index], error, self.rates[0]))
        self.beside(self.generative.refresh)
        # The prior's error is h_L - sigma(a), and sigma(a) is the same for every sample.
        mean = weighted[-1][:, : self.sizes[-1]].sum(0, dtype=torch.float32).div_(self.batch_size)
        self.prior.add_(mean.sub_(torch.sigmoid(self.prior)), alpha=self.settings.learning_rate)

    def wake_phi(self, x, drawn):
        states, w, weighted, generative_errors, recognition_errors, first_error = drawn
        self.add(self.recognition.masters[0], x, first_error, self.rates[1])
        for index, error in enumerate(recognition_errors, 1):
            self.add(self.recognition.masters[index], weighted[index - 1], error, self.rates[1])

    def meet(self):
        if self.side is not None:
            torch.cuda.current_stream().wait_stream(self.side)

    def step(self, indices):
        torch.index_select(self.data, 0, indices, out=self.x)
        self.step_with(self.x)

    def step_with(self, x):
        drawn = self.sample(x)
        self.wake_theta(drawn)
        # Wake-phi and sleep-phi are one update at the same weights: where the products read copies, these stay as they
        # are until the dreams are over; where they read the weights, the samples' share has to wait for the dreams.
        copies = self.recognition.copies is not self.recognition.values
        if copies:
            self.wake_phi(x, drawn)
        self.meet()
        dreams = self.sleep()
        if not copies:
            self.wake_phi(x, drawn)
        return drawn, dreams


# ---------------------------------------------------------------------------------------------------- correctness


def numpy_log_w(machine, x, states, operands):
    """log p(x, h) - log q(h | x) in float64, of rows of states with their tails."""
    recognition, generative, prior = operands
    units = lambda rows, layer: rows[:, : machine.sizes[layer]]
    score = lambda s, a: (s * a - numpy.logaddexp(0, a)).sum(1)
    result = score(units(states[-1], machine.top), prior[None])
    for l in range(1, machine.top + 1):
        result += score(units(states[l - 1], l - 1), states[l] @ generative[l - 1])
        result -= score(units(states[l], l), states[l - 1] @ recognition[l - 1])
    return result


def check_updates(arguments):
    """Weights and every update of several steps against numpy in float64 at the same states."""
    sizes, batch_size, rate = [29, 13, 7, 5], 37, 0.5
    machine = peer.machine_for_check(sizes, arguments, batch_size, rate, make=ReweightedWakeSleep)
    # Logits are sums of 29 terms at most, each weight's log the sum of 83 logits.
    largest, worst_log_w, tolerance = 0.0, 0.0, {"float32": 1e-3, "tf32": 0.3, "bf16": 0.6}[arguments.precision]
    for _ in range(3):
        x = machine.with_tail(torch.rand(batch_size, sizes[0]).round())
        masters = {d: [peer.float64(t) for t in d.masters] for d in (machine.recognition, machine.generative)}
        operands = [[peer.float64(t) for t in d.operands] for d in (machine.recognition, machine.generative)]
        prior = peer.float64(machine.prior)
        drawn, dreams = machine.step_with(x)
        states = [numpy.repeat(peer.float64(x), machine.samples, 0), *(peer.float64(s) for s in drawn[0])]
        log_w = numpy_log_w(machine, states[0], states, (*operands, prior)).reshape(batch_size, -1)
        w = peer.float64(drawn[1])
        shift = numpy.log(w) - log_w
        believable = w > 1e-6
        for row, kept in zip(shift, believable):
            worst_log_w = max(worst_log_w, numpy.ptp(row[kept]))
        w = w.reshape(-1, 1)
        dreams = [peer.float64(d) for d in reversed(dreams)]
        units = lambda rows, layer: rows[:, : sizes[layer]]
        for l in range(1, machine.top + 1):
            error = units(states[l - 1], l - 1) - peer.sigmoid(states[l] @ operands[1][l - 1])
            expected = {machine.generative: rate / batch_size * (w * states[l]).T @ error}
            wake = (w * states[l - 1]).T @ (units(states[l], l) - peer.sigmoid(states[l - 1] @ operands[0][l - 1]))
            sleep = dreams[l - 1].T @ (units(dreams[l], l) - peer.sigmoid(dreams[l - 1] @ operands[0][l - 1]))
            share = machine.insomnia
            expected[machine.recognition] = rate / batch_size * (share * wake + (1 - share) * sleep)
            for direction, change in expected.items():
                found = peer.float64(direction.masters[l - 1]) - masters[direction][l - 1]
                largest = max(largest, numpy.abs(found - change).max() / numpy.abs(change).max())
                copy = direction.masters[l - 1].to(machine.dtype)
                peer.require_quiet(bool((copy == direction.operands[l - 1]).all()), "operands follow the masters")
        expected = prior + rate * ((w * units(states[-1], machine.top)).sum(0) / batch_size - peer.sigmoid(prior))
        error = numpy.abs(peer.float64(machine.prior) - expected).max()
        peer.require_quiet(error < peer.TOLERANCES[arguments.precision], "update of the prior")
    peer.require(worst_log_w < tolerance, f"importance weights: log w within {worst_log_w:.1e} of float64 arithmetic")
    allowed = 2 * peer.TOLERANCES[arguments.precision]
    peer.require(largest < allowed, f"updates: within {largest:.1e} of float64 arithmetic on the same states")


def deviations_of_images(machine, x, drawn, dreams):
    """Standard errors of every update's mean over a large batch, from the images' own terms."""
    units = lambda rows, layer: peer.float64(rows)[:, : machine.sizes[layer]]
    w = peer.float64(drawn[1])
    h = [numpy.repeat(units(x, 0), machine.samples, 0)]
    h += [units(s, l) for l, s in enumerate(drawn[0], 1)]
    dreamt = [units(d, machine.top - i) for i, d in enumerate(dreams)][::-1]
    share = machine.insomnia

    def terms(sending, errors, weights):
        by_image = lambda rows: rows.reshape(len(w), -1, rows.shape[1])
        return numpy.einsum("bk,bki,bkj->bij", weights, by_image(sending), by_image(errors))

    def logits(direction, sending):
        return [sending[i] @ peer.float64(direction.weight(i)) + peer.float64(direction.bias(i)) for i in range(machine.top)]

    result = {}
    for l, a in enumerate(logits(machine.generative, h[1:]), 1):
        result["generative", l] = terms(h[l], h[l - 1] - peer.sigmoid(a), w)
    ones = numpy.ones((len(w), 1))
    awake, asleep = logits(machine.recognition, h), logits(machine.recognition, dreamt)
    for l in range(1, machine.top + 1):
        wake = terms(h[l - 1], h[l] - peer.sigmoid(awake[l - 1]), w)
        sleep = terms(dreamt[l - 1], dreamt[l] - peer.sigmoid(asleep[l - 1]), ones)
        result["recognition", l] = share * wake + (1 - share) * sleep
    return {name: t.std(0) / numpy.sqrt(len(w)) for name, t in result.items()}


def enumerated(machine, rows):
    """The expected update of every weight, over all states of a machine with two hidden layers and all samples."""
    sizes, top = machine.sizes, machine.top
    every = [numpy.array(s, float) for s in itertools.product((0, 1), repeat=sum(sizes[1:]))]
    split = lambda s: numpy.split(s, numpy.cumsum(sizes[1:])[:-1])
    weight, bias = (lambda d, i: peer.float64(d.weight(i))), (lambda d, i: peer.float64(d.bias(i)))
    log_probability = lambda s, a: float((s * a - numpy.logaddexp(0, a)).sum())
    up = lambda h, l: h[l - 1] @ weight(machine.recognition, l - 1) + bias(machine.recognition, l - 1)
    down = lambda h, l: h[l] @ weight(machine.generative, l - 1) + bias(machine.generative, l - 1)
    prior = peer.float64(machine.prior)
    zeros = lambda d: [numpy.zeros_like(weight(d, i)) for i in range(top)]
    theta, phi = zeros(machine.generative), zeros(machine.recognition)
    images, frequency = numpy.unique(rows.numpy(), axis=0, return_counts=True)
    chains = [[[image, *split(s)] for s in every] for image in images.astype(float)]
    log_q = [[sum(log_probability(h[l], up(h, l)) for l in range(1, top + 1)) for h in of] for of in chains]
    log_p = [[log_probability(h[top], prior) + sum(log_probability(h[l - 1], down(h, l)) for l in range(1, top + 1))
              for h in of] for of in chains]  # fmt: skip
    counts = expected_counts(torch.tensor(log_p).double(), torch.tensor(log_q).double(), machine.samples).numpy()
    for of, count, share in zip(chains, counts, frequency / len(rows)):
        for h, expected in zip(of, count):
            for l in range(1, top + 1):
                theta[l - 1] += share * expected * numpy.outer(h[l], h[l - 1] - peer.sigmoid(down(h, l)))
                wake = numpy.outer(h[l - 1], h[l] - peer.sigmoid(up(h, l)))
                phi[l - 1] += machine.insomnia * share * expected * wake
    for visible in itertools.product((0.0, 1.0), repeat=sizes[0]):
        for s in every:
            h = [numpy.array(visible), *split(s)]
            p = numpy.exp(log_probability(h[top], prior) + sum(log_probability(h[l - 1], down(h, l)) for l in range(1, top + 1)))
            for l in range(1, top + 1):
                dream = numpy.outer(h[l - 1], h[l] - peer.sigmoid(up(h, l)))
                phi[l - 1] += (1 - machine.insomnia) * p * dream
    return {"generative": theta, "recognition": phi}


def check_expected_updates(arguments):
    """Mean updates of a tiny machine over many rows against enumeration: samples, weights and rule together."""
    sizes, batch_size, compared, largest = [4, 3, 2], 32768, 0, 0.0
    for samples, insomnia in ((1, 0.5), (3, 0.3), (2, 1.0)):
        settings = argparse.Namespace(**{**vars(arguments), "samples": samples, "insomnia": insomnia})
        machine = peer.machine_for_check(sizes, settings, batch_size, 1.0, make=ReweightedWakeSleep)
        rows = torch.rand(batch_size, sizes[0]).round()
        x = machine.with_tail(rows)
        expected = enumerated(machine, rows)
        before = machine.generative.values.clone(), machine.recognition.values.clone(), machine.prior.clone()

        def restore():
            for parameters, values in zip((machine.generative.values, machine.recognition.values, machine.prior), before):
                parameters.copy_(values)
            machine.generative.refresh()
            machine.recognition.refresh()

        weights = lambda direction: [peer.float64(direction.weight(i)) for i in range(machine.top)]
        old = {"generative": weights(machine.generative), "recognition": weights(machine.recognition)}
        drawn = machine.sample(x)
        machine.wake_theta(drawn)
        machine.meet()
        new = {"generative": weights(machine.generative)}
        restore()  # the dreams are to be those of the machine that was enumerated, not of what wake-theta made of it
        dreams = machine.sleep()
        machine.wake_phi(x, drawn)
        new["recognition"] = weights(machine.recognition)
        restore()
        for (name, l), deviation in deviations_of_images(machine, x, drawn, dreams).items():
            error = numpy.abs(new[name][l - 1] - old[name][l - 1] - expected[name][l - 1])
            largest = max(largest, (error / (deviation + 1e-6)).max())
            compared += error.size
    peer.require(largest < 5, f"expected updates: {compared} weights within {largest:.1f} standard errors of enumeration "
                              "(false alarm below 1e-4)")  # fmt: skip


def check(arguments):
    check_updates(arguments)
    check_expected_updates(arguments)
    peer.check_steps(arguments, ReweightedWakeSleep)


def main():
    parser = peer.parser_of(__doc__)
    parser.add_argument("--samples", type=int, default=10, help="hidden states drawn for each image, K")
    parser.add_argument("--insomnia", type=float, default=0.5, help="share of the samples in the recognition gradient")
    arguments = peer.checked(parser)
    more = {"algorithm": "reweighted-wake-sleep", "samples": arguments.samples, "insomnia": arguments.insomnia}
    peer.main(arguments, more, ReweightedWakeSleep, check)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
