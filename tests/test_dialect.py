"""Models are written once: on arrays they call only what means the same on mlx.core.array and torch.Tensor.

An array here is what an op returns, a parameter without an annotation (or one that says Array), and what is
computed from these. The leading axis holds the tokens of all rows and is never named, so that a step may be
compiled or captured.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

MODELS = sorted((Path(__file__).parents[1] / "crane_app" / "models").rglob("*.py"))
LIBRARIES = {"mlx", "mlx_lm", "torch", "transformers"}
OPS = {"o", "ops"}
# What reaches a forward without being an array: trees of leaves, sizes, the step and what draws.
HOST = {"self", "cls", *OPS, "w", "weights", "c", "config", "step", "draw", "inputs", "i", "layer"}
ARRAYS = {"step.positions", "step.out", "inputs.tokens", "inputs.replace"}
METHODS = {
    "abs": "x.abs()",
    "cos": "x.cos()",
    "cumsum": "x.cumsum(-1)",
    "exp": "x.exp()",
    "flatten": "x.flatten(1)",
    "mean": "x.mean(axis=-1, keepdims=True)",
    "moveaxis": "x.moveaxis(-1, 1)",
    "reshape": "x.reshape(-1, 6)",
    "sin": "x.sin()",
    "sqrt": "x.abs().sqrt()",
    "square": "x.square()",
    "squeeze": "x[:, :1].squeeze(1)",
    "sum": "x.sum(axis=1)",
    "swapaxes": "x.swapaxes(1, 2)",
}
KEYWORDS = {"axis", "keepdims"}


class Function:
    """The arrays of one function and what it does to them that only one library would do."""

    def __init__(self, node: ast.FunctionDef):
        self.nodes = list(inside(node))
        self.ops = set(OPS)
        self.arrays = {arg.arg for arg in parameters(node) if unannotated(arg) and arg.arg not in HOST}
        while self.learn():
            pass

    def learn(self) -> bool:
        """Follow every assignment once; whether a new name turned out to be an array or the ops."""
        before = len(self.arrays) + len(self.ops)
        for node in self.nodes:
            match node:
                case ast.Assign(targets=targets, value=value):
                    for target in targets:
                        self.assign(target, value)
                case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target, value):
                    self.assign(target, value)
                case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                    self.assign(target, value)
        return len(self.arrays) + len(self.ops) > before

    def assign(self, target: ast.expr, value: ast.expr) -> None:
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            pairs = list(zip(target.elts, value.elts, strict=True))
        for one, given in pairs:
            if isinstance(one, ast.Name) and self.is_ops(given):
                self.ops.add(one.id)
            elif self.is_array(given):
                self.arrays |= {n.id for n in ast.walk(one) if isinstance(n, ast.Name) and n.id not in HOST}

    def is_ops(self, node: ast.expr) -> bool:
        return ast.unparse(node) == "self.ops" or (isinstance(node, ast.Name) and node.id in self.ops)

    def is_array(self, node: ast.AST) -> bool:
        match node:
            case ast.Name(id=name):
                return name in self.arrays
            case ast.Call(func=ast.Attribute(value=owner)) if self.is_ops(owner) or self.is_array(owner):
                return True
            case ast.Attribute(value=owner, attr=name):
                return ast.unparse(node) in ARRAYS or (self.is_array(owner) and name != "shape")
            case ast.Call(func=ast.Name(id="len" | "isinstance")):
                return False
            case ast.Call(args=args):
                return any(map(self.is_array, args))
            case ast.Compare(ops=[ast.Is() | ast.IsNot()]):
                return False
            case ast.Lambda() | ast.Constant():
                return False
        return any(map(self.is_array, ast.iter_child_nodes(node)))

    def complaints(self) -> Iterator[tuple[int, str]]:
        for node in self.nodes:
            for complaint in (*self.calls(node), *self.looks(node), *self.changes(node)):
                yield getattr(node, "lineno", 0), complaint

    def calls(self, node: ast.AST) -> Iterator[str]:
        match node:
            case ast.Call(func=ast.Attribute(value=owner, attr=name), args=args, keywords=keywords) if self.is_array(
                owner
            ):
                if name not in METHODS:
                    yield f".{name}() is not the same on both backends"
                if name == "reshape" and (not args or ast.unparse(args[0]) != "-1"):
                    yield "the first argument of reshape must be -1: the leading axis is never named"
                if unknown := [keyword.arg for keyword in keywords if keyword.arg not in KEYWORDS]:
                    yield f"{unknown[0]}= is not the same on both backends"
            case ast.Call(
                func=ast.Name(id="len" | "float" | "int" | "bool" | "list" | "print" as name),
                args=[first, *_],
            ):
                if self.is_array(first):
                    yield f"{name}() of an array reads the device or names the leading axis"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="np" | "math" as name)), args=args):
                if any(map(self.is_array, args)):
                    yield f"{name} cannot compute with an array of the backend"

    def looks(self, node: ast.AST) -> Iterator[str]:
        match node:
            case ast.Subscript(value=ast.Attribute(value=owner, attr="shape"), slice=index) if self.is_array(owner):
                if ast.unparse(index) in ("0", "-2", "-3", "-4") or isinstance(index, ast.Slice):
                    yield f".shape[{ast.unparse(index)}] may name the leading axis"
            case ast.Attribute(value=owner, attr=name) if self.is_array(owner) and name not in {
                "shape",
                *METHODS,
            }:
                yield f".{name} is not the same on both backends"
            case ast.Assign(value=ast.Attribute(value=owner, attr="shape")) if self.is_array(owner):
                yield ".shape as a whole names the leading axis"
            case ast.Attribute(value=ast.Name(id="step"), attr="spans"):
                yield "step.spans is for ops"
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) | ast.Assert(test=test):
                if self.is_array(test):
                    yield "a branch on an array's value"
            case ast.BoolOp(values=values) if any(map(self.is_array, values)):
                yield "and/or of arrays"
            case ast.UnaryOp(op=ast.Not(), operand=operand) if self.is_array(operand):
                yield "not of an array"
            case ast.comprehension(ifs=ifs) if any(map(self.is_array, ifs)):
                yield "a branch on an array's value"

    def changes(self, node: ast.AST) -> Iterator[str]:
        match node:
            case ast.AugAssign(target=target, value=value) if self.is_array(target) or self.is_array(value):
                yield "an assignment with an operator changes the caller's array on torch only"
            case ast.Assign(targets=[ast.Subscript(value=owner), *_]) if self.is_array(owner):
                yield "an array is changed in place"


def parameters(node: ast.FunctionDef) -> list[ast.arg]:
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]


def unannotated(arg: ast.arg) -> bool:
    return arg.annotation is None or "Array" in ast.unparse(arg.annotation)


def inside(node: ast.AST) -> Iterator[ast.AST]:
    """All below a node, but not what is inside functions and classes of their own."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield child
            yield from inside(child)


