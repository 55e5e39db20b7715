"""One start, many VMs: an interpreter with its imports done goes on in a VM for each question."""

import time

import pyrovm

SETUP = "import decimal, fractions, json, statistics"


def describe(text: str) -> tuple[float, float]:
    numbers = json.loads(text)  # noqa: F821  (imported by SETUP, in the VM)
    return statistics.mean(numbers), statistics.pstdev(numbers)  # noqa: F821


def main() -> None:
    questions = [f"[{n}, {n + 1}, {n * n}]" for n in range(20)]
    with pyrovm.Template(setup=SETUP, pool=2) as template:
        begun = time.perf_counter()
        for question, (mean, deviation) in zip(
            questions, template.map(describe, questions), strict=True
        ):
            print(f"{question:16} mean {mean:8.2f}, deviation {deviation:8.2f}")
        took = time.perf_counter() - begun
    print(f"{len(questions)} VMs, {took / len(questions) * 1000:.1f} ms each")


if __name__ == "__main__":
    main()
