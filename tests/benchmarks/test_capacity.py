import dataclasses
import json
import pathlib

import pytest

from benchmarks import capacity_page
from benchmarks.capacity_model import Costs, Work, spent, taken

ROOT = pathlib.Path(__file__).parents[2]
WORK = Work(
  categories=64,
  images=80,
  test=20,
  seeds=1,
  epochs=10,
  cores=4,
  read=1e9,
  together=4e9,
)
# Of one category: 100 heads' steps of a second and 100 images.
COSTS = Costs(
  step=1.0,
  score=0.0,
  backbone=0.1,
  decode=0.2,
  evaluate=1.0,
  file=1e6,
  head=1e6,
  under_way=3e6,
  row=5e6,
  write=0.5,
  ship=0.25,
  start=4.0,
  header=6 / 6400,
)


def test_parts_add_up_on_one_device():
  found = spent(WORK, COSTS, 1)
  of = {part: 3600 * hours for part, hours in found['hours_of'].items()}
  assert of['heads'] == pytest.approx(64 * 100)
  assert of['backbone'] == pytest.approx(64 * 10)
  assert of['decode'] == pytest.approx(64 * 100 * 0.2 / 4)
  assert of['evaluation'] == pytest.approx(64 * 2)
  assert of['storage'] == pytest.approx(64 * (0.1 + 0.5 + 0.25))
  assert found['bottleneck'] == 'heads'
  # Decoding hides behind the heads, except for the first category.
  assert 3600 * found['hours'] == pytest.approx(
    10 + 64 * (100 + 10 + 0.5) + 5 + 2.25
  )


@pytest.mark.parametrize(
  ('change', 'bottleneck'),
  [
    ({}, 'heads'),
    ({'step': 0.01}, 'backbone'),
    ({'step': 0.01, 'decode': 5.0}, 'decode'),
    ({'step': 0.01, 'file': 1e9}, 'storage'),
    ({'step': 0.01, 'evaluate': 50.0}, 'evaluation'),
    ({'step': 0.01, 'backbone': 0.0, 'start': 1e4}, 'start'),
  ],
)
def test_the_largest_part_is_named_and_decides(change, bottleneck):
  found = spent(WORK, dataclasses.replace(COSTS, **change), 1)
  assert found['bottleneck'] == bottleneck
  assert found['hours'] >= found['hours_of'][bottleneck]


def test_twice_the_devices_take_half_the_time_where_the_plan_allows():
  costs = dataclasses.replace(COSTS, start=0.0, header=0.0, file=0.0)
  work = dataclasses.replace(WORK, together=1e15)
  hours = [spent(work, costs, count)['hours'] for count in (1, 2, 4, 64)]
  assert hours[0] == pytest.approx(2 * hours[1], rel=0.01)
  assert hours[1] == pytest.approx(2 * hours[2], rel=0.01)
  assert spent(work, costs, 64)['efficiency'] == 1
  # 64 categories on 48 devices: some have two, and no more devices help.
  uneven = spent(work, costs, 48)
  assert uneven['efficiency'] == pytest.approx(64 / 96)
  assert spent(work, costs, 128)['hours'] == pytest.approx(hours[3])


def test_storage_is_shared():
  costs = dataclasses.replace(COSTS, file=1e9, head=0.0, write=0.0, ship=0.0)
  few, many = (spent(WORK, costs, n)['hours_of']['storage'] for n in (4, 32))
  # Up to four devices get all that they can take; then they wait.
  assert few == pytest.approx(16 * 100 / 3600, rel=0.02)
  assert many == pytest.approx(2 * 100 * 8 / 3600, rel=0.02)


def test_memory_and_storage():
  found = taken(WORK, COSTS)
  assert found['features on a device'] == pytest.approx(0.5)
  assert found['image files'] == pytest.approx(6.4)
  assert found['finished heads'] == pytest.approx(0.064)
  assert found['a head under way, twice'] == pytest.approx(0.006)


def test_the_page_is_that_of_its_figures():
  path = ROOT / 'benchmarks/results/capacity.json'
  page = capacity_page.render(json.loads(path.read_text()))
  assert page == (ROOT / 'docs/capacity.md').read_text()
