"""Regions of interest, from a drawing to scores, figures and exports."""

import dataclasses
import json
from typing import Any, cast

import jax
import numpy as np
import pytest
from PIL import Image

from simplenet_jax.data import roi
from simplenet_jax.data.frame import Frame
from simplenet_jax.data.images import encoded
from simplenet_jax.data.inputs import IGNORED
from simplenet_jax.detection import export
from simplenet_jax.detector import Detector
from simplenet_jax.evaluation import metrics
from simplenet_jax.evaluation.testset import Scored, TestSet
from simplenet_jax.models import simplenet
from simplenet_jax.training import lanes, neighbours
from simplenet_jax.training.levels import Levels
from tests import commands
from tests.detection import detectors
from tests.small import make_categories, make_config
from tests.test_train import run

SIZE = 32, 40  # Height and width of the pictures; their spot is on the left.
GRAY = encoded(np.full((9, 9), 120, np.uint8))
RIGHT = np.broadcast_to(np.arange(40) >= 26, SIZE)


def draw(path, region=RIGHT):
  Image.fromarray(region.astype(np.uint8) * 255).save(path)
  return str(path)


@pytest.fixture(scope='module')
def looked_at(tmp_path_factory, backbone):
  """A run that looks at the right of its images, where no spot is."""
  folder = tmp_path_factory.mktemp('roi')
  make_categories(folder / 'data', {'part': 6})
  config = make_config(folder / 'data', backbone)
  config.data.resize, config.train.patches = 64, 8
  config.nearest.size = config.evaluation.baseline = 20
  config.data.roi = draw(folder / 'part.png').replace('part', '{category}')
  return run(config, folder / 'work')


def test_pictures_and_polygons_are_the_same(tmp_path):
  path = tmp_path / 'roi.json'
  polygon = [[26, 0], [40, 0], [40, 32], [26, 32]]
  for drawn in (
    {'include': [polygon]},
    {'exclude': [[[0, 0], [25, 0], [25, 32], [0, 32]]]},
  ):
    path.write_text(json.dumps({'size': SIZE, **drawn}))
    np.testing.assert_array_equal(roi.read(str(path), '--roi', ''), RIGHT)
  named = draw(tmp_path / 'cog.png').replace('cog', '{category}')
  np.testing.assert_array_equal(roi.read(named, '--roi', 'cog'), RIGHT)


@pytest.mark.parametrize(
  ('name', 'content', 'told'),
  [
    ('none.png', None, r'none.png: no such file \(--roi\)'),
    ('roi.png', b'nothing', 'roi.png'),
    ('roi.png', GRAY, 'roi.png: .*as a photograph'),
    ('roi.json', b'{', 'roi.json'),
    ('roi.json', b'[]', r'--roi takes {"size": \[height, width\]'),
    ('roi.json', b'{"size": [0, 9]}', '"size" is'),
    ('roi.json', b'{"size": [9, 9], "includes": []}', "'includes' is unknown"),
    ('roi.json', b'{"size": ["9", 1e999]}', 'roi.json: .*OverflowError'),
    ('roi.json', b'{"size": [9, 9], "include": [[[1, 2]]]}', 'a polygon is'),
    ('roi.json', b'{"size": [9, 9], "include": [[[1, 2, 3]]]}', 'roi.json: '),
  ],
)
def test_what_is_no_region_is_told(tmp_path, name, content, told):
  if content:
    (tmp_path / name).write_bytes(content)
  with pytest.raises((ValueError, OSError), match=told):
    roi.read(str(tmp_path / name), '--roi', 'part')


