"""Makes tests/fixtures/{models,minigpt}.json: losses, gradients and weights of gpt.py in float64, which
tests/test_reference*.c compare with. Needs jax and numpy; takes a few minutes.

    python3 tests/reference/make_fixtures.py [models|minigpt]

A case holds the flags that shard.c's own parser reads, and what came out:
    losses, rates        of each step, in nats per real target
    gradient_norm        of the first step, over all parameters
    parameters           for each: its name, count, and the norm and the projection of its initial value, of its first
                         gradient and of its value after the last step; a projection is the dot product with uniform
                         numbers in [-1, 1) from the stream "projection." + name, seed 0
    gradients            of the first step in full, for the smallest models

Token t of row r of step s is element (s * global batch + r) * (window + 1) + t of the stream "reference.tokens": a word
w gives u = w / 2^32, squared `skew` times, and the token floor(V u); `skew` makes low tokens likely, so that there is
something to learn. A target is masked where element (s * global batch + r) * window + t of the stream
"reference.masks" is below `masked`.
"""
import json
import pathlib
import sys
import time

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")

import jax.numpy as jnp
import numpy as np

import gpt
import philox

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"

DEFAULTS = dict(
    vocab_size=67, hidden_size=24, intermediate_size=40, num_layers=2, num_attention_heads=3, num_key_value_heads=3,
    max_seq_length=13, norm="layernorm", norm_place="pre", positions="learned", activation="gelu", bias=True, tied=True,
    dropout=0.0, norm_eps=1e-5, init="gpt2", init_deviation=0.02, micro_batch_size=2, num_microbatches=1, max_steps=10, optimizer="adamw",
    learning_rate=1e-2, min_lr=1e-3, warmup_ratio=0.2, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, grad_clip=1.0,
    seed=1,
)  # fmt: skip

# What differs from DEFAULTS. Together they take every value of every option, next to several others.
CASES = {
    "gpt2": dict(num_microbatches=3),
    "minigpt, small": dict(
        norm_place="post", activation="relu", tied=False, init="xavier", norm_eps=1e-6, beta2=0.999, weight_decay=0.0,
        grad_clip=0.0, warmup_ratio=0.0, min_lr=1e-2, micro_batch_size=3,
    ),
    "llama, two tiles": dict(
        norm="rmsnorm", positions="rope", activation="swiglu", bias=False, tied=False, num_attention_heads=6,
        num_key_value_heads=2, max_seq_length=70, norm_eps=1e-6, init="xavier",
    ),
    "one key head, three tiles": dict(
        positions="rope", bias=False, num_attention_heads=6, num_key_value_heads=1, max_seq_length=131,
        micro_batch_size=1, num_microbatches=2,
    ),
    "post rmsnorm, swiglu": dict(
        norm="rmsnorm", norm_place="post", activation="swiglu", tied=False, num_key_value_heads=1, init="xavier",
        grad_clip=0.25,
    ),
    "three key heads": dict(
        positions="rope", activation="relu", num_attention_heads=6, num_key_value_heads=3, micro_batch_size=1,
        num_microbatches=4, seed=2, init_deviation=0.2,
    ),
    "no bias, post": dict(
        norm_place="post", bias=False, init="xavier", num_key_value_heads=1, micro_batch_size=3, num_layers=3, norm_eps=1e-3,
    ),
    "rmsnorm with linear biases": dict(
        norm="rmsnorm", num_attention_heads=6, num_key_value_heads=2, max_seq_length=70, num_microbatches=2,
        init="xavier", weight_decay=0.5,
    ),
    "sgd with momentum": dict(
        optimizer="sgd", norm_place="post", positions="rope", activation="swiglu", learning_rate=0.5, min_lr=0.1,
        num_attention_heads=6, num_key_value_heads=2, tied=False, num_microbatches=2, init="xavier",
    ),
    "in full, tied": dict(
        vocab_size=11, hidden_size=6, intermediate_size=5, num_layers=1, max_seq_length=5, num_microbatches=2, full=True,
    ),
    "in full, swiglu": dict(
        vocab_size=7, hidden_size=8, intermediate_size=3, num_layers=1, num_attention_heads=4, num_key_value_heads=2,
        max_seq_length=6, norm="rmsnorm", positions="rope", activation="swiglu", tied=False, norm_place="post", full=True,
    ),
}  # fmt: skip

# The tutorial's MiniGPT as shard.c's preset has it.
MINIGPT = dict(
    vocab_size=50257, hidden_size=256, intermediate_size=256, num_layers=4, num_attention_heads=8, num_key_value_heads=8,
    max_seq_length=256, norm="layernorm", norm_place="post", positions="learned", activation="relu", bias=True,
    tied=False, norm_eps=1e-6, init="xavier", init_deviation=0.02, optimizer="adamw", learning_rate=1e-3, min_lr=1e-3, warmup_ratio=0.0,
    beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, grad_clip=0.0, seed=1,
)  # fmt: skip


