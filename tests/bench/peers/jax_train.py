"""The same model, batch, optimizer and tokens in JAX: one jitted step with donated buffers.

    python3 tests/bench/peers/jax_train.py CASE --steps 20
    python3 tests/bench/peers/jax_train.py CASE --steps 20 --devices 8       data parallel, on simulated devices
    python3 tests/bench/peers/jax_train.py CASE --steps 20 --devices 8 --fsdp                        fully sharded
    python3 tests/bench/peers/jax_train.py CASE --steps 20 --devices 8 --tensor-parallel-size 2      Megatron's shardings

Its settings are those that were the fastest on CPUs here, see tests/bench/README.md.
"""
import functools
import os

import case

parser = case.arguments(__doc__.splitlines()[0])
parser.add_argument("--devices", type=int, default=1, help="each has a slice of the batch, and all of the model")
parser.add_argument("--fsdp", action="store_true", help="each has a slice of every parameter and of its moments")
parser.add_argument("--tensor-parallel-size", type=int, default=1, help="devices that share each layer, and a slice of the batch")
options = parser.parse_args()
if options.devices % options.tensor_parallel_size or (options.fsdp and options.tensor_parallel_size > 1):
    parser.error("--tensor-parallel-size divides --devices, and goes without --fsdp")
os.environ["JAX_PLATFORMS"] = "cpu"
if options.devices > 1:
    if options.micro_batch_size:
        parser.error("a device takes its slice of the batch at once: no --micro-batch-size with --devices")
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={options.devices}"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def normalise(c, p, name, x):
    if c["norm"] == "rmsnorm":
        y = x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + c["norm_eps"])
    else:
        y = (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + c["norm_eps"])
    return y * p[f"{name}.weight"] + p.get(f"{name}.bias", 0)


def linear(p, name, x):
    return x @ p[f"{name}.weight"] + p.get(f"{name}.bias", 0)


def columns(p, name, x):
    """x (B,T,C) -> (B,T,t,columns / t): a layer whose columns t devices share (fused_columns)."""
    return jnp.einsum("btc,cgn->btgn", x, p[f"{name}.weight"]) + p.get(f"{name}.bias", 0)


