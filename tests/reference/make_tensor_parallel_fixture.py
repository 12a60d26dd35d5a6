"""Makes tests/fixtures/tensor_parallel.json: losses, gradients and what each device computes on the way, of
tensor_parallel.py on 2 and 4 simulated devices in float64. All of it is first held against gpt.py on one device.
Needs jax and numpy; takes a minute.

    python3 tests/reference/make_tensor_parallel_fixture.py

A case is one of make_fixtures.py, with the same keys (name, flags, window, skew, masked), whose tokens, targets and
weights are made in the same way, and more:
    shaken               norms and biases start at 1 and 0, which hides what is added t times or never: to element i of
                         each parameter with one axis is added element i of the stream "shaken." + its name, uniform in
                         [-shaken, shaken), of the case's seed
    loss                 of step 0, in nats per real target
    gradient_norm        over all parameters, each counted once
    parameters           for each: its name, count, [norm, projection] of its value and of its gradient, in the whole
                         layout, as in make_fixtures.py (the vocabulary has V rows, without padding)
    gradients            in full, for the smallest model; by name, whole, in the order of memory
    devices              what happens on `tensor_parallel` devices, without and with `sequence_parallel`: `watched` has
                         lines [name, shape, device 0, device 1 ..], a device being [norm, projection, norm of the
                         gradient, projection of the gradient] of a value of that shape on that device, and the
                         gradient that of the loss with respect to that device's value alone. The direction of a
                         projection has the stream "projection." + name, from element 0, on every device

What is watched (x is (B,T,C), t devices; who holds what is said in tensor_parallel.py):
    token.partial              Partial (B,T,C): this device's words looked up, 0 for other words
    blocks.N.qkv.input         Private (B,T,C): what the columns are applied to; its gradient is Partial, before the
    blocks.N.ffn_up.input      all-reduce (or reduce-scatter) that ends backward of a column-parallel layer
    blocks.N.qkv               Shard(2) (B,T,(H + 2K) D / t): with its bias, before RoPE; [queries | keys | values] of
                               this device's heads
    blocks.N.ffn_up            Shard(2) (B,T,F / t), or [gate | up] (B,T,2F / t): with its bias, before the activation
    blocks.N.attention_out.partial   Partial (B,T,C): this device's rows applied, before the sum and without the bias;
    blocks.N.ffn_down.partial        its gradient is that of the sum, the same on all devices
    head.input                 Private (B,T,C), as the inputs above
    logits                     Shard(2) (B,T,words of this device without padding; its own shape, see below)
    sum_exp                    Partial (B,T): of exp(logit - the highest of all devices), over this device's words
    picked                     Partial (B,T): the target's logit on the device that has it, else 0
With sequence_parallel all of these are the same, to rounding, and are not repeated; there are, for device r:
    NORM.input                 Shard(1) (B,T / t,C): positions r T/t .. (r + 1) T/t - 1 of each row of the residual sum
    NORM.weight, NORM.bias, position.weight, blocks.N.attention_out.bias, blocks.N.ffn_down.bias
                               the parameter, whole; its gradient is this device's term, before they are summed up
A shape is that of device 0; of `logits` device r has min(n, max(0, V - r n)) columns, n = ceil(V / t).
"""
import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"

import numpy as np

import gpt
import make_fixtures
import philox
import tensor_parallel

SHAKEN = 0.3
SAME = 1e-12  # relative to the largest: what float64 may differ by in another order of sums

CASES = {
    "rope, grouped heads, rmsnorm, swiglu": dict(
        vocab_size=67, hidden_size=48, intermediate_size=20, num_attention_heads=8, num_key_value_heads=4,
        norm="rmsnorm", positions="rope", activation="swiglu", init_deviation=0.2, norm_eps=1e-6, micro_batch_size=3,
    ),
    "post-norm, relu, untied": dict(
        vocab_size=61, hidden_size=40, intermediate_size=28, num_attention_heads=4, num_key_value_heads=4,
        norm_place="post", activation="relu", tied=False, init="xavier", seed=2,
    ),
    "in full, words for three of four devices": dict(
        vocab_size=5, hidden_size=8, intermediate_size=4, num_layers=1, num_attention_heads=4, num_key_value_heads=4,
        max_seq_length=5, init_deviation=0.2, full=True,
    ),
}  # fmt: skip


