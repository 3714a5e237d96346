"""How benchmarks measure and what they leave."""

import datetime
import json
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from simplenet_jax import environment
from simplenet_jax.evaluation import results

RESULTS = pathlib.Path(__file__).parent / 'results'


def in_turns(
  functions: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, float]:
  """Returns each function's median seconds; turns share the machine's moods.

  Args:
    functions: Each must return only when its work is done.
    rounds: How often each is called, after one call that is not counted.
  """
  times = all_in_turns(functions, rounds)
  return {name: statistics.median(each) for name, each in times.items()}


def all_in_turns(
  functions: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
  """Returns each function's seconds of every round; see `in_turns`."""
  seconds = {name: [] for name in functions}
  for function in functions.values():
    function()
  for _ in range(rounds):
    for name, function in functions.items():
      start = time.perf_counter()
      function()
      seconds[name].append(time.perf_counter() - start)
  return seconds


def write(name: str, result: Mapping[str, Any]) -> None:
  """Prints a result and writes it to `results/<name>.json`, machine named."""
  whole = {
    **result,
    'device': environment.device(),
    'versions': environment.versions(),
    'date': datetime.datetime.now(datetime.UTC).date().isoformat(),
  }
  results.write_json(RESULTS / f'{name}.json', whole)
  print(json.dumps(whole, indent=2))