def read(source: str) -> list[str]:
    """What is wrong with a model file, as 'line: sentence'."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module=str() as module):
                modules = [module]
            case _:
                modules = []
        if {module.partition(".")[0] for module in modules} & LIBRARIES:
            found.append((node.lineno, "a model imports no tensor library"))
        if isinstance(node, ast.FunctionDef):
            found += Function(node).complaints()
    return [f"{line}: {sentence}" for line, sentence in sorted(found)]


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_a_model_keeps_to_the_dialect(path: Path):
    assert read(path.read_text("utf-8")) == []


BAD = {
    "x.view(-1, 2)": ".view() is not",
    "x.item()": ".item() is not",
    "x.tolist()": ".tolist() is not",
    "o.linear(x, w).astype(2)": ".astype() is not",
    "(x + 1).split(2)": ".split() is not",
    "x.mean(dim=-1)": "dim= is not",
    "x.mean(-1, keepdim=True)": "keepdim= is not",
    "x.reshape(4, -1)": "must be -1",
    "x.reshape((-1, 2))": "must be -1",
    "x.reshape(n, 2)": "must be -1",
    "x.shape[0]": "leading axis",
    "x.shape[-2]": "leading axis",
    "n, d = x.shape": "as a whole",
    "x.size": ".size is not",
    "x.dtype": ".dtype is not",
    "x.T": ".T is not",
    "len(x)": "len() of an array",
    "float(x[0])": "float() of an array",
    "int(x.sum())": "int() of an array",
    "bool(x)": "bool() of an array",
    "np.exp(x)": "np cannot",
    "y = self.mlp(x, w)\n  y.cpu()": ".cpu() is not",
    "q, k = (o.rope(a, r) for a in (x, x))\n  k.numpy()": ".numpy() is not",
    "if x.sum() > 0: return x": "a branch",
    "while x: pass": "a branch",
    "y = x if x[0] else 0": "a branch",
    "assert x": "a branch",
    "x and w": "and/or",
    "not x": "not of",
    "[i for i in w if x[i]]": "a branch",
    "x += 1": "changes the caller's",
    "x[0] = 1": "in place",
    "ops = self.ops\n  ops.silu(x).data": ".data is not",
    "y, c = self.ops.take(x, 0), self.config\n  y.to(c)": ".to() is not",
    "inputs.tokens.item()": ".item() is not",
    "step.positions.max()": ".max() is not",
    "step.spans": "for ops",
    "import torch.nn as nn": "no tensor library",
    "from mlx import core": "no tensor library",
}


@pytest.mark.parametrize("line", BAD)
def test_what_only_one_backend_does_is_refused(line: str):
    found = read(f"def forward(self, x, w, n: int, inputs: Inputs, step):\n  o = self.ops\n  {line}\n")
    assert any(BAD[line] in complaint for complaint in found), found


GOOD = (
    "return o.linear(x.reshape(-1, n, 2).swapaxes(1, 2).reshape(-1, 2 * n), w.o_proj)",
    "x = x + self.mlp(o.rms_norm(x, w.norm, 1e-6), w)",
    "if inputs.replace is not None: x = o.put(x, *inputs.replace)",
    "if 'q_norm' in w and n > 2: x = o.rms_norm(x, w.q_norm, 1e-6)",
    "n = w.merger.weight.shape[0]\n  y = x.reshape(-1, n)",
    "y = x.shape[-1] * x.shape[1]\n  assert y",
    "grid = np.arange(n)\n  places = len(grid), grid.tolist(), grid.astype(np.int32).reshape(n, 1)",
    "deep = []\n  deep.append(x)\n  n += len(deep)",
    "for i, layer in enumerate(w.layers): x = x + o.linear(x[:, i:], layer.proj)",
)


@pytest.mark.parametrize("line", GOOD)
def test_what_both_backends_do_alike_is_fine(line: str):
    assert read(f"def forward(self, x, w, n: int, inputs: Inputs, step):\n  o = self.ops\n  {line}\n") == []


@pytest.mark.parametrize("name", METHODS)
def test_the_methods_mean_the_same_on_both_backends(name: str):
    mlx = pytest.importorskip("mlx.core", exc_type=ImportError)
    torch = pytest.importorskip("torch", exc_type=ImportError)
    host = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    ours, theirs = (np.asarray(eval(METHODS[name], {"x": make(host)})) for make in (mlx.array, torch.tensor))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
