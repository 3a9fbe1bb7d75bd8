"""Cases: calls of good networks with inputs, states and lengths of all kinds, and backward passes afterwards."""

from __future__ import annotations

from soak.draw import Draw
from soak.networks import Network, network
from soak.program import Program
from soak.values import CONTENTS, CONTEXTS, KINDS, LENGTHS, STRANGE_INPUTS, VIEWS


def calls(draw: Draw) -> Program:
    """One call, and what may follow it."""
    net = network(draw)
    case = _Call(draw, net)
    case.input()
    case.states()
    case.call()
    case.backward()
    return case.program()


class _Call:
    """A case in the making."""

    def __init__(self, draw: Draw, net: Network) -> None:
        self.draw, self.net = draw, net
        self.lines = net.lines()
        self.finite, self.tolerance = True, 0.0
        self.unbatched, self.state = False, ""

    def input(self) -> None:
        draw, net = self.draw, self.net
        text, roll = net.input(), draw.integer(0, 99)
        if not net.is_cell and roll < 8:
            self.unbatched, shape = True, (net.T, net.F)
            text = f"randn{shape}"[:-1] + net.of() + ")"
        elif net.is_cell and roll < 12:
            self.unbatched, text = True, f"randn({net.F}" + net.of() + ")"
        elif roll < 16:
            T, B, F = draw.pick(((0, None, None), (None, 0, None), (None, None, 0), (None, None, net.F + 1), (0, 0, 0)))
            text = f"randn{net.shape(T, B, F)}"[:-1] + net.of() + ")"
        elif roll < 22:
            text = draw.pick(KINDS).format(text)
        elif roll < 24:
            text = draw.pick(STRANGE_INPUTS)
        elif roll < 30:
            text = draw.pick(CONTENTS).format(text)
            self.finite = False
        self.lines.append(f"x = {text}")
        if draw.chance(0.2):
            self.lines.append(f"x = {draw.pick(VIEWS).format('x')}")
        if draw.chance(0.5):
            self.lines.append("x.requires_grad_()")

    def states(self) -> None:
        draw, net = self.draw, self.net
        roll = draw.integer(0, 99)
        if roll < 50:
            return
        parts = net.states(unbatched=self.unbatched)
        if roll < 58:
            parts = net.states(batch=draw.pick((0, 1, net.B + 1)), unbatched=draw.chance(0.2))
        elif roll < 64:
            parts[0] = draw.pick(KINDS).format(parts[0])
        elif roll < 68:
            parts[-1] = draw.pick(STRANGE_INPUTS)
        elif roll < 74:
            parts[-1] = draw.pick(VIEWS).format(parts[-1])
        elif roll < 77:
            parts[-1] = draw.pick(CONTENTS).format(parts[-1])
            self.finite = False
        elif roll < 79:
            parts = parts[::-1]
        if roll >= 79 and roll < 84:
            self.state = draw.pick(
                (
                    "None",
                    "()",
                    "[]",
                    "(None, None)",
                    "(None,)",
                    "{}",
                    "'h'",
                    "0",
                    "(1, 2, 3)",
                    f"({parts[0]},)",
                    f"({parts[0]},) * 3",
                    f"[{', '.join(parts)}]",
                    f"torch.stack([{parts[0]}] * 2)",
                )
            )
        elif len(parts) == 1:
            self.state = parts[0]
        else:
            self.state = f"({', '.join(parts)})"
        self.lines.append(f"s = {self.state}")
        self.state = "s"
        if roll >= 92:
            self.lines.append("[t.requires_grad_() for t in (s if isinstance(s, tuple) else (s,))]")

    def call(self) -> None:
        draw, net = self.draw, self.net
        given = ", ".join(["x", *([self.state] if self.state else [])])
        if net.is_cell:
            text = f"m({given})"
            if net.norm != "none" and draw.chance(0.9):
                step = draw.pick(("0", "0", "1", "7", "200", "-1", "None", "'0'", "1.5", "tensor(0)"))
                text = f"step(m, {given}, step={step})"
        elif draw.chance(0.3):
            lengths = [draw.integer(1, max(net.T, 1)) for _ in range(net.B)]
            text = f"run(m, {given}, lengths={draw.pick(LENGTHS).format(lengths, net.B)})"
        else:
            text = draw.pick((f"m({given})", f"m({given})", f"m({given})", f"m.forward({given})"))
            if draw.chance(0.02):
                text = draw.pick((f"m({given}, 1, 2)", "m()", f"m({given}, no_such=1)", "m(input=x)", "m(x=x)"))
        # Autocast and weights of another half precision: torch refuses some of them and gives some back.
        context = f"{draw.pick(CONTEXTS)} " if draw.chance(0.15) else ""
        context = "" if net.coarse and "autocast" in context else context
        if "autocast" in context:
            self.tolerance = 0.1
        self.lines += [f"{context}out = {text}", "see(out)"]

    def backward(self) -> None:
        draw = self.draw
        roll = draw.integer(0, 19)
        if roll < 4:
            return
        whole = "loss(out)" if draw.chance(0.8) else draw.pick(("loss(out[0])", "loss(out[-1])"))
        after = ["see_gradients(m, x" + (", s)" if self.state else ")")]
        if roll == 4:
            self.lines += [f"{whole}.backward()", f"{whole}.backward()"]
        elif roll == 5:
            self.lines += [f"{whole}.backward(retain_graph=True)", f"{whole}.backward()"]
        elif roll == 6:
            changed = draw.pick(
                (
                    "with no_grad(): m.weight_hh_l0.mul_(2)",
                    "with no_grad(): m.weight_ih_l0.add_(1)",
                    "with no_grad(): x.mul_(2)",
                    "with no_grad(): [p.zero_() for p in m.parameters()]",
                )
            )
            self.lines += [changed, f"{whole}.backward()"]
        elif roll == 7:
            self.lines += ["[p.data.mul_(2) for p in m.parameters()]", f"{whole}.backward()"]
            after = []
        elif roll == 8:
            self.lines += ["with no_grad(): (out[0] if isinstance(out, tuple) else out).mul_(2)", f"{whole}.backward()"]
        elif roll == 9:
            self.lines += [
                f"g = torch.autograd.grad({whole}, [*m.parameters()], create_graph=True, allow_unused=True)",
                "see(g, 'gradient')",
                "sum((t * t).sum() for t in g if t is not None).backward()",
            ]
        elif roll == 10:
            self.lines += [
                f"{whole}.backward()",
                "torch.optim.SGD(m.parameters(), 0.1).step()",
                "out = m(x)",
                "see(out, 'later')",
                "m.zero_grad()",
                "loss(out).backward()",
            ]
        elif roll == 11:
            self.lines += [
                f"m.{draw.pick(('double', 'float', 'eval', 'train', 'zero_grad'))}()",
                f"{whole}.backward()",
            ]
        else:
            self.lines += [f"{whole}.backward()"]
        self.lines += after

    def program(self) -> Program:
        if self.net.coarse:
            self.tolerance, self.finite = 0.2, False
        text = "\n".join(self.lines)
        # Torch has no lengths: there its own packing stands for them, which cannot do without memory.
        torch = ("lengths" not in text or "'meta'" not in text) and "_efficient" not in text
        oracle = self.net.oracle
        return Program(
            tuple(self.lines),
            torch=torch,
            numbers=oracle if torch or oracle != "torch" else "" if self.net.is_cell else "reference",
            finite=self.finite,
            plain=not self.net.own,
            tolerance=self.tolerance,
            seed=self.draw.number,
        )
