"""Cases: packed sequences, damaged before the forward pass or between it and the backward pass."""

from __future__ import annotations

from soak.draw import Draw
from soak.networks import Network, network
from soak.program import Program

SIZES = (
    "b.flip(0)",
    "b * 0",
    "b - 1",
    "b + 1",
    "-b",
    "b * 1000",
    "b.int()",
    "b.double()",
    "b.float()",
    "b[:-1]",
    "b[1:]",
    "b[:0]",
    "torch.full_like(b, 3000)",
    "torch.full_like(b, 3)",
    "torch.full_like(b, 2**62)",
    "torch.ones_like(b)",
    "torch.cat([b, b])",
    "torch.cat([b, b[:1] * 0])",
    "torch.cat([b, tensor([-1])])",
    "b.unsqueeze(0)",
    "b.sum()",
    "b.to('meta')",
    "b.tolist()",
    "tuple(b.tolist())",
    "None",
    "b.numpy()",
    "'b'",
    "b.bool()",
    "b.to(torch.uint8)",
    "b.to(torch.complex64)",
    "b.index_fill(0, tensor([0]), 10**9)",
    "b.index_fill(0, tensor([0]), 2**63 - 1)",
    "torch.stack([b, b], 1)[:, 0]",
    "b[:1].expand(len(b))",
    "b.to_sparse()",
    "torch.roll(b, 1)",
    "b.sort().values",
    "b.as_subclass(Sub)",
    "torch._neg_view(-b)",
    "b.to(torch.uint16)",
    "b.to(int8)",
)
DATA = (
    "d[:-1]",
    "d[1:]",
    "d[:0]",
    "torch.cat([d, d])",
    "torch.cat([d, d[:1]])",
    "d[:, :-1]",
    "d.unsqueeze(0)",
    "d[0]",
    "d.double()",
    "d.half()",
    "d.int()",
    "d.bool()",
    "d.to('meta')",
    "d.t()",
    "d.numpy()",
    "None",
    "d.tolist()",
    "d.to_sparse()",
    "d.t().contiguous().t()",
    "torch._neg_view(d)",
    "d[:1].expand_as(d)",
    "d.as_subclass(Sub)",
    "torch.stack([d, d], -1)[..., 0]",
    "d.to(torch.complex64)",
    "d.fill_(nan)",
    "Parameter(d)",
    "d.requires_grad_()",
    "d.flatten()",
    "torch.cat([d, d], 1)",
)
ORDERS = (
    "{0} + 1",
    "-{0}",
    "{0} * 0",
    "{0} * 10**9",
    "{0}[:-1]",
    "torch.cat([{0}, {0}])",
    "{0}.int()",
    "{0}.double()",
    "{0}.bool()",
    "None",
    "{0}.flip(0)",
    "{0}.unsqueeze(0)",
    "{0}.to('meta')",
    "{0}.tolist()",
    "torch.full_like({0}, 2**62)",
    "torch.full_like({0}, -2**63)",
    "{0}.index_fill(0, tensor([0]), 99)",
    "{0}.index_fill(0, tensor([0]), -1)",
    "{0}.to(torch.int8)",
    "'o'",
    "{0}[:0]",
)
BETWEEN = (
    "b.fill_(10**6)",
    "b.zero_()",
    "b.neg_()",
    "b.add_(1)",
    "b.copy_(b.flip(0).clone())",
    "b.resize_(0)",
    "b.untyped_storage().resize_(0)",
    "b.set_(torch.ones(1).long())",
    "o.fill_(10**6)",
    "o.zero_()",
    "o.neg_()",
    "o.resize_(0)",
    "u.fill_(10**6)",
    "u.zero_()",
    "u.copy_(u.flip(0).clone())",
    "with no_grad(): d.mul_(2)",
    "with no_grad(): d.zero_()",
    "d.data.fill_(1)",
    "del b, o, u, d, p",
    "b.data.fill_(10**6)",
    "b.numpy()[:] = 10**6",
    "b.detach().random_()",
)


def packed(draw: Draw) -> Program:
    """A packed batch of a network that is sound, with one or two damages."""
    net = network(draw, cells=False)
    lengths = [draw.integer(1, net.T) for _ in range(net.B)]
    is_sorted = draw.chance(0.3)
    lengths = sorted(lengths, reverse=True) if is_sorted else lengths
    lines = [
        *net.lines(),
        f"p = pack(randn({max(lengths)}, {net.B}, {net.F}{net.of()}), {lengths}, enforce_sorted={is_sorted})",
        "d, b, o, u = (None if t is None else t.clone() for t in p)",
    ]
    if draw.chance(0.3):
        lines.append("d.requires_grad_()")
    roll = draw.integer(0, 9)
    if roll in (0, 1, 2, 3):
        lines.append(f"b = {draw.pick(SIZES)}")
    if roll in (3, 4, 5):
        lines.append(f"d = {draw.pick(DATA)}")
    if roll in (5, 6) and not is_sorted:
        which = draw.pick("ou")
        lines.append(f"{which} = {draw.pick(ORDERS).format(which)}")
    built = draw.pick(
        ("PackedSequence(d, b, o, u)",) * 6
        + (
            "PackedSequence(d, b)",
            "PackedSequence(d, b, None, u)",
            "PackedSequence.__new__(PackedSequence, d, b, o, u)",
            "tuple.__new__(PackedSequence, (d, b, o, u))",
            "p._replace(data=d, batch_sizes=b)",
        )
    )
    lines.append(f"q = {built}")
    return _called(draw, net, lines)


def _called(draw: Draw, net: Network, lines: list[str]) -> Program:
    state = ""
    if draw.chance(0.3):
        parts = net.states(batch=net.B if draw.chance(0.7) else draw.pick((0, 1, net.B + 1)))
        state = parts[0] if len(parts) == 1 else f"({', '.join(parts)})"
        lines.append(f"s = {state}")
    more = draw.pick((", lengths=tensor([1])", ", lengths=b", ", lengths=None")) if draw.chance(0.04) else ""
    call = f"run(m, q, s{more})" if more and state else f"run(m, q{more})" if more else "m(q, s)" if state else "m(q)"
    lines += [f"out = {call}", "see(out)"]
    whole, changed = "loss((out[0].data, out[1]))", False
    if draw.chance(0.35):
        # What is written through `data` or another library is not seen by autograd: its numbers are nobody's.
        between = draw.pick(BETWEEN)
        changed = between.startswith("d.data")
        lines += [f"whole = {whole}", between, "whole.backward()"]
    elif draw.chance(0.8):
        lines.append(f"{whole}.backward()")
    if not changed:
        lines.append("see_gradients(m)")
    finite = not any("nan" in line for line in lines)
    return Program(
        tuple(lines),
        torch=not more,
        numbers="" if more and net.oracle == "torch" else net.oracle,
        finite=finite and not net.coarse,
        plain=not net.own,
        seed=draw.number,
        tolerance=0.2 if net.coarse else 0.0,
    )
