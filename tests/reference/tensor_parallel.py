"""gpt.py on several devices, by hand: tensor parallelism (Shoeybi et al. 2019, "Megatron-LM") and sequence parallelism
(Korthikanti et al. 2022). Each device runs mean_loss() on its slices under shard_map; what they tell each other, and
the way back of it, is written out below, and nothing is left to the compiler.

    what                                      device r of t holds
    qkv, columns [queries | keys | values]    of each part its r-th part of t: its own heads
    ffn_up, columns, or [gate | up]           of each part its r-th part of t
    attention_out, ffn_down                   its r-th part of the rows; the bias is Replicate, added once, after the sum
    token, head                               rows r n .. (r + 1) n - 1 of the vocabulary, n = ceil(V / t); those from V
                                              on are padding: any value, no part in the loss, no gradient
    norms, positions                          all of it
"""
import jax
import jax.numpy as jnp
import numpy as np

import gpt

AXIS = "tensor"
PADDING = 7.0  # what the words that do not exist hold


# ---- who has what ----


def slicing(c, name, devices):
    """The axis of a parameter that the devices share, and the lengths of the parts in which it lies there; or None."""
    H, K, D = c["num_attention_heads"], c["num_key_value_heads"], c["hidden_size"] // c["num_attention_heads"]
    layer, kind = name.split(".")[-2:]
    if layer == "qkv":
        return -1, [H * D, K * D, K * D]
    if layer == "ffn_up":
        return -1, [c["intermediate_size"]] * (2 if c["activation"] == "swiglu" else 1)
    if layer in ("attention_out", "ffn_down") and kind == "weight":
        return 0, [c["hidden_size"] if layer == "attention_out" else c["intermediate_size"]]
    if layer in ("token", "head"):
        return 0, [-(-c["vocab_size"] // devices) * devices]
    return None


def split(c, name, whole, devices):
    """A parameter -> (devices, ..): what each of them holds."""
    shared = slicing(c, name, devices)
    if not shared:
        return np.stack([whole] * devices)
    axis, lengths = shared
    pad = np.zeros((whole.ndim, 2), int)
    pad[axis, 1] = sum(lengths) - whole.shape[axis]
    parts = np.split(np.pad(whole, pad, constant_values=PADDING), np.cumsum(lengths)[:-1], axis)
    return np.stack([np.concatenate(own, axis) for own in zip(*(np.split(part, devices, axis) for part in parts))])


def join(c, name, slices, shape):
    """The way back, for a gradient. What several devices hold must be the same there, to the bit; padding must be 0."""
    devices, shared = len(slices), slicing(c, name, len(slices))
    if not shared:
        assert all(np.array_equal(s, slices[0]) for s in slices), f"{name} is not the same on all devices"
        return slices[0]
    axis, lengths = shared
    own = [np.split(s, np.cumsum(lengths)[:-1] // devices, axis) for s in slices]
    whole = np.concatenate([np.concatenate(parts, axis) for parts in zip(*own)], axis)
    whole, padding = np.split(whole, [shape[axis]], axis)
    assert not padding.any(), f"{name}: words that do not exist have a gradient"
    return whole


# ---- collectives, each with its transpose ----


def collective(forward, backward):
    @jax.custom_vjp
    def op(x):
        return forward(x)

    op.defvjp(lambda x: (forward(x), None), lambda _, gradient: (backward(gradient),))
    return op


def identity(x):
    return x


def sum_up(x):
    return jax.lax.psum(x, AXIS)


def gather_tokens(x):
    return jax.lax.all_gather(x, AXIS, axis=1, tiled=True)


def sum_up_own_tokens(x):
    return jax.lax.psum_scatter(x, AXIS, scatter_dimension=1, tiled=True)


copy = collective(identity, sum_up)  # Replicate -> Private
reduce = collective(sum_up, identity)  # Partial -> Replicate
all_gather = collective(gather_tokens, sum_up_own_tokens)  # Shard(1) -> Private
reduce_scatter = collective(sum_up_own_tokens, gather_tokens)  # Partial -> Shard(1)


# ---- the model, as one device runs it ----


def mean_loss(c, devices, sequence, p, probes, tokens, targets):
    """p: this device's slices. Returns the mean loss (Replicate) and what was watched on the way, name -> value; what
    probes has under that name is added to it, so that a gradient with respect to a probe is that of the value.
    sequence: between the sublayers each device has its T / devices positions of every row (sequence parallelism)."""
    rank = jax.lax.axis_index(AXIS)
    heads, key_heads = c["num_attention_heads"] // devices, c["num_key_value_heads"] // devices
    enter, leave = (all_gather, reduce_scatter) if sequence else (copy, reduce)
    watched = {}

    def watch(name, x):
        watched[name] = x + probes.get(name, 0)
        return watched[name]

    # a weight that all hold: under sequence parallelism each applies it to its own positions, and has a term of its gradient
    whole = {name: w for name, w in p.items() if not slicing(c, name, devices)}
    if sequence:
        whole = {name: watch(name, copy(w)) for name, w in whole.items()}

    def norm(name, x):
        return gpt.normalise(c, whole, name, watch(f"{name}.input", x))

    def columns(name, x):
        return watch(name, gpt.apply_linear(p, name, watch(f"{name}.input", enter(x))))

    def rows(name, x):
        return leave(watch(f"{name}.partial", x @ p[f"{name}.weight"])) + whole.get(f"{name}.bias", 0)

    def attention(block, x):
        return rows(f"{block}.attention_out", gpt.attend(c, columns(f"{block}.qkv", x), heads, key_heads))

    def feed_forward(block, x):
        return rows(f"{block}.ffn_down", gpt.activate(c, columns(f"{block}.ffn_up", x)))

    words = p["token.weight"].shape[0]
    first = rank * words

    def own(ids):
        """Which ids are of this device's words, and their rows here."""
        mine = (ids >= first) & (ids < first + words)
        return mine, jnp.where(mine, ids - first, 0)

    mine, row = own(tokens)
    x = leave(watch("token.partial", jnp.where(mine[..., None], p["token.weight"][row], 0)))
    if c["positions"] == "learned":
        T = x.shape[1]
        x = x + jax.lax.dynamic_slice_in_dim(whole["position.weight"], rank * T if sequence else 0, T)
    x = watch("head.input", enter(gpt.blocks(c, x, norm, attention, feed_forward)))

    head = p["token.weight" if c["tied"] else "head.weight"]
    logits = watch("logits", x @ head.T + p.get("head.bias", 0))
    logits = jnp.where(first + jnp.arange(words) < c["vocab_size"], logits, -jnp.inf)
    highest = jax.lax.pmax(jax.lax.stop_gradient(logits).max(-1), AXIS)
    total = reduce(watch("sum_exp", jnp.exp(logits - highest[..., None]).sum(-1)))
    mine, row = own(targets)
    here = jnp.take_along_axis(logits, row[..., None], -1)[..., 0]
    picked = reduce(watch("picked", jnp.where(mine, here, 0)))
    real = targets >= 0
    loss = jnp.sum(jnp.where(real, highest + jnp.log(total) - picked, 0)) / jnp.sum(real)
    return loss, watched


def run(c, devices, sequence, parameters, tokens, targets):
    """Returns the loss, the gradient of the whole model (name -> array), and of what was watched, name -> (value,
    gradient), each (devices, ..)."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), (AXIS,))
    mine, all_of_it = jax.sharding.PartitionSpec(AXIS), jax.sharding.PartitionSpec()

    def on_each_device(p, probes, tokens, targets):
        p, probes = jax.tree.map(lambda x: x[0], (p, probes))
        function = jax.value_and_grad(
            lambda p, probes: mean_loss(c, devices, sequence, p, probes, tokens, targets), argnums=(0, 1), has_aux=True
        )
        return jax.tree.map(lambda x: jnp.asarray(x)[None], function(p, probes))

    everyone = jax.jit(
        jax.shard_map(
            on_each_device, mesh=mesh, in_specs=(mine, mine, all_of_it, all_of_it), out_specs=mine, check_vma=False
        )
    )
    p = {name: split(c, name, w, devices) for name, w in parameters.items()}
    (_, watched), _ = jax.eval_shape(everyone, p, {}, tokens, targets)
    probes = {name: np.zeros(x.shape, x.dtype) for name, x in watched.items()}
    result = everyone(p, probes, tokens, targets)
    (losses, values), (gradient, of_values) = jax.tree.map(np.asarray, result)
    assert (losses == losses[0]).all(), "the loss is not the same on all devices"
    whole = {name: join(c, name, g, parameters[name].shape) for name, g in gradient.items()}
    return float(losses[0]), whole, {name: (values[name], of_values[name]) for name in values}
