"""Networks and heads; here in names and numbers, without jax."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class FeatureStructure:
  """What the way from pixels to pooled features is made of."""

  architecture: str
  levels: tuple[int, ...]
  padding: str
  patch_size: int
  pretrain_dim: int
  target_dim: int


@dataclasses.dataclass(frozen=True)
class Structure(FeatureStructure):
  """What a detector's network is made of, from pixels to maps and scores."""

  size: tuple[int, int]  # Of the input, in pixels.
  smoothing: float  # The maps' sigma, in pixels.
  score: str = 'patch'  # 'patch' or 'map': what an image's score is highest of.