def parameters_of(config):
    parameters = gpt.initial_parameters(config)
    for name, w in parameters.items():
        if w.ndim == 1:
            w += philox.uniform(config["seed"], philox.stream(f"shaken.{name}"), 0, w.size, -SHAKEN, SHAKEN)
    return parameters


def furthest(pairs):
    """Of (got, want): the largest difference, relative to the largest element of all that is wanted."""
    return np.max([np.max(np.abs(got - want)) for got, want in pairs]) / np.max([np.max(np.abs(want)) for _, want in pairs])


def check(what, off):
    print(f"  {what}: off by {off:.1e}")
    assert off < SAME


def without_padding(name, slices, config):
    """(devices, ..) -> each device's own; words that do not exist are left out."""
    if name != "logits":
        return list(slices)
    words = slices.shape[-1]
    return [x[..., : max(0, config["vocab_size"] - rank * words)] for rank, x in enumerate(slices)]


def lines(config, watched):
    result = []
    for name, value_and_gradient in watched.items():
        value, gradient = (without_padding(name, x, config) for x in value_and_gradient)
        devices = [sum((make_fixtures.summaries({name: x})[name] for x in pair), []) for pair in zip(value, gradient)]
        result.append([name, list(value[0].shape), *devices])
    return result


def is_residual(name):
    """What sequence parallelism cuts."""
    return "norm" in name and name.endswith(".input")


def furthest_of_sequence(watched, whole):
    """What each device has with sequence parallelism is what it has without, or its positions of that."""
    off = []
    for name in whole:
        for got, want in zip(watched[name], whole[name]):  # value, gradient
            off.append(furthest([(np.concatenate(got, 1), want[0]) if is_residual(name) else (got, want)]))
    return np.max(off)


def describe(name, changes):
    changes = dict(changes)
    full = changes.pop("full", False)
    config = {**make_fixtures.DEFAULTS, **changes}
    data = dict(window=config["max_seq_length"] - 1, skew=1, masked=0.2)  # a whole number for each of 4 devices
    parameters, batch = parameters_of(config), make_fixtures.batch(config, data, 0)
    loss, gradient = make_fixtures.jax.value_and_grad(lambda p: gpt.mean_loss(config, p, *batch))(parameters)
    gradient = {name: np.asarray(gradient[name]) for name in parameters}

    case = dict(name=name, flags=config, **data, shaken=SHAKEN, loss=float(loss))
    case["gradient_norm"] = float(gpt.gradient_norm(gradient))
    before, after = (make_fixtures.summaries(values) for values in (parameters, gradient))
    case["parameters"] = [[p, w.size, before[p], after[p]] for p, w in parameters.items()]
    if full:
        case["gradients"] = {p: g.reshape(-1).tolist() for p, g in gradient.items()}
    case["devices"] = []
    print(f"{name}: {sum(w.size for w in parameters.values())} parameters, loss {loss:.4f}")
    for devices in (2, 4):
        whole = None
        for sequence in (False, True):
            about = f"{devices} devices{', sequence parallel' if sequence else ''}"
            loss, of_parameters, watched = tensor_parallel.run(config, devices, sequence, parameters, *batch)
            check(f"{about}, loss", furthest([(loss, case["loss"])]))
            check(f"{about}, gradient", furthest([(of_parameters[p], g) for p, g in gradient.items()]))
            if sequence:
                check(f"{about}, values on the way and their gradients", furthest_of_sequence(watched, whole))
                kept = [name for name in watched if name not in whole or is_residual(name)]
            else:
                whole = watched
                kept = [name for name in watched if not is_residual(name)]
            watched = lines(config, {name: watched[name] for name in kept})
            case["devices"].append(dict(tensor_parallel=devices, sequence_parallel=sequence, watched=watched))
    return case


if __name__ == "__main__":
    philox.check()
    make_fixtures.write("tensor_parallel.json", [describe(*case) for case in CASES.items()])
