"""Evaluate formulas of strangers: each in a VM that has neither files nor network."""

import pyrovm

FORMULAS = {
    "average": "sum(values) / len(values)",
    "spread": "max(values) - min(values)",
    "broken": "values[10]",
    "endless": "sum(iter(int, 1))",
    "curious": "open('/etc/hostname').readline().strip()",
}


@pyrovm.function(memory="64M", timeout=2)
def evaluate(formula: str, values: list[float]) -> float:
    """Anything may happen in here; what comes out is a number, a text or an error."""
    return eval(formula, {"values": values})


for name, formula in FORMULAS.items():
    try:
        answer = evaluate(formula, [1.0, 2.0, 6.0])
    except pyrovm.FunctionTimeout:
        print(f"{name}: took too long")
    except pyrovm.FunctionError as error:
        print(f"{name}: {error.type}: {error.message}")
    else:
        print(f"{name}: {answer}")