def rotate(x):
    """x (B,T,t,heads / t,D): each pair (i, i + D/2) turned by position * 10000^(-2i/D)."""
    T, D = x.shape[1], x.shape[-1]
    angle = np.outer(np.arange(T), 10000.0 ** (-np.arange(0, D, 2) / D))[None, :, None, None, :]
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def attention(c, p, block, x):
    B, T, C = x.shape
    H, K, t = c["num_attention_heads"], c["num_key_value_heads"], options.tensor_parallel_size
    D = C // H
    q, k, v = jnp.split(columns(p, f"{block}.qkv", x), [H * D // t, (H + K) * D // t], -1)
    q, k, v = (part.reshape(B, T, t, -1, D) for part in (q, k, v))
    if c["positions"] == "rope":
        q, k = rotate(q), rotate(k)
    k, v = (jnp.repeat(part, H // K, axis=3) for part in (k, v))
    scores = jnp.einsum("bighd,bjghd->bghij", q, k) * np.float32(D**-0.5)
    scores = jnp.where(np.tril(np.ones((T, T), bool)), scores, -jnp.inf)
    mixed = jnp.einsum("bghij,bjghd->bighd", jax.nn.softmax(scores, -1), v)
    return linear(p, f"{block}.attention_out", mixed.reshape(B, T, C))


def feed_forward(c, p, block, x):
    h = columns(p, f"{block}.ffn_up", x)
    if c["activation"] == "swiglu":
        gate, up = jnp.split(h, 2, -1)
        h = jax.nn.silu(gate) * up
    else:
        h = jax.nn.relu(h) if c["activation"] == "relu" else jax.nn.gelu(h, approximate=True)
    return linear(p, f"{block}.ffn_down", h.reshape(*x.shape[:2], -1))


def mean_loss(c, p, tokens, targets):
    x = p["token.weight"][tokens]
    if c["positions"] == "learned":
        x = x + p["position.weight"][: tokens.shape[1]]
    for layer in range(c["num_layers"]):
        block = f"blocks.{layer}"
        if c["norm_place"] == "pre":
            x = x + attention(c, p, block, normalise(c, p, f"{block}.norm1", x))
            x = x + feed_forward(c, p, block, normalise(c, p, f"{block}.norm2", x))
        else:
            x = normalise(c, p, f"{block}.norm1", x + attention(c, p, block, x))
            x = normalise(c, p, f"{block}.norm2", x + feed_forward(c, p, block, x))
    if c["norm_place"] == "pre":
        x = normalise(c, p, "norm_final", x)
    logits = x @ p["token.weight" if c["tied"] else "head.weight"].T + p.get("head.bias", 0)
    if options.tensor_parallel_size > 1:  # the logits stay where they are: no device has those of all words
        picked = jnp.sum(jnp.where(np.arange(logits.shape[-1]) == targets[..., None], logits, 0), -1)
    else:
        picked = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(logits, -1) - picked)


def adamw(c, p, gradient, m, v, number, rate):
    if c["grad_clip"] > 0:
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in gradient.values()))
        factor = jnp.minimum(1, c["grad_clip"] / norm)
        gradient = {name: g * factor for name, g in gradient.items()}
    beta1, beta2 = c["beta1"], c["beta2"]
    m = {name: beta1 * m[name] + (1 - beta1) * g for name, g in gradient.items()}
    v = {name: beta2 * v[name] + (1 - beta2) * g**2 for name, g in gradient.items()}

    def update(name, w):
        m_hat, v_hat = m[name] / (1 - beta1**number), v[name] / (1 - beta2**number)
        return w - rate * (m_hat / (jnp.sqrt(v_hat) + c["eps"]) + (c["weight_decay"] if w.ndim > 1 else 0) * w)

    return {name: update(name, w) for name, w in p.items()}, m, v


def train_step(c, parts, p, m, v, tokens, targets, number, rate):
    loss_and_gradient = jax.value_and_grad(functools.partial(mean_loss, c))
    split = [(x, y) for x, y in zip(jnp.split(tokens, parts), jnp.split(targets, parts))]
    loss, gradient = loss_and_gradient(p, *split[0])
    for x, y in split[1:]:
        more, g = loss_and_gradient(p, x, y)
        loss, gradient = loss + more, jax.tree.map(jnp.add, gradient, g)
    gradient = jax.tree.map(lambda g: g / parts, gradient)
    return loss / parts, *adamw(c, p, gradient, m, v, number, rate)


# ---- who has what ----


def fused_columns(c, weights):
    """Parts that are fused along the columns, [queries | keys | values] and [gate | up], are cut for t devices each: the
    last axis becomes (t, its length / t), and device g's heads are queries, keys and values of index g."""
    t, D = options.tensor_parallel_size, c["hidden_size"] // c["num_attention_heads"]
    H, K = c["num_attention_heads"] * D, c["num_key_value_heads"] * D
    parts = {"qkv": [H, H + K], "ffn_up": [c["intermediate_size"]] if c["activation"] == "swiglu" else []}
    for name, w in weights.items():
        layer = name.split(".")[-2]
        if layer in parts:
            cut = (part.reshape(*w.shape[:-1], t, -1) for part in np.split(w, parts[layer], -1))
            w = np.concatenate(list(cut), -1)
        yield name, w


def placement(name, w):
    """Megatron's shardings: columns of the first matrix of a pair, rows of the second, words of the vocabulary. With
    --fsdp the first axis that the devices divide."""
    axes = [None] * w.ndim
    layer, kind = name.split(".")[-2:]
    if options.fsdp:
        whole = [i for i, size in enumerate(w.shape) if size % options.devices == 0]
        axes[whole[0] if whole else 0] = "data" if whole else None
    elif layer in ("qkv", "ffn_up"):
        axes[-2] = "tensor"
    elif layer in ("token", "head") or (layer in ("attention_out", "ffn_down") and kind == "weight"):
        axes[0] = "tensor"
    return PartitionSpec(*axes)


def main():
    data = case.Case(options.folder)
    c = data.config
    parts = c["global_batch_size"] // (options.micro_batch_size or c["global_batch_size"])
    mesh = Mesh(np.reshape(jax.devices()[: options.devices], (-1, options.tensor_parallel_size)), ("data", "tensor"))
    everywhere, by_rows = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    weights = dict(fused_columns(c, data.weights))
    del data.weights
    places = {name: NamedSharding(mesh, placement(name, w)) for name, w in weights.items()}
    state = [{name: jax.device_put(w, places[name]) for name, w in weights.items()}]
    state += [{name: jax.device_put(np.zeros_like(w), places[name]) for name, w in weights.items()} for _ in range(2)]
    del weights
    # where the batch and the state lie is all that the compiler is told of the devices: it adds what they tell each other
    compiled = jax.jit(
        functools.partial(train_step, c, parts), donate_argnums=(0, 1, 2), out_shardings=(everywhere, *[places] * 3)
    )

    def step(index):
        number, rate = np.float32(index + 1), np.float32(data.rates[index])
        batch = (jax.device_put(x[index], by_rows) for x in (data.tokens, data.targets))
        loss, *state[:] = compiled(*state, *batch, number, rate)
        return loss  # ready when all of the step is: it is one computation

    name = f"JAX {jax.__version__}, " + (f"{options.devices} devices" if options.devices > 1 else "jit")
    name += ", FSDP" if options.fsdp else ""
    if options.tensor_parallel_size > 1:
        name += f", tensor {options.tensor_parallel_size} x data {options.devices // options.tensor_parallel_size}"
    describe = {"name": name, "threads": len(os.sched_getaffinity(0))}
    case.Worker(data, step, describe).main(options.steps)


main()
