"""Detectors as programs use them: images in, predictions out."""

import jax
import numpy as np
import pytest
from PIL import Image

from simplenet_jax.detector import Detector
from tests import commands
from tests.detection import detectors

SIZE = (32, 40)
CROP = 32  # Of images resized to 40.


@pytest.fixture(scope='module')
def detector():
  """Of one level only, as it is compiled for many kinds of batches."""
  return detectors.make(heads=2, levels=(1,))


@pytest.fixture(scope='module')
def cropping():
  return detectors.make(crop=CROP, thresholds=True)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('images') / 'line'
  detectors.pictures(folder)
  return folder


def another(detector, **options):
  """The same detector, computed in another manner or to be changed."""
  return Detector(detector.card, detector.weights, **options)


def assert_equal(found, expected, tolerance=1e-6):
  for one, other in zip(found, expected, strict=True):
    assert one.score == pytest.approx(other.score, abs=tolerance)
    np.testing.assert_allclose(
      one.input_map, other.input_map, rtol=tolerance, atol=1e-6
    )


def test_a_folder_and_paths_are_named_by_their_paths(detector, folder):
  paths = sorted(folder.iterdir())
  line = list(detector.predict(folder))
  assert len({p.score for p in line}) == len(paths) == 6
  for given in (str(folder), folder.parent, paths, map(str, paths)):
    found = list(detector.predict(given))
    assert [p.source for p in found] == paths
    assert_equal(found, line)
  (found,) = detector.predict(paths[3])
  assert found.source == paths[3]
  assert_equal([found], line[3:4])


def test_nothing_gives_nothing(detector, tmp_path):
  assert list(detector.predict([])) == []
  assert list(detector.predict(np.zeros((0, 9, 9, 3), np.uint8))) == []
  with pytest.raises(FileNotFoundError, match='no images'):
    next(detector.predict(tmp_path))


def test_one_image_in_one_result_out(cropping, folder):
  pixels = next(detectors.arrays(1))
  (expected,) = cropping.predict(pixels)
  for image in (pixels, Image.fromarray(pixels), folder / '0.png'):
    found = cropping(image)
    assert found.score == expected.score
    assert found.regions == expected.regions
  assert repr(cropping(str(folder / '0.png'))).startswith('<Prediction 0.png: ')
  assert cropping(pixels[..., ::-1], channels='bgr').score == expected.score
  for several in ([pixels] * 3, np.stack([pixels] * 2), folder, []):
    with pytest.raises(ValueError, match=r'takes one image; .*predict'):
      cropping(several)
  with pytest.raises(
    AttributeError, match=r"'score'.* detector\(image\).score"
  ):
    cropping.predict(pixels).score  # noqa: B018


def test_thresholds_are_set_and_misspelt_names_refused(cropping):
  mine = another(cropping)
  found, before = mine(np.zeros((50, 50, 3), np.uint8)), mine.thresholds
  mine.threshold, mine.pixel_threshold = found.score - 0.5, np.float32(-1e9)
  assert mine.thresholds.manual == ('image', 'pixel')
  now = mine(np.zeros((50, 50, 3), np.uint8))
  assert now.anomalous and now.mask[25, 25]
  assert len(now.regions) == 1
  assert repr(mine).endswith(f'input 32 x 32, threshold {mine.threshold:.4g}>')
  mine.threshold = mine.pixel_threshold = None
  now = mine(np.zeros((50, 50, 3), np.uint8))
  assert (now.anomalous, now.mask, now.regions) == (None, None, None)
  assert 'no threshold' in repr(mine)
  for wrong in ('2', float('nan'), np.inf):
    with pytest.raises(ValueError, match='expected a finite number or None'):
      mine.threshold = wrong
  with pytest.raises(ValueError, match=r'a number is set as detector\.thres'):
    mine.thresholds = 5
  with pytest.raises(AttributeError, match='thresholdz'):
    mine.thresholdz = 5
  assert before.manual == ()
  assert found.thresholds == before


def test_the_package_is_imported_without_jax():
  code = (
    'import sys, simplenet_jax; assert "Detector" in dir(simplenet_jax); '
    'assert "jax" not in sys.modules; from simplenet_jax import Detector; '
    'assert Detector.__module__ == "simplenet_jax.detector"; '
    'simplenet_jax.Detektor'
  )
  done = commands.python('-c', code)
  assert "module 'simplenet_jax' has no attribute 'Detektor'" in done.stderr


def test_pixels_of_the_inputs_size_need_no_reading(detector):
  pixels = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), np.uint8)
  for count in (0, 3):
    maps, scores = detector.infer(pixels[:count])
    assert maps.dtype == scores.dtype == np.float32
    assert (maps.shape, scores.shape) == ((count, *SIZE), (count,))
  for found, grid, score in zip(
    detector.predict(pixels), maps, scores, strict=True
  ):
    np.testing.assert_allclose(found.input_map, grid, atol=1e-6)
    assert found.score == pytest.approx(score, abs=1e-6)


