#!/usr/bin/env python3
"""What a run's report.json says, held against formulas and against the par of an exercise.

  report.py table FOLDER "what: FORMULA = MEASURED" ...   a table: predicted, measured, their ratio
  report.py par FOLDER "EXPRESSION <= EXPRESSION" ...     PASS or FAIL for each; exit 1 where one fails

An expression may use numbers, + - * / ** ( ), sqrt, min, max, and keys of the report: `parameters`,
`memory.optimizer.peak`. Where the report holds a list (one entry for each device), its largest entry counts, or in
sum(comm.send.bytes) all of them together.
"""
import ast
import json
import math
import operator
import pathlib
import sys

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
             ast.Pow: operator.pow, ast.USub: operator.neg}
FUNCTIONS = {"sqrt": math.sqrt, "min": min, "max": max}
COMPARISONS = {ast.LtE: operator.le, ast.GtE: operator.ge, ast.Lt: operator.lt, ast.Gt: operator.gt}


def fail(message):
    sys.exit(f"report.py: error: {message}")


def lookup(report, keys, combine=max):
    for i, key in enumerate(keys):
        if isinstance(report, list):
            return combine(lookup(entry, keys[i:], combine) for entry in report)
        if not isinstance(report, dict) or report.get(key) is None:
            fail(f"the report has no {'.'.join(keys)} (hint: it may be null, where it does not apply)")
        report = report[key]
    return combine(report) if isinstance(report, list) else report


def value(report, node):
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](value(report, node.left), value(report, node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](value(report, node.operand))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "sum" and len(node.args) == 1:
        return lookup(report, ast.unparse(node.args[0]).split("."), sum)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
        return FUNCTIONS[node.func.id](*(value(report, a) for a in node.args))
    if isinstance(node, (ast.Name, ast.Attribute)):
        return lookup(report, ast.unparse(node).split("."))
    fail(f"not an expression: {ast.unparse(node)}")


def parse(text):
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        fail(f"not an expression: {text}")


def shown(number):
    return f"{int(number):,}" if number == int(number) else f"{number:.6g}"


def table(report, rows):
    print(f"{'':36} {'predicted':>14} {'measured':>14} {'ratio':>7}")
    for row in rows:
        what, _, equation = row.partition(":")
        left, _, right = equation.partition("=")
        predicted, measured = value(report, parse(left)), value(report, parse(right))
        print(f"{what:36} {shown(predicted):>14} {shown(measured):>14} {measured / predicted:7.4g}")
    return 0


def par(report, rows):
    passed = True
    for row in rows:
        node = parse(row)
        if not isinstance(node, ast.Compare) or len(node.ops) != 1 or type(node.ops[0]) not in COMPARISONS:
            fail(f"not a comparison such as 'val_loss <= 0.01': {row}")
        left, right = value(report, node.left), value(report, node.comparators[0])
        fine = COMPARISONS[type(node.ops[0])](left, right)
        passed &= fine
        print(f"{'PASS' if fine else 'FAIL'}  {row}: it is {shown(left)}")
    return 0 if passed else 1


def main(arguments):
    commands = {"table": table, "par": par}
    if len(arguments) < 3 or arguments[0] not in commands:
        sys.exit(__doc__)
    path = pathlib.Path(arguments[1]) / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fail(f"{path}: {error}")
    return commands[arguments[0]](report, arguments[2:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
