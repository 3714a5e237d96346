"""What a results.json tells of a run that is taken up again."""

import math

import numpy as np
import pytest

from simplenet_jax.evaluation import earlier, metrics, results


def test_what_was_found_is_read_back(tmp_path):
  nan = math.nan
  last = [dict.fromkeys(metrics.METRICS, value) for value in (0.5, 0.75)]
  last[1]['pixel_auroc'] = last[0]['pixel_auroc'] = nan
  best = [{**seed, 'epoch': 4} for seed in last]
  kinds = {'cut': {'images': 2, 'image_auroc': 0.5, 'pixel_auroc': nan}}
  pixels = {'images': 1, 'of': 2, 'left_out': {'mask all black': 1}}
  run = {
    'protocol': 'test',
    'versions': {},
    'device': {},
    'wall_seconds': {},
    'config': {'backbone': {'name': 'x'}, 'seeds': [0, 1]},
  }
  found = {
    'part': results.CategoryResult(
      last, best, kinds=kinds, cautions=['careful'], pixels=pixels
    )
  }
  table = results.build(run, found)
  results.write_json(tmp_path / 'results.json', table)
  again = earlier.recall(tmp_path, (0, 1))
  assert results.strict(results.build(run, again)) == results.strict(table)
  assert earlier.recall(tmp_path, (0, 2)) == {}
  assert earlier.recall(tmp_path / 'nowhere', (0, 1)) == {}
  (tmp_path / 'results.json').write_text('{}')
  with pytest.raises(ValueError, match=r'results.json is damaged'):
    earlier.recall(tmp_path, (0, 1))


def test_what_was_called_aupro_is_read_back_as_sampled(tmp_path):
  names = ('aupro_30', 'aupro_05')
  old = [name for name in metrics.METRICS if not name.endswith('_sampled')]
  old += [f'{name}_exact' for name in names]
  summaries = {
    name: {'mean': value, 'std': None, 'seeds': [value]}
    for name, value in zip(old, np.linspace(0, 1, len(old)), strict=True)
  }
  results.write_json(
    tmp_path / 'results.json',
    {
      'config': {'seeds': [0]},
      'categories': {'part': {'last': summaries}},
      'selected_on_test': {},
    },
  )
  (last,) = earlier.recall(tmp_path, (0,))['part'].last
  assert set(last) == set(metrics.METRICS)
  for name in names:
    assert last[name] == summaries[f'{name}_exact']['mean']
    assert last[f'{name}_sampled'] == summaries[name]['mean']