def batch(config, data, step):
    """tokens, targets (global batch, window) of a step."""
    rows, window = config["micro_batch_size"] * config["num_microbatches"], data["window"]
    u = philox.uniform(config["seed"], philox.stream("reference.tokens"), step * rows * (window + 1), rows * (window + 1))
    for _ in range(data["skew"]):
        u = u * u
    tokens = (config["vocab_size"] * u).astype(np.int32).reshape(rows, window + 1)
    masks = philox.uniform(config["seed"], philox.stream("reference.masks"), step * rows * window, rows * window)
    targets = np.where(masks.reshape(rows, window) < data["masked"], -1, tokens[:, 1:])
    return jnp.asarray(tokens[:, :-1]), jnp.asarray(targets)


def summaries(values):
    """name -> [norm, projection]"""
    result = {}
    for name, value in values.items():
        flat = np.asarray(value, np.float64).reshape(-1)
        direction = philox.uniform(0, philox.stream(f"projection.{name}"), 0, flat.size, -1, 1)
        result[name] = [float(np.sqrt(flat @ flat)), float(flat @ direction)]
    return result


def run(config, data, steps, dtype=np.float64):
    """Trains; returns losses, rates, the first gradient, and summaries of weights before and after."""
    trainer = gpt.Trainer(config, dtype)
    before = summaries(trainer.p)
    losses, rates, first_gradient = [], [], None
    for step in range(steps):
        loss, gradient, rate = trainer.step(*batch(config, data, step))
        losses.append(loss)
        rates.append(rate)
        if step == 0:
            first_gradient = {name: np.asarray(g) for name, g in gradient.items()}
    return losses, rates, first_gradient, before, summaries(trainer.p)


def describe(name, flags, config, data, steps, full=False):
    losses, rates, gradient, before, after = run(config, data, steps)
    of_gradient = summaries(gradient)
    case = dict(name=name, flags=flags, **data, losses=losses, rates=rates)
    case["gradient_norm"] = float(np.sqrt(sum(norm**2 for norm, _ in of_gradient.values())))
    case["parameters"] = [
        [p, gradient[p].size, before[p], of_gradient[p], after[p]] for p, _, _ in gpt.parameter_table(config)
    ]
    if full:
        case["gradients"] = {p: g.reshape(-1).tolist() for p, g in gradient.items()}
    print(f"{name}: {sum(g.size for g in gradient.values())} parameters, loss {losses[0]:.4f} -> {losses[-1]:.4f}")
    return case


def write(name, cases):
    """One line for each parameter."""
    text = json.dumps(cases, indent=None, separators=(", ", ": "))
    for before, after in ((', "losses', ',\n "losses'), (', "rates', ',\n "rates'), (', "gradient', ',\n "gradient'),
                          (', "parameters": [', ',\n "parameters": [\n  '), (']], ["', ']],\n  ["'), ('}, {"name', '},\n{"name'),
                          (', "float', ',\n "float'), (', "loss"', ',\n "loss"'), (', "devices": [', ',\n "devices": [\n '),
                          ('"watched": [', '"watched": [\n  '), ('}, {"tensor', '},\n {"tensor')):  # fmt: skip
        text = text.replace(before, after)
    (FIXTURES / name).write_text(text + "\n")
    print(f"{name}: {len(text)} bytes")


def small_models():
    cases = []
    for name, changes in CASES.items():
        changes = dict(changes)
        full = changes.pop("full", False)
        config = {**DEFAULTS, **changes}
        data = dict(window=config["max_seq_length"], skew=1, masked=0.2)
        cases.append(describe(name, config, config, data, steps=10, full=full))
    write("models.json", cases)


def minigpt():
    """The whole preset: 10 steps of 2 whole windows, and 100 steps of one window of 64 tokens, which tests can afford."""
    shape = dict(micro_batch_size=2, num_microbatches=1, max_steps=10)
    data = dict(window=256, skew=3, masked=0.0)
    exact = describe("minigpt", dict(preset="minigpt", **shape), {**MINIGPT, **shape}, data, steps=10)
    shape = dict(micro_batch_size=1, num_microbatches=1, max_steps=100)
    data = dict(window=64, skew=3, masked=0.0)
    config = {**MINIGPT, **shape}
    curve = dict(name="minigpt, 100 steps", flags=dict(preset="minigpt", **shape), **data)
    for key, dtype in (("losses", np.float64), ("float_losses", np.float32)):
        start = time.time()
        curve[key] = run(config, data, 100, dtype)[0]
        print(f"minigpt in {dtype.__name__}: loss {curve[key][0]:.4f} -> {curve[key][-1]:.4f}, {time.time() - start:.0f} s")
    distance = np.abs(np.array(curve["losses"]) - np.array(curve["float_losses"]))
    print(f"float32 from float64: at most {distance.max():.2e}, root mean square {np.sqrt((distance**2).mean()):.2e}")
    write("minigpt.json", [exact, curve])


if __name__ == "__main__":
    philox.check()
    FIXTURES.mkdir(exist_ok=True)
    wanted = sys.argv[1:] or ["models", "minigpt"]
    if "models" in wanted:
        small_models()
    if "minigpt" in wanted:
        minigpt()