def test_other_aspects_and_empty_regions_are_refused():
  whole = 64, 80
  for crop in (0, 32):
    frame = Frame.of((32, 32), 48, crop, whole)
    with pytest.raises(ValueError, match='of another aspect than the images'):
      roi.to_input(np.ones((32, 32), bool), frame, 'x', (1.2, 1.3))
  for rows in (0, 6):  # These lie around the centres of the coarser patches.
    line = (np.arange(64) // 5 == 1)[:, None] & (np.arange(80) < 16 * rows)
    with pytest.raises(ValueError, match='x leaves nothing to look at'):
      roi.to_input(line, Frame(whole, whole, whole), 'x', (1.25, 1.25))


def test_heads_and_banks_see_patches_of_the_region_alone():
  grid, images = (4, 5), 6
  region = np.repeat(np.repeat(np.eye(4, 5, dtype=bool), 8, 0), 8, 1)
  shown = np.flatnonzero(np.eye(4, 5))
  # Features are the numbers of patches.
  level = np.tile(np.arange(20.0).reshape(1, *grid, 1), (images, 1, 1, 1))
  key, rows = jax.random.key_data(jax.random.key(0)), np.arange(images)
  for lane, expected in enumerate((shown, np.arange(20))):
    among = [one[lane] for one in lanes.places([region, None], grid)]
    drawn = lanes.draw_patches(
      Levels.of([jax.numpy.asarray(level)]), rows, key, 99, among
    )
    assert set(np.unique(drawn)) == set(expected)

  class Inputs:
    name, train, roi = 'part', range(images), region

  config = make_config('', '')
  patches, of = neighbours._draw(
    config, Inputs, 12, grid, lambda _: [(0, level)]
  )
  assert set(patches.ravel()) <= set(shown)
  assert len(of) == 12


def test_a_run_tells_and_counts_what_it_looks_at(looked_at):
  assert not looked_at.error
  assert 'part: 35% of each image is looked at' in looked_at.told
  one, _ = looked_at.scored('part')
  assert set(one.unknown.values()) == {IGNORED}
  assert looked_at.last('part')['pixel_auroc']['mean'] is None
  detector = looked_at.detector('part')
  assert detector.roi.shape == one.size == (64, 80)
  assert detector.roi.mean() == pytest.approx(0.35)
  # What is usual is that of the region: outside, maps are as low as can be.
  every = np.stack([one.pixels(index) for index in range(6)])
  usual = np.median(detector.infer(every)[0][:, detector.roi])
  assert detector.card.usual[0] == pytest.approx(usual, abs=1e-3)
  path = looked_at.work / 'report/part.json'
  images = json.loads(path.read_text())['images']
  paths = [sample.path for sample in one.category.test]
  for found, row in zip(detector.predict(paths), images, strict=True):
    assert found.score == pytest.approx(row['score'], abs=1e-3)


def test_another_region_is_another_run(looked_at, tmp_path):
  config = looked_at.config.copy_and_resolve_references()
  config.data.roi = draw(tmp_path / 'left.png', ~RIGHT)
  again = run(config, looked_at.work)
  assert 'region of interest of part was' in again.error
  # Where the drawing lies does not matter.
  config.data.roi = draw(tmp_path / 'right.png')
  assert not run(config, looked_at.work).error


def test_what_lies_outside_does_not_raise_scores():
  detector = detectors.make()
  height, width = detector.size
  pixels = np.random.default_rng(0).integers(
    0, 256, (3, height, width, 3), np.uint8
  )
  maps, scores = detector.infer(pixels)
  region = np.zeros((height, width), bool)
  region[:, width // 2 :] = True
  detector.roi = region
  np.testing.assert_array_equal(detector.roi, region)
  inside, lower = detector.infer(pixels)
  assert (lower <= scores + 1e-6).all()
  assert (inside <= maps + 1e-6).all()
  assert (inside[:, ~region].max(-1) <= inside[:, region].min(-1) + 1e-6).all()
  # Exports have it, too.
  run_exported = export.run_stablehlo(export.to_stablehlo(detector))
  assert export.compare(detector, run_exported) < export.TOLERANCE
  # What is found is inside, also where all inside is beyond the limit.
  detector.pixel_threshold = float(inside.min()) - 1
  found = detector(pixels[0])
  np.testing.assert_array_equal(found.mask, region)
  assert [one.box[0] for one in found.regions] == [width // 2]
  seen = dataclasses.replace(found, roi=None).picture()
  assert found.picture() != seen  # What is not looked at is hatched.
  detector.roi = None
  np.testing.assert_array_equal(detector.infer(pixels)[0], maps)
  with pytest.raises(ValueError, match=r'expected bool\[height, width\]'):
    detector.roi = np.ones((height, width))


def test_a_region_that_grows_ends_the_promise(caplog):
  detector = detectors.make()
  pixels = np.random.default_rng(0).integers(
    0, 256, (9, *detector.size, 3), np.uint8
  )
  region = np.zeros(detector.size, bool)
  region[:, detector.size[1] // 2 :] = True
  detector.calibrate(pixels, 0.2)
  detector.roi = np.ones(detector.size, bool)  # As before.
  assert detector(pixels[0]).p_value
  detector.roi = region  # Less than all.
  assert detector.thresholds.guaranteed_rate == pytest.approx(0.2)
  # Scores are lower by it, which is no change of the line.
  assert detector(pixels[0]).p_value is None
  detector.roi = ~region
  assert detector.thresholds.guaranteed_rate is detector.thresholds.bound
  assert not detector.thresholds.good
  assert 'nothing is promised' in caplog.text
  with pytest.raises(ValueError, match='keeps no scores'):
    detector.calibrate(pixels, 0.2, append=True)


def test_without_a_region_nothing_is_computed():
  values = np.ones((2, 4, 5), np.float32)
  assert simplenet.inside(values, None) is values


def test_figures_count_the_region_alone():
  rng = np.random.default_rng(0)
  masks = np.zeros((6, 20, 30), bool)
  masks[3:, 4:9, 12:20] = masks[4:, 12:15, 12:16] = True
  maps = rng.normal(size=masks.shape).astype(np.float32) + masks
  region = np.zeros((20, 30), bool)
  region[2:18, 10:24] = True
  cut = np.s_[:, 2:18, 10:24]
  expected = metrics.pixel_metrics(masks[cut], maps[cut])
  assert metrics.pixel_metrics(masks, maps, region) == pytest.approx(expected)
  kinds, known = np.full(6, 'dent'), np.ones(6, bool)
  test = TestSet(
    masks.any((1, 2)), kinds, known, masks, (20, 30), 0.0, roi=region
  )
  ranked = Scored(cast(Any, None), test, maps.max((1, 2)), maps).ranked()
  assert ranked
  assert ranked.aupro(0.3) == pytest.approx(expected['aupro_30'])
  # A defect of the whole region has the good images to be compared with.
  masks[3:] = region
  scores = maps[:, ::5, ::5]
  kind = dataclasses.replace(test, smoothing=1.0).evaluate_defects(scores)
  assert 0 <= kind['dent']['aupro_30'] <= 1
  assert np.isnan(
    metrics.pixel_metrics(masks[3:], maps[3:], region)['aupro_30']
  )


def test_commands_take_a_region(looked_at, tmp_path):
  part = looked_at.work.parent / 'data/part'
  found = tmp_path / 'found'
  detector = f'--detector={looked_at.work}/detectors/part'
  whole = f'--roi={draw(tmp_path / "all.png", np.ones(SIZE, bool))}'
  given = [detector, f'--input={part}/test/good']
  done = commands.run('predict', *given, whole, f'--output={found}')
  assert not done.status, done.errors
  written = tmp_path / 'whole.safetensors'
  done = commands.run('calibrate', *given, whole, f'--output={written}')
  assert not done.status, done.errors
  assert Detector.load(written).roi.all()
  wrong = '--roi=no.png', f'--output={tmp_path}/other'
  done = commands.run('predict', *given, *wrong)
  assert done.status
  assert 'no.png: no such file (--roi)' in done.errors
