"""The GPT family in jax.numpy, written from the published definitions: the other implementation that shard.c is
compared with. The only things it shares with the C code are its conventions: the names and shapes of the
parameters, the order [queries | keys | values] and [gate | up] of fused projections, and the random numbers.

    layer norm        Ba, Kiros & Hinton 2016         RMS norm     Zhang & Sennrich 2019
    attention         Vaswani et al. 2017             GQA          Ainslie et al. 2023
    rotary positions  Su et al. 2021, halves rotated  SwiGLU       Shazeer 2020
    GELU              Hendrycks & Gimpel 2016, tanh   AdamW        Loshchilov & Hutter 2019
    Xavier            Glorot & Bengio 2010            clipping     Pascanu, Mikolov & Bengio 2013
    cosine schedule   Loshchilov & Hutter 2017, without restarts
"""
import functools

import jax
import jax.numpy as jnp
import numpy as np

import philox

# ---- parameters: name -> shape and how it starts ----


def parameter_table(c):
    """Yields (name, shape, initial): a number, ("normal", deviation) or ("xavier", fan in, fan out)."""
    C, H, K, F = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"], c["intermediate_size"]
    V, D, L = c["vocab_size"], C // H, c["num_layers"]
    xavier = c["init"] == "xavier"

    def embedding(name, rows):
        yield f"{name}.weight", (rows, C), ("normal", C**-0.5 if xavier else c["init_deviation"])

    def norm(name):
        yield f"{name}.weight", (C,), 1.0
        if c["norm"] == "layernorm" and c["bias"]:
            yield f"{name}.bias", (C,), 0.0

    def linear(name, fan_in, columns, fan_out, deviation):
        yield f"{name}.weight", (fan_in, columns), ("xavier", fan_in, fan_out) if xavier else ("normal", deviation)
        if c["bias"]:
            yield f"{name}.bias", (columns,), 0.0

    normal = c["init_deviation"]
    into_residual = normal / np.sqrt(2 * L)  # Radford et al. 2019
    yield from embedding("token", V)
    if c["positions"] == "learned":
        yield from embedding("position", c["max_seq_length"])
    for layer in range(L):
        block = f"blocks.{layer}"
        yield from norm(f"{block}.norm1")
        yield from linear(f"{block}.qkv", C, (H + 2 * K) * D, C, normal)  # fan out: that of the queries
        yield from linear(f"{block}.attention_out", C, C, C, into_residual)
        yield from norm(f"{block}.norm2")
        yield from linear(f"{block}.ffn_up", C, 2 * F if c["activation"] == "swiglu" else F, F, normal)
        yield from linear(f"{block}.ffn_down", F, C, C, into_residual)
    if c["norm_place"] == "pre":
        yield from norm("norm_final")
    if not c["tied"]:
        yield "head.weight", (V, C), ("xavier", C, V) if xavier else ("normal", normal)
        if c["bias"]:
            yield "head.bias", (V,), 0.0


def initial_parameters(c):
    """name -> numpy float64, in the order of the C code."""
    parameters = {}
    for name, shape, initial in parameter_table(c):
        count = int(np.prod(shape))
        if not isinstance(initial, tuple):
            values = np.full(count, initial)
        elif initial[0] == "normal":
            values = philox.normal(c["seed"], philox.stream(name), count, initial[1])
        else:
            limit = np.sqrt(6.0 / (initial[1] + initial[2]))
            values = philox.uniform(c["seed"], philox.stream(name), 0, count, -limit, limit)
        parameters[name] = values.reshape(shape)
    return parameters


# ---- the model ----


def normalise(c, p, name, x):
    if c["norm"] == "rmsnorm":
        y = x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + c["norm_eps"])
    else:
        y = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + c["norm_eps"])
    return y * p[f"{name}.weight"] + p.get(f"{name}.bias", 0)


def apply_linear(p, name, x):
    return x @ p[f"{name}.weight"] + p.get(f"{name}.bias", 0)


