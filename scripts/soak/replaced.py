"""Cases: parameters and buffers replaced by others, of any shape, type and place."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import rnnnorm
from soak.draw import Draw
from soak.networks import Network, network
from soak.program import Program

WHOLE = (  # {p} is the tensor now, {s} its shape, {k} what makes a tensor of its type
    "Parameter(randn(1{k}))",
    "Parameter(randn(()){d})",
    "Parameter(randn(0{k}))",
    "Parameter(randn(160, 40{k}))",
    "Parameter(randn(*{s}{k}))",
    "Parameter(randn(*{s}{k}))",
    "Parameter(randn(*{s}, 1{k}))",
    "Parameter(randn(1, *{s}{k}))",
    "Parameter(randn(*{s}[::-1]{k}))",
    "Parameter(randn(*{s}[::-1]{k}).t())",
    "Parameter(torch.stack([{p}] * 2, -1).detach()[..., 0])",
    "Parameter(randn(1{k}).expand({s}))",
    "Parameter({p}.detach().double())",
    "Parameter({p}.detach().half())",
    "Parameter({p}.detach().to('meta'))",
    "Parameter({p}.detach().to(torch.complex64))",
    "Parameter(torch._neg_view({p}.detach()))",
    "Parameter({p}.detach()[:-1])",
    "Parameter(torch.cat([{p}.detach()] * 2))",
    "Parameter({p}.detach()[:0])",
    "Parameter({p}.detach().to_sparse())",
    "Parameter({p}.detach() * nan)",
    "Parameter({p}.detach() * 1e30)",
    "Parameter({p}.detach(), requires_grad=False)",
    "Parameter({p}.detach().bfloat16())",
    "Parameter(torch.zeros({s}))",
    "Parameter({p}.detach().as_subclass(Sub))",
    "Parameter({p}.detach().flatten())",
    "None",
    "3",
    "'w'",
    "{p}.detach()",
    "{p}.detach().clone()",
    "{p} * 2",
    "nn.Linear(2, 2)",
    "randn(3).numpy()",
    "[1.0]",
    "Parameter({p}.detach().int(), False)",
    "nn.UninitializedParameter()",
    "nn.Buffer({p}.detach())",
    "Parameter({p}.detach().roll(1))",
    "Parameter(torch.flip({p}.detach(), [0]))",
)
DATA = (
    "randn(1{k})",
    "randn(160, 40{k})",
    "randn(*{s}{k})",
    "randn(*{s}[::-1]{k}).t()",
    "randn(1{k}).expand({s})",
    "empty(0)",
    "{p}.detach().double()",
    "{p}.detach()[:-1]",
    "torch.stack([{p}.detach()] * 2, -1)[..., 1]",
    "{p}.detach().to('meta')",
    "torch._neg_view({p}.detach())",
    "{p}.detach().half()",
    "torch.zeros({s})",
    "{p}.detach().unsqueeze(0)",
)
BUFFERS = (
    "randn(1)",
    "randn(()){d}",
    "empty(0)",
    "{p}.double()",
    "{p}.half()",
    "{p}.int()",
    "{p}.bool()",
    "{p}.to('meta')",
    "{p}[:-1]",
    "{p}[..., :-1]",
    "torch.cat([{p}, {p}])",
    "torch.cat([{p}, {p}], -1)",
    "{p} * nan",
    "-{p} - 1",
    "{p} + 1e30",
    "{p} * 0",
    "{p}.t()",
    "{p}.unsqueeze(0)",
    "{p}.flatten()",
    "{p}[:1].expand_as({p})",
    "torch.stack([{p}, {p}], -1)[..., 0]",
    "torch._neg_view(-{p})",
    "{p}.to_sparse()",
    "None",
    "3",
    "Parameter({p}.double())",
    "randn(160, 40)",
    "{p}.to(torch.complex64)",
    "{p}.float().uniform_().to({p})",
    "{p}.clone()",
)
DAMAGES = (
    "del m.{n}",
    "m._parameters.pop('{n}')",
    "m._parameters['{n}'] = None",
    "m.requires_grad_(False)",
    "m.{n}.requires_grad_(False)",
    "m.bias = not m.bias",
    "m.num_layers += 1",
    "m.hidden_size += 1",
    "m.input_size += 1",
    "m.batch_first = not m.batch_first",
    "m.training = not m.training",
    "m.bidirectional = not m.bidirectional",
    "m.hidden_size = 'x'",
    "m.dropout = 7.0",
    "m.{n}.data = m.{n}.data.t()",
    "m.weight_ih_l0, m.weight_hh_l0 = m.weight_hh_l0, m.weight_ih_l0",
    "m.weight_hh_l0 = m.weight_ih_l0",
    "m.register_parameter('{n}', None)",
    "m.share_memory()",
    "m.{n}.resize_(0)",
    "m._apply(lambda t: t.detach()[..., :1])",
    "m.to_empty(device='meta')",
    "m.proj_size = 1",
    "torch.utils.swap_tensors(m.{n}, Parameter(randn(2, 2)))",
    "m.{n} = m.{n}.data",
    "m.__dict__['{n}'] = randn(2)",
)

UNSEEN = ("data", "resize_", "_apply", "to_empty", "swap_tensors")
"""Damages to tensors that autograd does not see."""


@lru_cache(4096)
def _tensors(line: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of a module's parameters and floating-point buffers."""
    names: dict[str, Any] = {name: getattr(rnnnorm, name) for name in rnnnorm.__all__}
    import torch

    names |= {name: getattr(torch, name) for name in ("float64", "float16", "bfloat16", "float32")}
    exec(line, names)
    m = names["m"]
    buffers = [n for n, b in m.named_buffers() if b is not None]
    return tuple(n for n, _ in m.named_parameters()), tuple(buffers)


