import collections
import types

import pytest

from simplenet_jax.training.job import Job, assign
from simplenet_jax.training.share import share


def make_job(category, seed, images=8, variant=''):
  return Job(category, seed, images, 4, 3, variant)


def make_rota(*processes):
  """Returns the shifts of devices of these processes, one shift each."""
  return [
    [
      types.SimpleNamespace(
        device=types.SimpleNamespace(process_index=process), jobs=jobs
      )
    ]
    for process, jobs in processes
  ]


def shares_of(rota, ended, count):
  return [share(rota, ended, index, count) for index in range(count)]


def test_every_head_trains_once_and_every_category_has_one_home():
  jobs = [make_job(name, seed) for name in 'abcdefg' for seed in range(3)]
  ended, left = jobs[::5], [job for job in jobs if job not in jobs[::5]]
  parts = assign(left, 4)
  # The first two devices are of one process.
  rota = make_rota(*zip((0, 0, 1, 2), parts, strict=True))
  found = shares_of(rota, ended, 3)
  trained = [job for one in found for job in one.jobs]
  assert sorted(map(repr, trained)) == sorted(map(repr, left))
  homes = collections.defaultdict(set)
  for index, one in enumerate(found):
    own = {*one.jobs} - one.foreign
    for job in (*own, *one.ended, *one.away):
      homes[job.category].add(index)
  assert all(len(home) == 1 for home in homes.values())
  assert set(homes) == set('abcdefg')
  away = [job for one in found for job in one.away]
  foreign = [job for one in found for job in one.foreign]
  assert collections.Counter(away) == collections.Counter(foreign)


def test_a_category_belongs_to_the_process_that_trains_most_of_it():
  large = [make_job('a', seed) for seed in range(3)]
  rota = make_rota((0, large[:1]), (1, large[1:]))
  first, second = shares_of(rota, [], 2)
  assert first.foreign == {large[0]}
  assert second.away == [large[0]]
  assert not first.away
  assert not second.foreign


def test_homes_are_even_where_loads_are():
  jobs = [make_job(name, seed) for name in 'abcd' for seed in (0, 1)]
  rota = make_rota((0, jobs[::2]), (1, jobs[1::2]))
  assert [len(one.away) for one in shares_of(rota, [], 2)] == [2, 2]


@pytest.mark.parametrize('count', [1, 2, 3])
def test_what_is_finished_is_divided_too(count):
  jobs = [make_job(name, seed) for name in 'abcdef' for seed in (0, 1)]
  found = shares_of([], jobs, count)
  assert all(len(one.ended) == len(jobs) // count for one in found)
  for one in found:  # Seeds stay together.
    assert len({job.category for job in one.ended}) == len(one.ended) // 2


def test_variants_are_told_from_each_other():
  jobs = [make_job('a', 0, variant=name) for name in ('x', 'y')]
  rota = make_rota((0, jobs[:1]), (1, jobs[1:]))
  for one in shares_of(rota, [], 2):
    assert not one.foreign
    assert not one.away
