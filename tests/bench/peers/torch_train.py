"""The same model, batch, optimizer and tokens in PyTorch.

    python3 tests/bench/peers/torch_train.py CASE --steps 20 [--compile]

Its settings are those that were the fastest on CPUs here, see tests/bench/README.md: fused causal attention, fused
AdamW, the whole batch at once.
"""
import os

import case

parser = case.arguments(__doc__.splitlines()[0])
parser.add_argument("--compile", action="store_true", help="torch.compile of forward and loss (and so of the backward)")
options = parser.parse_args()

import torch
import torch.nn.functional as F
from torch import nn


class Norm(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.eps, self.mean = c["norm_eps"], c["norm"] == "layernorm"
        self.weight = nn.Parameter(torch.empty(c["hidden_size"]))
        self.bias = nn.Parameter(torch.empty(c["hidden_size"])) if self.mean and c["bias"] else None

    def forward(self, x):
        if self.mean:
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        C, F_, bias = c["hidden_size"], c["intermediate_size"], c["bias"]
        self.H, self.K, self.D = c["num_attention_heads"], c["num_key_value_heads"], C // c["num_attention_heads"]
        self.pre, self.activation = c["norm_place"] == "pre", c["activation"]
        self.norm1, self.norm2 = Norm(c), Norm(c)
        self.qkv = nn.Linear(C, (self.H + 2 * self.K) * self.D, bias)
        self.attention_out = nn.Linear(C, C, bias)
        self.ffn_up = nn.Linear(C, 2 * F_ if self.activation == "swiglu" else F_, bias)
        self.ffn_down = nn.Linear(F_, C, bias)

    def attention(self, x, rotate):
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, -1, self.D).transpose(1, 2)
            for part in self.qkv(x).split([self.H * self.D, self.K * self.D, self.K * self.D], -1)
        )
        if rotate is not None:
            q, k = rotate(q), rotate(k)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.K < self.H)
        return self.attention_out(mixed.transpose(1, 2).reshape(B, T, C))

    def feed_forward(self, x):
        h = self.ffn_up(x)
        if self.activation == "swiglu":
            gate, up = h.chunk(2, -1)
            return self.ffn_down(F.silu(gate) * up)
        return self.ffn_down(F.relu(h) if self.activation == "relu" else F.gelu(h, approximate="tanh"))

    def forward(self, x, rotate):
        if self.pre:
            x = x + self.attention(self.norm1(x), rotate)
            return x + self.feed_forward(self.norm2(x))
        x = self.norm1(x + self.attention(x, rotate))
        return self.norm2(x + self.feed_forward(x))


class Rotate(nn.Module):
    """x (B,heads,T,D): each pair (i, i + D/2) turned by position * 10000^(-2i/D)."""

    def __init__(self, T, D):
        super().__init__()
        angle = torch.outer(torch.arange(T).double(), 10000.0 ** (-torch.arange(0, D, 2).double() / D))
        self.register_buffer("cos", angle.cos().float())
        self.register_buffer("sin", angle.sin().float())

    def forward(self, x):
        a, b = x.chunk(2, -1)
        return torch.cat([a * self.cos - b * self.sin, b * self.cos + a * self.sin], -1)


class Gpt(nn.Module):
    def __init__(self, c):
        super().__init__()
        C, V, T = c["hidden_size"], c["vocab_size"], c["max_seq_length"]
        self.token = nn.Embedding(V, C)
        self.position = nn.Embedding(T, C) if c["positions"] == "learned" else None
        self.rotate = Rotate(T, C // c["num_attention_heads"]) if c["positions"] == "rope" else None
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["num_layers"]))
        self.norm_final = Norm(c) if c["norm_place"] == "pre" else nn.Identity()
        self.head = nn.Linear(C, V, bias=not c["tied"] and c["bias"])
        if c["tied"]:
            self.head.weight = self.token.weight

    def forward(self, tokens, targets):
        x = self.token(tokens)
        if self.position is not None:
            x = x + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, self.rotate)
        logits = self.head(self.norm_final(x))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    def load(self, weights):
        """shard.c's linears are (in, out), PyTorch's (out, in); embeddings and the head are alike."""
        linears = {f"{name}.weight" for name, module in self.named_modules() if isinstance(module, nn.Linear)}
        with torch.no_grad():
            for name, p in self.named_parameters():
                w = torch.from_numpy(weights[name])
                p.copy_(w.T if name in linears and name != "head.weight" else w)


def optimizer_of(model, c):
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": c["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], betas=(c["beta1"], c["beta2"]), eps=c["eps"], fused=True)


def main():
    data = case.Case(options.folder)
    c = data.config
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", c["threads"])))
    model = Gpt(c)
    model.load(data.weights)
    del data.weights
    optimizer = optimizer_of(model, c)
    forward = torch.compile(model) if options.compile else model
    tokens, targets = (torch.from_numpy(a).long() for a in (data.tokens, data.targets))
    rows = options.micro_batch_size or c["global_batch_size"]

    def step(index):
        for group in optimizer.param_groups:
            group["lr"] = data.rates[index]
        optimizer.zero_grad(set_to_none=True)
        total = 0
        parts = list(zip(tokens[index].split(rows), targets[index].split(rows)))
        for x, y in parts:
            loss = forward(x, y) / len(parts)
            loss.backward()
            total += loss.item()
        if c["grad_clip"] > 0:
            nn.utils.clip_grad_norm_(model.parameters(), c["grad_clip"], foreach=True)
        optimizer.step()
        return total

    name = f"PyTorch {torch.__version__}, {'compiled' if options.compile else 'eager'}"
    describe = {"name": name, "threads": torch.get_num_threads()}
    case.Worker(data, step, describe).main(options.steps)


main()
