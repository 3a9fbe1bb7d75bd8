"""Cases: networks that are compiled, exported or traced, beside the same ones run eagerly. Seconds each."""

from __future__ import annotations

from soak.draw import Draw
from soak.networks import network
from soak.program import Program

CALLS = (
    "out = compiled(m, backend='aot_eager')(x)",
    "out = compiled(m, backend='aot_eager')(x)",
    "out = compiled(m, backend='eager')(x)",
    "out = compiled(m, backend='aot_eager', fullgraph=True)(x)",
    "out = compiled(m, backend='aot_eager', dynamic=True)(x)",
    "out = compiled(lambda z: m(z * 2)[0] + 1, backend='aot_eager')(x)",
    "c = compiled(m, backend='aot_eager'); c(x); [p.data.mul_(0.5) for p in m.parameters()]; out = c(x)",
    "c = compiled(m, backend='aot_eager'); c(x); out = c(torch.cat([x, x]))",
    "out = make_fx(lambda z: m(z)[0])(x)(x)",
    "m.eval(); out = exported(m, x)(x)",
    "m.eval(); out = traced(m, x)(x)",
    "m.eval(); out = scripted(m)(x)",
    "m.eval(); out = symbolic(m)(x)",
)


def compiled(draw: Draw) -> Program:
    """One network through one of torch's compilers, and mostly a backward pass."""
    net = network(draw, strange=False)
    net.T, net.B = min(net.T, 3), min(net.B, 4)
    call = draw.pick(CALLS)
    lines = ["torch._dynamo.reset()", *net.lines(), f"x = {net.input()}.requires_grad_()", call, "see(out)"]
    if draw.chance(0.7) and "m.eval()" not in call:
        lines += ["loss(out).backward()", "see_gradients(m, x)"]
    return Program(
        tuple(lines), torch=not net.own, plain=not net.own, numbers="" if net.random else net.oracle, seed=draw.number
    )
