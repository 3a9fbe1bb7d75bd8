"""Cases: modules that are copied, saved, moved, and looked into by torch's function transforms."""

from __future__ import annotations

from soak.draw import Draw
from soak.networks import network
from soak.program import Program

COPIES = (
    "m = copy.deepcopy(m)",
    "m = copy.copy(m)",
    "m = pickle.loads(pickle.dumps(m))",
    "m = saved_and_loaded(m, weights_only=False)",
    "m.load_state_dict(saved_and_loaded(m.state_dict()))",
    "m.load_state_dict({**m.state_dict()}, assign=True)",
    "m.load_state_dict({})",
    "m.load_state_dict({}, strict=False)",
    "m.load_state_dict({'x': randn(2)}, strict=False)",
    "m.load_state_dict({**m.state_dict(), 'x': randn(2)})",
    "m.load_state_dict({k: v[:1] for k, v in m.state_dict().items() if v.dim()})",
    "m.load_state_dict({k: v.double() for k, v in m.state_dict().items()})",
    "m.load_state_dict({k: v * 2 for k, v in m.state_dict().items()})",
    "m.load_state_dict({k: v.to('meta') for k, v in m.state_dict().items()})",
    "m.load_state_dict({k: None for k in m.state_dict()})",
    "m.load_state_dict({k: v.numpy() for k, v in m.state_dict().items()})",
    "m.load_state_dict(None)",
    "m.load_state_dict([1, 2])",
    "m.load_state_dict({k: 3 for k in m.state_dict()}, strict=False)",
    "m.load_state_dict({k.upper(): v for k, v in m.state_dict().items()})",
    "m.load_state_dict({k: v.to(torch.complex64) for k, v in m.state_dict().items()})",
    "m.load_state_dict({k: v[:1] for k, v in m.state_dict().items() if v.dim()}, assign=True, strict=False)",
    "m.load_state_dict({k: v.half() for k, v in m.state_dict().items()}, assign=True)",
    "m.load_state_dict({k: v * nan for k, v in m.state_dict().items()})",
    "saved_and_loaded(m, weights_only=True)",
    "m.__setstate__(m.__getstate__())",
    "m = m.to(m.weight_ih_l0)",
    "m.flatten_parameters()",
    "m.reset_parameters()",
    "[*m.all_weights]",
    "m.extra_repr()",
    "str(m)",
    "dir(m)",
    "hash(m)",
    "m.half()",
    "m.double()",
    "m.bfloat16()",
    "m.float()",
    "m.to('meta')",
    "m.to(torch.int32)",
    "m.to('nowhere')",
    "m.to(torch.complex64)",
    "m.to('meta').to_empty(device='cpu'); [p.data.fill_(0.1) for p in m.parameters()]",
    "m.cuda()",
    "m.cpu()",
    "m.type('x')",
    "m.type(float64)",
    "m.train('yes')",
    "m.eval().train()",
    "m.requires_grad_(False)",
    "m.apply(lambda n: None)",
    "m.zero_grad(set_to_none=False)",
    "parametrizations.weight_norm(m, 'weight_hh_l0')",
    "parametrizations.spectral_norm(m, 'weight_ih_l0')",
    "parametrizations.orthogonal(m, 'weight_hh_l0')",
    "nn.utils.weight_norm(m, 'weight_hh_l0')",
    "nn.utils.spectral_norm(m, 'weight_hh_l0')",
    "parametrizations.weight_norm(m, 'no_such')",
    "prune.random_unstructured(m, 'weight_hh_l0', 0.5)",
    "prune.l1_unstructured(m, 'weight_ih_l0', 0.3)",
    "prune.identity(m, 'no_such')",
    "m.register_forward_hook(lambda m, i, o: None)",
    "m.register_forward_hook(lambda m, i, o: o[0])",
    "m.register_forward_pre_hook(lambda m, i: None)",
    "m.register_full_backward_hook(lambda m, i, o: None)",
    "m.weight_hh_l0.register_hook(lambda g: g * 3)",
    "m.register_buffer('extra', randn(2))",
    "m.extra = nn.Linear(2, 2)",
    "m.weight_ih_l0.grad = torch.ones_like(m.weight_ih_l0)",
    "nn.init.constant_(m.weight_hh_l0, 0.1)",
    "torch.nn.utils.vector_to_parameters(torch.nn.utils.parameters_to_vector(m.parameters()), m.parameters())",
    "m = nn.DataParallel(m)",
    "m.share_memory()",
    "m = nn.Sequential(m)",
    "m.forward = m.forward",
    "m.set_submodule('x', nn.Linear(1, 1))",
)
CALLS = (
    "out = torch.func.functional_call(m, dict(m.named_parameters()), (x,))",
    "out = torch.func.functional_call(m, {k: v.detach() * 2 for k, v in m.named_parameters()}, (x,))",
    "out = torch.func.functional_call(m, {'weight_hh_l0': randn(2, 2)}, (x,))",
    "out = torch.func.functional_call(m, {'no_such': randn(2, 2)}, (x,))",
    "out = torch.func.grad(lambda z: f(m(z)))(x)",
    "out = torch.func.grad(lambda z: f(m(z)[0]).mul(1j))(x)",
    "out = torch.func.grad(lambda p: f(torch.func.functional_call(m, p, (x,))))(dict(m.named_parameters()))",
    "out = torch.func.vjp(lambda z: f(m(z)), x)[1](torch.ones(()).to(f(m(x))))",
    "out = torch.func.jvp(lambda z: f(m(z)), (x,), (torch.ones_like(x),))",
    "out = torch.func.vmap(m)(torch.stack([x, x * 2]))",
    "out = torch.func.vmap(lambda z: m(z)[0], in_dims=1)(torch.stack([x, x * 2], 1))",
    "out = torch.func.vmap(m, randomness='different')(torch.stack([x, x]))",
    "out = torch.func.vmap(torch.func.grad(lambda z: f(m(z))))(torch.stack([x, x * 2]))",
    "out = torch.func.jacrev(lambda z: f(m(z)))(x)",
    "out = torch.func.jacfwd(lambda z: f(m(z)))(x)",
    "out = torch.func.hessian(lambda z: f(m(z)))(x[..., :1].expand_as(x))",
    "out = torch.func.linearize(lambda z: f(m(z)), x)[0]",
    "out = torch.autograd.functional.jacobian(lambda z: m(z)[0].flatten()[:3], x)",
    "out = torch.autograd.functional.jacobian(lambda z: m(z)[0].flatten()[:3], x, vectorize=True)",
    "out = torch.autograd.functional.jvp(lambda z: f(m(z)), x, torch.ones_like(x))",
    "out = checkpoint(m, x, use_reentrant=False)",
    "out = checkpoint(m, x, use_reentrant=True)",
    "out = checkpoint(lambda z: m(z)[0], x, use_reentrant=False)",
    "with torch.autograd.graph.save_on_cpu(): out = m(x)",
    "with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t): out = m(x)",
    "with forward_ad.dual_level(): out = forward_ad.unpack_dual(f(m(forward_ad.make_dual(x, torch.ones_like(x)))))[1]",
    "with FakeTensorMode(allow_non_fake_inputs=True) as mode: out = [*m(mode.from_tensor(x))[0].shape]",
    "out = torch.autograd.grad(loss(m(x)), [*m.parameters()], allow_unused=True)",
    "y = m(x)[0]; out = torch.autograd.grad(y, [*m.parameters()], torch.stack([y, y * 2]), is_grads_batched=True)",
    "with torch.profiler.profile(): out = m(x)",
    "with FlopCounterMode(display=False): out = m(x)",
    "got = []; t = threading.Thread(target=lambda: got.append(m(x))); t.start(); t.join(); out = got[0]",
)


