"""What devices do: the same programs, whoever trains what."""

from types import SimpleNamespace
from unittest import mock

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simplenet_jax.config import from_protocol
from simplenet_jax.environment import Processes
from simplenet_jax.training import layout
from simplenet_jax.training.job import assign

SIZES = [(32, 32), (40, 24)]
SHAPES = (jax.ShapeDtypeStruct((4, 4, 8), 'float32'),)
IMAGE = 4 * 4 * 8 * 4  # Bytes.


def make_inputs(index, images, size):
  name, tested = f'part{index}', images // 4
  return SimpleNamespace(
    name=name, size=size, images=images + tested, train=range(images)
  )


def programs(config, categories, processes, kept, room):
  """Returns the lanes and rows of all devices' tasks, by input size."""
  jobs, found = layout.make_jobs(config, categories), {}
  for index in range(processes):
    mine = assign(jobs, processes)[index]
    tasks = layout.lay_out(
      *(config, jobs, [job for job in mine if kept(job)], categories),
      dict.fromkeys(SIZES, SHAPES),
      Processes(index, processes),
    )
    for task in [task for tasks in tasks for task in tasks]:
      assert task.rows <= room
      size = task.categories[0].size
      found.setdefault(size, set()).add((task.lanes, task.rows))
  return found


@pytest.mark.parametrize('platform', ['cpu', 'gpu'])
@given(data=st.data())
def test_programs_are_the_same_for_every_part_of_a_run(platform, data):
  config, draw = from_protocol('fast'), data.draw
  config.seeds = tuple(range(draw(st.integers(1, 5))))
  config.engine.lanes = draw(st.sampled_from([0, 0, 2]))
  room = draw(st.integers(32, 2000))
  config.bank.device_gb = (room + 0.5) * IMAGE / 1e9
  sizes = st.tuples(st.integers(1, 400), st.sampled_from(SIZES))
  categories = [
    make_inputs(i, *one)
    for i, one in enumerate(draw(st.lists(sizes, min_size=1, max_size=6)))
  ]
  left = draw(st.randoms(use_true_random=False))
  known = []
  for processes, devices in [(1, 1), (1, 4), (4, 1), (2, 2)]:
    own = [SimpleNamespace(platform=platform)] * devices
    of = config, categories, processes
    with mock.patch.object(layout, 'chosen_devices', lambda _, own=own: own):
      whole = programs(*of, lambda job: True, room)
      part = programs(*of, lambda job: left.random() < 0.3, room)
    assert all(len(found) == 1 for found in whole.values())
    assert all(part[size] == whole[size] for size in part)
    known.append(whole)
  assert known[1] == known[2] == known[3]
  # With fewer heads a device, accelerators have fewer lanes.
  assert known[0] == known[1] or (platform, config.engine.lanes) == ('gpu', 0)


def test_rows_are_rounded_up_within_what_there_is():
  config = from_protocol('fast')
  found = []
  for images, room in [(40, 99), (40, 60), (200, 999), (900, 2000), (900, 999)]:
    config.bank.device_gb = (room + 0.5) * IMAGE / 1e9
    inputs = [make_inputs(0, images, SIZES[0])]
    (one,) = programs(config, inputs, 1, lambda job: True, room).values()
    found += [rows for _, rows in one]
  assert found == [64, 60, 256, 1152, 999]
