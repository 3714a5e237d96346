"""What the released code's start does to its backbone, done exactly."""

import jax.numpy as jnp
import numpy as np
from flax import nnx


def probe(graph: nnx.GraphDef, state: nnx.State) -> nnx.State:
  """Moves BatchNorm's statistics as the released code does at its start.

  To learn the features' dimensions, the released code (`common.py`,
  `feature_dimensions`) passes one image of ones through the network while it is
  still in train mode, so every running statistic takes one step of torch's
  momentum, .1, towards that image's. With padding `reflect` each of its feature
  maps is constant: its variance is 0 and its normalised value the bias. That is
  computed here, exactly; in floating point the pass itself amplifies rounding.

  Args:
    graph: From `resnet.abstract`, with padding `reflect`.
    state: The weights, NumPy or JAX leaves. Left as it is.

  Returns:
    The state with other statistics, float32.
  """
  model = nnx.merge(graph, state, copy=True)
  x = np.maximum(_probe_norm(model.conv1, model.bn1, np.ones(3)), 0)
  for block in (block for blocks in model.layers for block in blocks):
    short = block.downsample
    residual = _probe_norm(short.conv, short.bn, x) if short else x
    last = len(block.convs) - 1
    for i, (conv, bn) in enumerate(zip(block.convs, block.bns, strict=True)):
      x = _probe_norm(conv, bn, x)
      x = np.maximum(x if i < last else x + residual, 0)
  return nnx.state(model)


def _probe_norm(conv: nnx.Conv, bn: nnx.BatchNorm, x: np.ndarray) -> np.ndarray:
  """Updates one BatchNorm for a constant input `[channels]` of its `conv`."""
  found = x @ np.asarray(conv.kernel.get_value(), np.float64).sum((0, 1))
  mean = 0.9 * np.asarray(bn.mean.get_value(), np.float64) + 0.1 * found
  variance = 0.9 * np.asarray(bn.var.get_value(), np.float64)
  bn.mean.set_value(jnp.asarray(mean, jnp.float32))
  bn.var.set_value(jnp.asarray(variance, jnp.float32))
  assert bn.bias is not None
  return np.asarray(bn.bias.get_value(), np.float64)
