"""The processes of a run, on one machine or many.

Devices share nothing while they train, so processes need only a few words with
each other: at the start, as heads end, when one is asked to stop, and with the
results. They go through the key-value store that JAX's distributed runtime
keeps in process 0; that runtime also notices who is gone.
"""

import collections
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
from absl import logging
from jax._src import distributed  # Its client is in no public module.

from simplenet_jax.console import console, counted
from simplenet_jax.stop import Stop, Stopped

_PERIOD = 1.0  # Seconds between looks at the others.
_SILENCE = 15  # Seconds without a sign of life until a process is gone.
_PATIENCE = 300  # Seconds to wait for all to come.


class Cluster:
  """A run of one process; `Joined` is one of several.

  Attributes:
    index: Of this process, from 0. Process 0 speaks for the run.
    count: How many there are.
    neighbours: How many share this machine, this one included.
  """

  index, count, neighbours = 0, 1, 1

  def exchange(self, value: Any) -> list[Any]:
    """Returns what every process gives, by index, once all have given theirs.

    All processes exchange in the same order.

    Args:
      value: Of JSON's types.

    Raises:
      ValueError: If a process has given up or is gone.
      Stopped: If the run is to stop.
    """
    return [value]

  def heed(self, stop: Stop) -> None:
    """Has `stop` set when another process is told to stop, fails or is gone."""

  def check(self) -> None:
    """Raises ValueError if another process has given up or is gone."""

  def tell(self, topic: str, key: str, value: Any) -> None:
    """Tells all processes something; `told` returns it."""

  def told(self, topic: str) -> dict[str, Any]:
    """Returns what all processes have told of a topic so far, by key."""
    return {}


ALONE = Cluster()


class Joined(Cluster):
  """One of several processes; made by `joined`."""

  def __init__(self):
    """Takes the place that JAX's distributed runtime gave to this process."""
    self.index, self.count = jax.process_index(), jax.process_count()
    self._client: Any = distributed.global_state.client
    self._everyone = list(range(self.count))
    self._exchanges = 0
    self._stop, self._passed_on = Stop(), False
    self._gone: set[int] = set()
    self._left: dict[int, str] = {}
    self._leaving = threading.Event()
    self._watcher = threading.Thread(
      target=self._watch, name='cluster', daemon=True
    )
    self._watcher.start()
    machines = self.exchange(socket.gethostname())
    self.neighbours = collections.Counter(machines)[machines[self.index]]

  def exchange(self, value: Any) -> list[Any]:
    """Waits until all have given theirs."""
    self._exchanges += 1
    topic = f'exchange {self._exchanges}'
    self.tell(topic, str(self.index), value)
    return [self._value(f'{topic}/{index}') for index in self._everyone]

  def heed(self, stop: Stop) -> None:
    """From now on `stop` speaks for this process, too."""
    self._stop = stop

  def check(self) -> None:
    """Names the first that is gone or gave up."""
    for index in sorted(self._gone):
      raise ValueError(
        f'process {index} of {self.count} is gone; what was trained is saved, '
        'the same command goes on'
      )
    for index, reason in sorted(self._left.items()):
      if reason and index != self.index:
        raise ValueError(f'process {index} of {self.count} ended: {reason}')

  def tell(self, topic: str, key: str, value: Any) -> None:
    """Writes to the store; once for a topic and key."""
    self._client.key_value_set(f'{topic}/{key}', json.dumps(value))

  def told(self, topic: str) -> dict[str, Any]:
    """Reads from the store."""
    found = self._client.key_value_dir_get(f'{topic}/')
    return {
      key.removeprefix(f'{topic}/'): json.loads(text) for key, text in found
    }

  def leave(self, reason: str) -> None:
    """Waits until no process has anything left to save, and ends.

    Whoever started them may end them all as soon as one is gone.

    Args:
      reason: Why this process has given up; empty if it has not.
    """
    self._pass_on()
    self.tell('left', str(self.index), reason)
    while len(self._gone | set(self._left)) < self.count:
      time.sleep(_PERIOD / 10)
    self._leaving.set()
    self._watcher.join()
    if self.index == 0:
      # The others are still to disconnect.
      while len(self._client.get_live_nodes(self._everyone)) > 1:
        time.sleep(_PERIOD / 10)
    jax.distributed.shutdown()

  def _pass_on(self) -> None:
    if self._stop.signal and not self._passed_on:
      self._passed_on = True
      self.tell('stop', str(self.index), self._stop.signal)

  def _value(self, key: str) -> Any:
    while True:
      try:
        text = self._client.blocking_key_value_get(key, int(1000 * _PERIOD))
        return json.loads(text)
      except jax.errors.JaxRuntimeError as error:
        if 'DEADLINE_EXCEEDED' not in str(error):
          raise
      self.check()
      if self._stop.is_set():
        raise Stopped(
          'stopped; the same command goes on', 128 + self._stop.signal
        )

  def _watch(self) -> None:
    while not self._leaving.wait(_PERIOD):
      try:
        self._look()
      except jax.errors.JaxRuntimeError as error:
        # Where it is more than a hitch, the runtime ends this process.
        logging.warning('cluster: %s', error)

  def _look(self) -> None:
    live = self._client.get_live_nodes(self._everyone)
    left = self.told('left')  # In this order: who leaves says so first.
    self._left = {int(index): reason for index, reason in left.items()}
    self._gone = set(self._everyone) - set(live) - set(self._left)
    self._pass_on()
    for signal in self.told('stop').values():
      self._stop.signal = self._stop.signal or signal
      self._stop.set()
    if self._gone or any(self._left.values()):
      self._stop.set()


@contextlib.contextmanager
def joined(
  address: str | None = None,
  count: int | None = None,
  index: int | None = None,
) -> Iterator[Cluster]:
  """Joins the other processes of a run.

  SLURM, Open MPI, Kubernetes and Cloud TPU tell JAX all that it needs to know;
  elsewhere all three arguments are given.

  Args:
    address: Where process 0 listens, as `host:port`.
    count: How many processes there are.
    index: Of this one.

  Yields:
    This process among the others.

  Raises:
    ValueError: If there is no cluster, or not all of it came.
  """
  # Each process looks after its heads, so one that is gone need not end the
  # others before they have saved theirs.
  jax.config.update('jax_enable_recoverability', True)
  # Signals have handlers of their own.
  jax.config.update('jax_enable_preemption_service', False)
  console.print(
    f'Waits for the other processes, {_PATIENCE / 60:.0f} min at most'
  )
  try:
    jax.distributed.initialize(
      address,
      count,
      index,
      cluster_detection_method=None if address is None else 'deactivate',
      initialization_timeout=_PATIENCE,
      heartbeat_timeout_seconds=_SILENCE,
    )
  except (ValueError, TypeError, RuntimeError) as error:
    reason = str(error).strip().splitlines()[0]
    raise ValueError(
      f'--multihost: no cluster was found or not all of it came ({reason}); '
      'start with one of the scripts in launch/, or give '
      '--coordinator_address, --num_processes and --process_id'
    ) from None
  cluster = Joined()
  if cluster.index == 0:
    console.print(
      f'{counted(cluster.count, "process", "processes")}, '
      f'{counted(len(jax.devices()), "device")}'
    )
  reason = ''
  try:
    yield cluster
  except Stopped:  # As all are.
    raise
  except BaseException as error:
    reason = str(error) or type(error).__name__
    raise
  finally:
    cluster.leave(reason)