def transformations(draw: Draw) -> Program:
    """A network that is handled in one way, called in another, and differentiated."""
    net = network(draw, cells=draw.chance(0.15), strange=False)
    lines = [*net.lines(), "f = lambda out: loss(out if not isinstance(out, tuple) else (out[0],))"]
    handled = [draw.pick(COPIES) for _ in range(draw.pick((0, 1, 1, 2)))]
    handled = [line.replace("_l0", "") if net.is_cell else line for line in handled]
    lines += [*handled, f"x = {net.input()}"]
    if draw.chance(0.5):
        lines += ["x.requires_grad_()"]
    if handled and draw.chance(0.6):
        lines += ["out = m(x)"]
    else:
        call = draw.pick(CALLS)
        lines += [call.replace("_l0", "") if net.is_cell else call]
    lines += ["see(out)"]
    if draw.chance(0.6):
        lines += ["loss(out).backward()", "see_gradients(m, x)"]
    text = "\n".join(lines)
    fresh = any(word in text for word in ("reset_parameters", "prune.", "spectral", "'different'", "to_empty", "* 0"))
    return Program(
        tuple(lines),
        numbers="" if fresh or net.random else net.oracle,
        finite=not any(word in text for word in ("nan", "16", "half")),
        seed=draw.number,
        plain=not net.own,
        tolerance=0.2 if "half" in text or "16" in text else 0.0,
    )
