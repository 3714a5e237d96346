"""Weights by name, from the Hugging Face hub or its client's cache."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants, utils
from huggingface_hub.errors import LocalEntryNotFoundError

from simplenet_jax.console import console

_FILE = 'model.safetensors'


def download(repository: str, flag: str) -> Path:
  """Returns a repository's weights, downloaded once.

  The client of the hub decides: it obeys `HF_ENDPOINT`, `HF_HUB_OFFLINE`,
  `HF_HUB_CACHE` and the others of its variables, asks for a newer version where
  there is a network, and takes what its cache has where there is none.

  Args:
    repository: Owner and name.
    flag: The flag that names the repository, for error messages.

  Raises:
    FileNotFoundError: If it is neither to be had nor in the cache.
  """
  try:
    cached = huggingface_hub.try_to_load_from_cache(repository, _FILE)
    if not isinstance(cached, str) and not constants.HF_HUB_OFFLINE:
      console.print(
        f'Downloads {_FILE} of {repository} from {constants.ENDPOINT} to '
        f'{constants.HF_HUB_CACHE}'
      )
    with _quiet():
      return Path(huggingface_hub.hf_hub_download(repository, _FILE))
  # The kinds of errors depend on the HTTP library that the client is built on.
  except Exception as error:
    # 'Not in the cache either' hides what went wrong with the network.
    uncached = isinstance(error, LocalEntryNotFoundError)
    cause = (uncached and error.__cause__) or error
    raise FileNotFoundError(
      f'{repository}: cannot download {_FILE} from {constants.ENDPOINT} '
      f'({brief(cause)}); get the file elsewhere and give {flag}=PATH'
    ) from error


def brief(error: BaseException) -> str:
  """Returns an error's kind and the first line of its message."""
  lines = str(error).strip().splitlines() or ['no details']
  return f'{type(error).__name__}: {lines[0]}'


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Has the hub's client show errors only, where no variable of it is set."""
  verbosity = utils.logging.get_verbosity()
  if 'HF_HUB_VERBOSITY' not in os.environ:
    utils.logging.set_verbosity_error()
  silences = (
    constants.HF_HUB_DISABLE_PROGRESS_BARS is None
    and not utils.are_progress_bars_disabled()
  )
  if silences:
    utils.disable_progress_bars()
  try:
    yield
  finally:
    utils.logging.set_verbosity(verbosity)
    if silences:
      utils.enable_progress_bars()
