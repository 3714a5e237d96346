"""What TensorBoard shows of a run: settings, and values of heads by epoch."""

import collections
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from simplenet_jax.config import Config, flatten
from simplenet_jax.data.inputs import Inputs
from simplenet_jax.evaluation import testset
from simplenet_jax.training.job import Job, rates
from simplenet_jax.training.progress import HeadProgress


class Scalars:
  """Writes to a folder, unless `engine.tensorboard` is off."""

  def __init__(
    self, folder: Path, config: Config, categories: Sequence[Inputs]
  ):
    self._folder, self._config = folder, config
    self._categories = {one.name: one for one in categories}
    self._lock = threading.Lock()  # Devices and the evaluation write at once.
    self._writers: dict[str, Any] = {}
    self._written = collections.Counter[Job]()  # Epochs.
    self._epochs: dict[str, int] = {}  # Of a category's heads.

  def close(self) -> None:
    """Closes the files."""
    for writer in self._writers.values():
      writer.close()

  def on_steps(self, progress: HeadProgress) -> None:
    """Writes a head's new epochs: losses, rates, and AUROCs where it scored."""
    if not self._config.engine.tensorboard:
      return
    job, means = progress.job, progress.epochs()
    key = f'{job.category}/seed-{job.seed}'
    self._epochs[job.category] = job.epochs
    for at in range(self._written[job], len(means['loss'])):
      values = {name: each[at] for name, each in means.items()}
      steps = (at + 1) * job.steps_per_epoch
      (factor,) = rates(self._config, job, steps - 1, 1)
      for part in ('adaptor', 'discriminator'):
        rate = self._config.train[part].learning_rate
        values[f'learning_rate/{part}'] = rate * factor
      if (scores := progress.scores.get(at + 1)) is not None:
        one = self._categories[job.category]
        values['image_auroc'] = testset.auroc(one, scores)
      self._write(key, at + 1, values)
      self._written[job] += 1
    with self._lock:
      # A process may open some hundred files.
      if progress.finished and (writer := self._writers.pop(key, None)):
        writer.close()

  def on_result(self, name: str, found: Mapping[str, Any]) -> None:
    """Writes a category's AUROCs after its last epoch, means over its heads."""
    if name in self._epochs:
      means = {key: one['mean'] for key, one in found['last'].items()}
      values = {key: means[key] for key in ('image_auroc', 'pixel_auroc')}
      self._write(f'{name}/all', self._epochs[name], values)

  def _write(self, folder: str, epoch: int, values: Mapping[str, Any]) -> None:
    # Where PyTorch is installed this imports it, which takes seconds.
    from tensorboardX import event_file_writer, summary
    from tensorboardX.proto import event_pb2

    proto = cast(Any, event_pb2)
    with self._lock:
      if not (writer := self._writers.get(folder)):
        path = self._folder / folder / 'events'
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not SummaryWriter: a full disk ends its thread, for which it waits.
        writer = event_file_writer.EventsWriter(str(path))
        self._writers[folder] = writer
        # A run that goes on writes all of it anew: what was written before it
        # was interrupted can have gaps.
        start = proto.SessionLog(status=proto.SessionLog.START)
        writer.write_event(proto.Event(step=1, session_log=start))
        rows = [f'{name} | {x}' for name, x in flatten(self._config).items()]
        text = '\n'.join(['setting | value', '-|-', *rows])
        told = summary.text('settings', text)
        writer.write_event(proto.Event(wall_time=time.time(), summary=told))
      for name, value in values.items():
        if value is not None and value == value:  # It is defined.
          told, now = summary.scalar(name, float(value)), time.time()
          event = proto.Event(wall_time=now, step=epoch, summary=told)
          writer.write_event(event)
      writer.flush()
