"""A trained detector: make it, load it, show it images, share it."""

import dataclasses
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import huggingface_hub as hf
import jax
import numpy as np
from absl import logging

from simplenet_jax import environment
from simplenet_jax.config import check_config, load_config
from simplenet_jax.data import loading
from simplenet_jax.data import roi as region
from simplenet_jax.data.frame import text
from simplenet_jax.detection import file, thresholds
from simplenet_jax.detection.predictor import Predictor
from simplenet_jax.detection.thresholds import Prediction as Prediction
from simplenet_jax.fields import PRECISIONS
from simplenet_jax.files import ASSETS, read_json, write_text
from simplenet_jax.models import simplenet

# What a repository of the Hugging Face hub holds.
_ON_HUB, _MODEL_CARD = 'model.safetensors', 'README.md'


class Detector(Predictor):
  """Scores images of one category; `card` says what it is and where from.

  >>> detector = Detector.load('runs/parts/detectors/parts')
  >>> found = detector('part.png')
  >>> found
  <Prediction part.png: NOT OK 5.01 (limit 2.44), 1 region>
  >>> [region.box for region in found.regions]  # x, y, width, height
  [(812, 300, 96, 41)]
  """

  __slots__ = ('_layout', '_placed', 'weights', 'workdir')
  card: file.Card  # pyright: ignore[reportIncompatibleVariableOverride]

  def __init__(
    self,
    card: file.Card,
    weights: Mapping[str, np.ndarray],
    *,
    precision: str = 'float32',
    batch_size: int = 64,
  ):
    """Prepares; weights go to the default device with the first images.

    The weights are folded, float32, on the host. `precision` is 'float32',
    'tensorfloat32' (float32 on CPUs) or 'bfloat16'. At most `batch_size` images
    are computed at a time; on CPUs one, which is faster, except in bfloat16.
    """
    if precision not in PRECISIONS:
      known = ', '.join(PRECISIONS)
      raise ValueError(f'precision is {precision!r}; choose one of {known}')
    # CPUs gain nothing by bfloat16; there it shows what it does elsewhere.
    self._layout = simplenet.layout_for(jax.default_backend(), precision)
    alone = self._layout == 'winograd'
    super().__init__(card, 'float32' if alone else precision, batch_size)
    self.weights, self.batch_size = weights, 1 if alone else batch_size
    self._placed: dict[str, Any] | None = None  # Weights, on the device.
    self.workdir: Path | None = None  # Of the run that it was read from.

  @classmethod
  def train(
    cls,
    root: str | Path,
    *,
    config: str = 'folder',
    workdir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
  ) -> Self:
    """Trains on a folder of good images of one category: `simplenet train`.

    Settings are as in `{'data.resize': 224}`. Results go to `workdir`, by
    default `runs/<config>-<time>`; `results` has the figures. An interrupted
    run raises `console.Stopped`, and goes on with the same `workdir`.
    """
    # Two are from above, as tests/test_house.py knows; judging needs none.
    from simplenet_jax import cli
    from simplenet_jax.data import dataset
    from simplenet_jax.train import train_and_evaluate

    given = load_config(config)
    own = {**(settings or {}), 'data.root': str(root)}
    given.update_from_flattened_dict(own)
    check_config(given)
    if not given.detector.save:
      raise ValueError('detector.save is False: there would be no detector')
    names = [one.name for one in dataset.find(given.data)[1].categories]
    if len(names) > 1:
      raise ValueError(
        f'{root} holds several categories: {", ".join(names)}; choose one by '
        'the setting data.categories, or train all by simplenet train'
      )
    with cli.workdir(workdir and str(workdir), given.name) as folder:
      train_and_evaluate(given, folder)
      return cls.load(file.path_in(folder, *names))

  @classmethod
  def load(cls, path: str | Path, **options: Any) -> Self:
    """Reads a detector from a file, whose `.safetensors` may be left out.

    Takes `Detector`'s `precision` and `batch_size`; warns of its cautions.
    """
    path = Path(path).expanduser()
    card, weights = file.load(path)
    for caution in card.cautions:
      logging.warning('%s: %s', path, caution)
    detector = cls(card, weights, **options)
    workdir = path.absolute().parent.parent
    if file.path_in(workdir, card.name) == file.with_suffix(path.absolute()):
      detector.workdir = workdir
    return detector

  def save(self, path: str | Path) -> None:
    """Writes the detector to a file; appends `.safetensors` if missing."""
    file.save(Path(path), self.card, self.weights)

  @classmethod
  def from_pretrained(
    cls,
    name: str | Path,
    revision: str | None = None,
    token: str | bool | None = None,
    **options: Any,
  ) -> Self:
    """Loads `user/name` of the Hugging Face hub, or a folder; see `load`.

    `revision` is a branch, a tag or a commit, `token` by default the login's.
    """
    if (folder := Path(name).expanduser()).is_dir():
      return cls.load(folder / _ON_HUB, **options)
    wanted = {'revision': revision, 'token': token}
    return cls.load(hf.hf_hub_download(f'{name}', _ON_HUB, **wanted), **options)

  def save_pretrained(self, folder: str | Path, repository: str = '') -> None:
    """Writes the detector and, where there is none, a model card.

    The card is made from the run; its licence is left to you.
    """
    folder = Path(folder).expanduser()
    self.save(folder / _ON_HUB)
    if (path := folder / _MODEL_CARD).exists():
      return
    import jinja2  # Detectors that judge need none.

    plain = jinja2.Environment(trim_blocks=True)  # noqa: S701 - no HTML.
    template = plain.from_string((ASSETS / 'model_card.md').read_text())
    known = {'card': self.card, 'run': self.results}
    known['limits'] = thresholds.describe(self.card.thresholds)
    text = template.render(known, name=repository or folder.name)
    write_text(path, text)

  def push_to_hub(
    self,
    repository: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    commit_message: str = 'Upload detector',
  ) -> str:
    """Uploads detector and model card to the Hugging Face hub, `user/name`.

    Makes repository and branch (`revision`) if missing; a model card that is
    there stays. Returns the commit's address. A public repository that is to be
    `private` is a ValueError.
    """
    api = hf.HfApi(token=token)
    name = api.create_repo(repository, private=private, exist_ok=True).repo_id
    if private and not api.model_info(name).private:
      told = 'is public; nothing was uploaded: make it private'
      raise ValueError(f'{name} {told}')
    if revision:
      api.create_branch(name, branch=revision, exist_ok=True)
    kept = api.file_exists(name, _MODEL_CARD, revision=revision)
    with tempfile.TemporaryDirectory() as folder:
      self.save_pretrained(folder, name)
      return api.upload_folder(
        repo_id=name,
        folder_path=folder,
        commit_message=commit_message,
        revision=revision,
        ignore_patterns=[_MODEL_CARD] if kept else None,
      ).commit_url

  @property
  def results(self) -> dict[str, Any] | None:
    """What `results.json` of its run holds; None of a detector on its own."""
    path = self.workdir and self.workdir / 'results.json'
    return read_json(path) if path and path.is_file() else None

  @property
  def roi(self) -> np.ndarray | None:
    """Where images are looked at, bool `[*size]`; None: everywhere.

    It is set by bool `[height, width]` of an image's own pixels. Outside, maps
    are as low as anywhere inside. Looking at less raises no score: a threshold
    keeps its promise, and `calibrate` makes it tighter. Looking at more than
    the region before ends the promise. Another region has no p-values until
    it is calibrated.
    """
    found = self.weights.get('roi')
    return None if found is None else found > 0.5

  @roi.setter
  def roi(self, value: np.ndarray | None) -> None:
    weights = {n: one for n, one in self.weights.items() if n != 'roi'}
    everywhere, limits = np.ones(self.size, bool), self.card.thresholds
    before, found = everywhere if self.roi is None else self.roi, everywhere
    if value is not None:
      value = np.asarray(value)
      if value.dtype != bool or value.ndim != 2:
        raise ValueError(
          f'roi is {value.dtype}{list(value.shape)}, expected bool[height, '
          'width] of an image'
        )
      known, ratio = self.card.appearance, self.size[1] / self.size[0]
      aspect = known.aspect if known else (ratio, ratio)
      frame = self.card.frame(value.shape)
      found = region.to_input(value, frame, 'roi', aspect)
      weights['roi'] = found.astype(np.float32)
    self.weights, self._placed = weights, None
    if (found == before).all() or limits.image is None:
      return
    limits = dataclasses.replace(limits, good=())  # They score otherwise now.
    if (found & ~before).any():
      told = {'guaranteed_rate': None, 'target_rate': None, 'folds': 0}
      limits = dataclasses.replace(limits, **told)
      logging.warning(
        'the region looks at more than the one before, which the threshold '
        'comes from: nothing is promised; see simplenet calibrate'
      )
    self.card = self.card.judging_by(limits)

  @property
  def device(self) -> str:
    """The kind of device that computes."""
    weight = next(iter(self._on_device.values()))
    return next(iter(weight.devices())).device_kind

  @property
  def _on_device(self) -> dict[str, Any]:
    """The weights as the network takes them, there with the first images."""
    if (placed := self._placed) is None:
      prepared = simplenet.prepare(
        self.card.network, self.weights, self.precision, self._layout
      )
      self._placed = placed = jax.device_put(prepared)
    return placed

  def _computed(
    self, batches: Iterable[tuple[Any, np.ndarray]], under_way: int = 2
  ) -> Iterator[tuple[Any, np.ndarray, np.ndarray, float]]:
    def begun():
      for name, pixels in batches:
        start, count = time.perf_counter(), len(pixels)
        # Padded to powers of two, so that other numbers compile nothing.
        bucket = min(1 << (count - 1).bit_length(), self.batch_size)
        if count < bucket:
          pixels = np.pad(pixels, [(0, bucket - count), *[(0, 0)] * 3])
        values = simplenet.run(
          self.card.network, self._on_device, pixels, self.precision
        )
        for value in values:
          value.copy_to_host_async()
        yield name, count, time.perf_counter() - start, values

    try:
      # The last of `under_way` is asked for before the first one is read.
      for name, count, spent, values in loading.late(begun(), under_way - 1):
        start = time.perf_counter()
        maps, scores = (np.asarray(value)[:count] for value in values)
        yield name, maps, scores, (spent + time.perf_counter() - start) / count
    except RuntimeError as error:
      if not environment.is_out_of_memory(error):
        raise
      raise MemoryError(
        f'the device is out of memory with {self.batch_size} images of '
        f'{text(self.size)} at a time; lower --batch_size (of a run: '
        '--config.backbone.batch_size), or stop what else uses the device'
      ) from None
