"""Run several microVMs at once, each with a task of its own."""

import asyncio
import re
from typing import Any

from small_linux import PATIENCE, small_linux

from pyrovm import AsyncMicroVM

GUEST = """
stty -echo
echo ready
read -r number
echo "square: $((number * number))"
reboot -f
"""


async def square(linux: dict[str, Any], number: int) -> int:
    """``number`` squared, by a machine made for it."""
    async with AsyncMicroVM(**linux) as vm:
        await vm.start()
        await vm.console.wait_for("ready", PATIENCE)
        await vm.console.write(f"{number}\n")
        answer = await vm.console.wait_for(re.compile(r"square: \d+\s"), PATIENCE)
        await vm.wait(PATIENCE)
    return int(answer.split()[-1])


async def main() -> None:
    numbers = [3, 5, 7]
    with small_linux(GUEST) as linux:
        squares = await asyncio.gather(*(square(linux, number) for number in numbers))
    for number, result in zip(numbers, squares, strict=True):
        print(f"{number} x {number} = {result}")


asyncio.run(main())
