#!/usr/bin/env python3
"""Reweighted wake-sleep by hand in PyTorch: the peer that the engine is measured against.

The algorithm is that of host/reweighted_wake_sleep.cpp (docs/math.md): K samples an image with self-normalised
importance weights w_k train the generative weights (wake-theta) and, mixed with one dream an image (sleep-phi), the
recognition weights (wake-phi). Layers, optimisers, dreams, sampling and timing are those of pytorch_wake_sleep.py. What
makes the K samples fast:

  * They share the image, and with it the first recognition layer's product; its gradient takes one row an image, for
    which the samples' deltas are summed first.
  * No product is done twice: the logits that draw or score a sample become the error that learns from it.
  * Log weights need no softplus of their own: they reuse the probabilities that the errors need anyway.
  * w_k multiplies the states that send, which both directions share and which are fewer than the visible layer's
    errors; for a bias it is the vector of its product.
  * Wake-phi and sleep-phi add up inside their products, for one update by the optimiser.

bench/README.md says how it was tuned; bench/compare.py finds its best setting on a machine and measures it.
"""

import functools

import torch

import pytorch_wake_sleep as peer

LEAST_LOGIT = -80.0  # of which sigma is a normal float32, so that it has a logarithm


class ReweightedWakeSleep(peer.WakeSleep):
    """Sample k of image b is row b K + k of what holds K samples an image."""

    def __init__(self, sizes, batch_size, optimizer, visible_means, sampler="uniform", samples=5, insomnia=0.5):
        super().__init__(sizes, batch_size, optimizer, visible_means, sampler)
        self.samples, self.insomnia = samples, insomnia
        rows = batch_size * samples
        matrices = lambda layers: {l: torch.zeros(rows, sizes[l]) for l in layers}
        self.hidden = matrices(range(1, self.top + 1))
        self.weighted = matrices(range(1, self.top + 1))  # w_k h^k
        # Of layer l given its neighbour; probabilities, until the states are known.
        self.generative_errors = matrices(range(self.top))
        self.recognition_errors = matrices(range(2, self.top + 1))
        self.first_probabilities, self.first_scratch = (torch.zeros(batch_size, sizes[1]) for _ in range(2))
        shared = lambda: torch.zeros(rows * max(sizes))  # by all layers
        by_layer = lambda memory: [memory[: rows * units].view(rows, units) for units in sizes]
        self.sample_logits, self.scratch = by_layer(shared()), by_layer(shared())
        self.scores, self.log_w, self.w = torch.zeros(rows), torch.zeros(rows), torch.zeros(rows)

    def by_image(self, rows):
        return rows.view(self.batch_size, self.samples, -1)

    def wake(self, x):
        self.sample(x)
        self.learn_from_samples(x)

    def sleep(self):
        self.learn_from_dreams(kept=1.0, share=1 - self.insomnia)

    def sample(self, x):
        """h^k ~ q(. | x), the errors of all predictions, and w_k = softmax_k(log p(x, h^k) - log q(h^k | x))."""
        self.log_w.zero_()
        self.sample_first(x)
        self.score_below(1, x[:, None], self.by_image)
        for l in range(2, self.top + 1):
            h = self.hidden[l]
            logits, probabilities = self.predict(
                self.recognition, l - 1, self.hidden[l - 1], self.sample_logits[l], self.recognition_errors[l]
            )
            self.draw(probabilities, self.scratch[l], h)
            self.add_score(-1, l, h, logits, self.minus_softplus(logits, probabilities, self.scratch[l]))
            torch.sub(h, probabilities, out=probabilities)
            self.score_below(l, self.hidden[l - 1])
        # The prior's softplus is the same for every sample.
        self.log_w.addmv_(self.hidden[self.top], self.prior)
        self.log_w.sub_(torch.nn.functional.softplus(self.prior).sum())
        torch.softmax(self.log_w.view(self.batch_size, self.samples), 1, out=self.w.view(self.batch_size, self.samples))

    def sample_first(self, x):
        """As of every layer, but its logits are one row an image."""
        h, scratch = self.by_image(self.hidden[1]), self.by_image(self.scratch[1])
        logits, probabilities = self.predict(self.recognition, 0, x, self.logits[1], self.first_probabilities)
        self.draw(probabilities[:, None].expand_as(h), scratch, h)
        minus_softplus = self.minus_softplus(logits, probabilities, self.first_scratch)
        self.add_score(-1, 1, h, logits[:, None], minus_softplus[:, None], self.by_image)

    def score_below(self, l, below, shaped=lambda rows: rows):
        """Scores the states below layer l given that layer, and leaves their errors."""
        logits, probabilities = self.predict(
            self.generative, l - 1, self.hidden[l], self.sample_logits[l - 1], self.generative_errors[l - 1]
        )
        minus_softplus = self.minus_softplus(logits, probabilities, self.scratch[l - 1])
        self.add_score(1, l - 1, below, shaped(logits), shaped(minus_softplus), shaped)
        torch.sub(below, shaped(probabilities), out=shaped(probabilities))

    def predict(self, direction, index, sending, logits, probabilities):
        direction.logits(index, sending, logits).clamp_min_(LEAST_LOGIT)
        return logits, torch.sigmoid(logits, out=probabilities)

    def minus_softplus(self, logits, probabilities, out):
        """log(1 - sigma(a)) as log sigma(a) - a, which cancels nothing; torch's softplus takes twice as long."""
        return torch.log(probabilities, out=out).sub_(logits)

    def add_score(self, sign, layer, states, logits, minus_softplus, shaped=lambda rows: rows):
        """log w += sign * log p(states), s a - softplus(a) for a unit."""
        torch.addcmul(minus_softplus, states, logits, out=shaped(self.scratch[layer]))
        self.log_w.add_(torch.sum(self.scratch[layer], 1, out=self.scores), alpha=sign)

    def learn_from_samples(self, x):
        """Updates the generative weights; leaves wake-phi's share in the recognition gradient."""
        kept = self.optimizer.kept
        for l in range(1, self.top + 1):
            torch.mul(self.hidden[l], self.w[:, None], out=self.weighted[l])
            self.add_gradient(self.generative, l - 1, self.weighted[l], self.generative_errors[l - 1], self.w, kept)
        self.add_prior_gradient(self.hidden[self.top], self.w)
        self.optimizer.update(self.generative, self.step_count)

        first_error = torch.sum(self.by_image(self.weighted[1]), 1, out=self.first_scratch)
        first_error.sub_(self.first_probabilities)
        self.add_gradient(self.recognition, 0, x, first_error, self.ones, kept, self.insomnia)
        for l in range(2, self.top + 1):
            self.add_gradient(
                self.recognition, l - 1, self.weighted[l - 1], self.recognition_errors[l], self.w, kept, self.insomnia
            )


