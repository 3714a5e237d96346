"""Files of PyTorch, read by PyTorch without running what is in them."""

from pathlib import Path
from typing import Any

import ml_dtypes


def read(path: Path, exact: bool = False) -> dict[str, Any]:
  """Reads a file of tensors.

  Args:
    path: A `.pth` or `.pt` file.
    exact: Whether tensors keep their types; if not, floating ones become
      float32.

  Returns:
    NumPy arrays by name, bfloat16 as `ml_dtypes` has it; where the file has
    dictionaries in dictionaries so has this, and what is no tensor is as it is.

  Raises:
    ImportError: If PyTorch is not installed.
    Exception: If the file is damaged, or holds other things; of any kind.
  """
  import torch

  def convert(value: Any) -> Any:
    if isinstance(value, dict):
      return {str(name): convert(each) for name, each in value.items()}
    if not isinstance(value, torch.Tensor):
      return value
    value = value.detach()
    if exact and value.dtype == torch.bfloat16:
      bits = value.contiguous().view(torch.int16).numpy()
      return bits.view(ml_dtypes.bfloat16)
    if not exact and value.is_floating_point():
      value = value.float()
    return value.numpy()

  found = convert(torch.load(path, map_location='cpu', weights_only=True))
  if not isinstance(found, dict):
    raise TypeError('holds no named tensors')
  return found
