"""Files of PyTorch, read by PyTorch without running what is in them."""

from pathlib import Path
from typing import Any


def read(path: Path) -> dict[str, Any]:
  """Reads a file of tensors.

  Args:
    path: A `.pth` or `.pt` file.

  Returns:
    NumPy arrays by name; where the file has dictionaries in dictionaries so has
    this, and what is no tensor is as it is. bfloat16, which NumPy does not
    know, becomes float32.

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
    return (value.float() if value.is_floating_point() else value).numpy()

  found = convert(torch.load(path, map_location='cpu', weights_only=True))
  if not isinstance(found, dict):
    raise TypeError('holds no named tensors')
  return found