def replaced(draw: Draw) -> Program:
    """A network, one of whose tensors is not what it was, and a training step."""
    net = network(draw, plain=0.35)
    parameters, buffers = _tensors(net.lines()[0])
    torch_names = [n for n in parameters if n.startswith(("weight_", "bias_")) and "." not in n]
    lines = [*net.lines(), f"x = {net.input()}"]
    if draw.chance(0.3):
        lines += ["x.requires_grad_()"]
    damages, plain, between = [], True, draw.chance(0.25)
    for _ in range(draw.pick((1, 1, 1, 2))):
        roll = draw.integer(0, 9)
        if roll < 6:
            name = draw.pick(parameters)
            damages.append(_parameter(draw, net, name, between))
            plain = plain and name in torch_names
        elif roll < 8 and buffers:
            name = draw.pick(buffers)
            damages.append(f"set_at(m, '{name}', {_filled(draw.pick(BUFFERS), name, net)})")
            plain = False
        else:
            usual = DAMAGES if not between else [d for d in DAMAGES if not any(word in d for word in UNSEEN)]
            damages.append(draw.pick(usual).format(n=draw.pick(torch_names or ["weight_ih_l0"])))
    call = ["out = step(m, x, step=0)" if net.is_cell and net.norm != "none" else "out = m(x)", "see(out)"]
    lines += [*call, *damages] if between else [*damages, *call]
    lines += ["loss(out).backward()", "see_gradients(m, x)"] if draw.chance(0.8) else []
    text = "\n".join(lines)
    stale = "_parameters" in text or "del m." in text  # torch goes on with the weight that it has noted elsewhere
    # A module that has no more attributes that say what it was built as is another one on each side.
    odd = any(
        f"m.{word}" in text
        for word in ("bias =", "num_layers", "hidden_size", "input_size", "bidirectional", "proj_size")
    )
    unseen = between and ("data" in text or "swap" in text or "resize" in text or "share" in text or "_apply" in text)
    oracle = "reference" if stale and not net.is_cell else net.oracle
    return Program(
        tuple(lines),
        torch=plain and not net.own and not odd and not stale,
        numbers="" if odd or unseen or not (plain or net.own) else oracle,
        finite=not any(word in text for word in ("nan", "1e30", "16", "half")),
        kinds=("torch", "AttributeError", "IndexError"),
        plain=not net.own,
        seed=draw.number,
        tolerance=0.2 if "16" in text or "half" in text else 2e-3,
    )


def _parameter(draw: Draw, net: Network, name: str, between: bool) -> str:
    if draw.chance(0.3):
        # Between the passes autograd does not see it, and torch's own operators read by the shape that they have noted.
        value = "randn(*{s}{k})" if between else draw.pick(DATA)
        value = _filled("randn(*{s}{k})" if "." in name and "expand" in value else value, name, net)
        return f"m.get_parameter('{name}').data = {value}"
    value = draw.pick(WHOLE)
    if "." in name and "expand" in value:
        value = "Parameter(randn(*{s}{k}))"  # torch's batch_norm reads a gain as if it were contiguous
    value = _filled(value, name, net)
    return f"m.{name} = {value}" if "." not in name else f"set_at(m, '{name}', {value})"


def _filled(template: str, name: str, net: Network) -> str:
    owner = f"m.{name}" if "." not in name else f"m.get_{'parameter' if _is_parameter(name) else 'buffer'}('{name}')"
    return template.format(p=owner, s=f"{owner}.shape", k=net.of(), d="")


def _is_parameter(name: str) -> bool:
    return not any(
        word in name for word in ("running", "num_", "stats", "initialized", "control", "total", "constants")
    )