# ---------------------------------------------------------------------------------------------------- correctness


def learn_by_reweighted_wake_sleep(machine, x):
    """Runs a step and yields, after each phase, the direction that has learnt and the objective at its states."""
    machine.sample(x)
    states = [x.repeat_interleave(machine.samples, 0), *(h.clone() for h in machine.hidden.values())]
    log_w = machine.log_ratio(states).view(len(x), machine.samples)
    w = torch.softmax(log_w, 1).flatten() / len(x)
    machine.learn_from_samples(x)
    generative, recognition = peer.conditionals(states)
    yield machine.generative, [(generative, w)]
    machine.sleep()
    dreams = torch.full((len(x),), (1 - machine.insomnia) / len(x), dtype=torch.float64)
    yield machine.recognition, [
        (recognition, machine.insomnia * w), (peer.conditionals(machine.states)[1], dreams)
    ]  # fmt: skip


def expected_counts(log_p, log_q, samples):
    """E[sum_k w_k 1(h^k = h)] over all tuples of samples, for images x hidden states h: K q(h) E[w_1 | h^1 = h]."""
    q, ratio = log_q.exp(), (log_p - log_q).exp()
    others, probability = torch.zeros(len(q), 1, dtype=q.dtype), torch.ones(len(q), 1, dtype=q.dtype)
    for _ in range(samples - 1):
        others = (others[:, :, None] + ratio[:, None, :]).flatten(1)
        probability = (probability[:, :, None] * q[:, None, :]).flatten(1)
    w = ratio[:, :, None] / (ratio[:, :, None] + others[:, None, :])
    return samples * q * (w * probability[:, None, :]).sum(2)


def check():
    sgd = peer.Optimizer("sgd", 1.0)
    for sampler in ("uniform", "bernoulli"):
        peer.check_tails(sampler)
        for kind in ("sgd", "momentum", "adam"):
            for sizes in ([13, 7, 5, 3], [13, 7]):
                optimizer = peer.Optimizer(kind, 0.05)
                machine = ReweightedWakeSleep(sizes, 37, optimizer, peer.fair(13), sampler, samples=4, insomnia=0.3)
                peer.check_updates(peer.randomize(machine), learn_by_reweighted_wake_sleep)
        for samples, insomnia in ((1, 0.5), (2, 0.3), (3, 0.5), (3, 1.0)):
            machine = ReweightedWakeSleep([4, 3, 2], 100000, sgd, peer.fair(4), sampler, samples, insomnia)
            counts = functools.partial(expected_counts, samples=samples)
            peer.check_expected_updates(peer.randomize(machine), counts, insomnia)
    machine = ReweightedWakeSleep([6, 4, 3], 8, sgd, peer.fair(6), samples=20000)
    x = torch.rand(8, 6).round()
    peer.randomize(machine, scale=0.7).sample(x)
    peer.check_log_weights(machine, x, machine.log_w.view(8, 20000))
    peer.check_log_weights(machine, x, machine.log_weights(x, 20000))


def main():
    parser = peer.parser_of(__doc__)
    parser.add_argument("--samples", type=int, default=5, help="hidden states drawn for each image, K")
    arguments = parser.parse_args()
    make = functools.partial(ReweightedWakeSleep, samples=arguments.samples)
    peer.main(arguments, {"algorithm": "reweighted-wake-sleep", "samples": arguments.samples}, make, check)


if __name__ == "__main__":
    main()