def rotate(x):
    """x (B,T,heads,D): each pair (i, i + D/2) turned by position * 10000^(-2i/D)."""
    T, D = x.shape[1], x.shape[3]
    angle = np.outer(np.arange(T), 10000.0 ** (-np.arange(0, D, 2) / D))
    angle = np.concatenate([angle, angle], axis=-1)[None, :, None, :]
    halves_swapped = jnp.concatenate([-x[..., D // 2 :], x[..., : D // 2]], axis=-1)
    return x * jnp.asarray(np.cos(angle), x.dtype) + halves_swapped * jnp.asarray(np.sin(angle), x.dtype)


def attend(c, qkv, heads, key_heads):
    """qkv (B,T,(heads + 2 key heads) D) -> (B,T,heads D): what the heads of these columns mix."""
    B, T, columns = qkv.shape
    D = columns // (heads + 2 * key_heads)
    q, k, v = jnp.split(qkv, [heads * D, (heads + key_heads) * D], axis=-1)
    q, k, v = q.reshape(B, T, heads, D), k.reshape(B, T, key_heads, D), v.reshape(B, T, key_heads, D)
    if c["positions"] == "rope":
        q, k = rotate(q), rotate(k)
    k, v = jnp.repeat(k, heads // key_heads, axis=2), jnp.repeat(v, heads // key_heads, axis=2)
    scores = jnp.einsum("bihd,bjhd->bhij", q, k) / np.sqrt(D).astype(qkv.dtype)
    scores = jnp.where(jnp.tril(jnp.ones((T, T), bool)), scores, -jnp.inf)
    return jnp.einsum("bhij,bjhd->bihd", jax.nn.softmax(scores, axis=-1), v).reshape(B, T, heads * D)


def attention(c, p, block, x):
    qkv = apply_linear(p, f"{block}.qkv", x)
    mixed = attend(c, qkv, c["num_attention_heads"], c["num_key_value_heads"])
    return apply_linear(p, f"{block}.attention_out", mixed)


def activate(c, h):
    if c["activation"] == "swiglu":
        gate, up = jnp.split(h, 2, axis=-1)
        return jax.nn.silu(gate) * up
    return jax.nn.relu(h) if c["activation"] == "relu" else jax.nn.gelu(h, approximate=True)


def feed_forward(c, p, block, x):
    return apply_linear(p, f"{block}.ffn_down", activate(c, apply_linear(p, f"{block}.ffn_up", x)))


def blocks(c, x, norm, attention, feed_forward):
    """The order of the layers, whoever computes them: norm(name, x), attention(block, x), feed_forward(block, x)."""
    for layer in range(c["num_layers"]):
        block = f"blocks.{layer}"
        if c["norm_place"] == "pre":
            x = x + attention(block, norm(f"{block}.norm1", x))
            x = x + feed_forward(block, norm(f"{block}.norm2", x))
        else:
            x = norm(f"{block}.norm1", x + attention(block, x))
            x = norm(f"{block}.norm2", x + feed_forward(block, x))
    return norm("norm_final", x) if c["norm_place"] == "pre" else x


def mean_loss(c, p, tokens, targets):
    """Mean cross-entropy over the targets that are not negative. tokens, targets (B,T)."""
    x = p["token.weight"][tokens]
    if c["positions"] == "learned":
        x = x + p["position.weight"][: tokens.shape[1]]
    x = blocks(c, x, *(functools.partial(layer, c, p) for layer in (normalise, attention, feed_forward)))
    head = p["token.weight"] if c["tied"] else p["head.weight"]
    log_p = jax.nn.log_softmax(x @ head.T + p.get("head.bias", 0), axis=-1)
    picked = jnp.take_along_axis(log_p, jnp.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    real = targets >= 0
    return -jnp.sum(jnp.where(real, picked, 0)) / jnp.sum(real)


# ---- training ----


def learning_rate(c, step):
    """Of update `step` (0, 1, ..): the warm-up ends at the highest rate, the cosine at the lowest."""
    warmup = int(c["warmup_ratio"] * c["max_steps"])
    high, low = c["learning_rate"], c["min_lr"]
    if step < warmup:
        return high * (step + 1) / warmup
    progress = (step - warmup) / (c["max_steps"] - warmup)
    return low + (high - low) * (1 + np.cos(np.pi * progress)) / 2


def gradient_norm(gradient):
    return jnp.sqrt(sum(jnp.sum(g**2) for g in gradient.values()))


def update(c, p, gradient, state, step, lr):
    """One AdamW or SGD update; returns the new parameters and state. step counts from 1; lr is traced."""
    if c["grad_clip"] > 0:
        factor = jnp.minimum(1, c["grad_clip"] / gradient_norm(gradient))
        gradient = {name: g * factor for name, g in gradient.items()}
    beta1, beta2 = c["beta1"], c["beta2"]
    if c["optimizer"] == "sgd":
        velocity = {name: beta1 * state[0][name] + g for name, g in gradient.items()}
        return {name: w - lr * velocity[name] for name, w in p.items()}, (velocity, state[1])
    first = {name: beta1 * state[0][name] + (1 - beta1) * g for name, g in gradient.items()}
    second = {name: beta2 * state[1][name] + (1 - beta2) * g**2 for name, g in gradient.items()}
    new = {}
    for name, w in p.items():
        first_hat = first[name] / (1 - beta1**step)
        second_hat = second[name] / (1 - beta2**step)
        decay = c["weight_decay"] if w.ndim > 1 else 0.0
        new[name] = w - lr * (first_hat / (jnp.sqrt(second_hat) + c["eps"]) + decay * w)
    return new, (first, second)


class Trainer:
    """A model with its optimizer, all in one floating-point type."""

    def __init__(self, config, dtype):
        self.config, self.dtype, self.steps = config, dtype, 0
        self.p = {name: jnp.asarray(w, dtype) for name, w in initial_parameters(config).items()}
        self.state = tuple({name: jnp.zeros_like(w) for name, w in self.p.items()} for _ in range(2))
        self.loss_and_gradient = jax.jit(jax.value_and_grad(lambda p, x, y: mean_loss(config, p, x, y)))
        self.update = jax.jit(
            lambda p, g, state, step, lr: update(config, p, g, state, step, lr), donate_argnums=(0, 2)
        )

    def step(self, tokens, targets):
        """Returns the loss and the gradient before the update, and the learning rate."""
        loss, gradient = self.loss_and_gradient(self.p, tokens, targets)
        lr = learning_rate(self.config, self.steps)
        self.steps += 1
        self.p, self.state = self.update(
            self.p, gradient, self.state, jnp.asarray(self.steps, self.dtype), jnp.asarray(lr, self.dtype)
        )
        assert all(g.dtype == self.dtype for g in gradient.values()) and loss.dtype == self.dtype
        return float(loss), gradient, lr
