import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simplenet_jax.models import resampling


@settings(max_examples=50, deadline=None)
@given(inputs=st.integers(1, 60), outputs=st.integers(1, 120))
def test_bilinear_matrix_matches_torch(inputs, outputs):
  identity = torch.eye(inputs, dtype=torch.float64)[None]
  expected = torch.nn.functional.interpolate(
    identity, outputs, mode='linear', align_corners=False
  )[0].T
  matrix = resampling.bilinear_matrix(inputs, outputs)
  np.testing.assert_allclose(matrix, expected.numpy(), atol=1e-12)