def test_bgr_is_rgb_exchanged(detector, folder):
  pixels = list(detectors.arrays(3))
  expected = list(detector.predict(pixels))
  exchanged = [image[..., ::-1] for image in pixels]
  pil = [Image.fromarray(image) for image in exchanged]
  for given in (exchanged, pil):
    assert_equal(detector.predict(given, channels='bgr'), expected)
  path = folder / '0.png'
  (found,) = detector.predict(path, channels='bgr')
  (right,) = detector.predict(np.asarray(Image.open(path))[..., ::-1].copy())
  assert found.score == right.score
  changed = another(detector).calibrate(exchanged, channels='bgr')
  assert changed.thresholds == another(detector).calibrate(pixels).thresholds


def test_a_thumbnail_is_kept_where_it_is_wanted(detector):
  pixels = np.full((400, 100, 3), (9, 80, 200), np.uint8)
  (small,) = detector.predict(pixels, thumbnail=60)
  assert small.thumbnail.size == (15, 60)
  assert np.asarray(small.thumbnail)[7, 7].tolist() == [9, 80, 200]


def test_a_prediction_draws_the_photograph_that_it_is_of(cropping, tmp_path):
  frame, path = np.array(next(detectors.arrays())), tmp_path / 'part.png'
  image = Image.fromarray(frame)
  image.save(path)
  expected = np.asarray(image.resize((512, 394), Image.Resampling.BICUBIC))
  found = [*cropping.predict([path, frame, image])]
  found += cropping.predict(frame[..., ::-1], channels='bgr')
  found += cropping.predict(frame, thumbnail=60)
  for one in found:
    one.save(tmp_path / 'found.png')
    pixels = np.asarray(Image.open(tmp_path / 'found.png'))
    assert (pixels[:, 10:522] == expected[0]).all((1, 2)).any()
  # Files go, and a camera fills its frame again: no other one is drawn.
  path.unlink()
  frame[:] = 9
  with pytest.raises(FileNotFoundError, match=r'part\.png: no such file'):
    found[0].save(tmp_path / 'found.png')
  for one in (found[1], found[3]):
    with pytest.raises(ValueError, match='another image now than the one that'):
      one.picture()
  assert found[4].picture().width == 532  # A thumbnail is a copy.


def test_a_saved_detector_is_the_same(cropping, folder, tmp_path):
  calibrated = another(cropping).calibrate(folder, 0.3)
  assert calibrated.thresholds.limiting_images
  calibrated.save(tmp_path / 'part.v2')
  loaded = Detector.load(tmp_path / 'part.v2')
  assert loaded.card == calibrated.card
  assert loaded.size == (CROP, CROP)
  assert loaded.card.heads == 1
  assert loaded.device == jax.devices()[0].device_kind
  expected = list(calibrated.predict(folder))
  for one, other in zip(loaded.predict(folder), expected, strict=True):
    assert one.score == other.score
    assert one.anomalous == other.anomalous
    np.testing.assert_array_equal(one.mask, other.mask)
  half = Detector.load(tmp_path / 'part.v2', precision='bfloat16')
  assert half.precision == 'bfloat16'


def test_a_larger_input_is_tiles_without_seams():
  """Away from its borders a tile looks as it does in the whole image."""
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (224, 576, 3), np.uint8)
  left, width, seen = 64, 448, 160  # No patch sees farther than that.
  whole, _ = detectors.make(size=image.shape[:2]).infer(image[None])
  tile = image[:, left : left + width]
  alone, _ = detectors.make(size=tile.shape[:2]).infer(tile[None])
  expected = whole[0, :, left : left + width]
  inside, span = np.s_[:, seen : width - seen], np.ptp(whole)
  np.testing.assert_allclose(
    alone[0][inside], expected[inside], atol=1e-5 * span
  )
  # The tile's borders are another matter.
  assert np.abs(alone[0] - expected).max() > 1e-2 * span


def test_wrong_pixels_and_options_are_refused(detector):
  wrong = np.zeros((1, *SIZE, 3), 'f'), np.zeros((1, 40, 32, 3), np.uint8)
  for pixels in wrong:
    with pytest.raises(ValueError, match=r'expected uint8\[images, 32, 40, 3'):
      detector.infer(pixels)
  with pytest.raises(ValueError, match="precision is 'half'; choose one of fl"):
    another(detector, precision='half')
  with pytest.raises(ValueError, match='batch_size is 0, expected at least 1'):
    another(detector, batch_size=0)
  with pytest.raises(ValueError, match='lookahead is -1, expected at least 0'):
    detector.predict([], lookahead=-1)
  with pytest.raises(ValueError, match="channels is 'gbr', expected 'rgb' or"):
    detector.predict([], channels='gbr')
