"""Packaging: what judges images is taken from simplenet_jax beside it."""

import pathlib
import re
import shutil

import setuptools
from setuptools.command import build_py

HERE = pathlib.Path(__file__).parent
PACKAGE = HERE.parent / 'simplenet_jax'
# The files of simplenet_jax that judge images and load no jax.
SHARED = (
  *('console.py', 'files.py', 'pictures.py'),
  'assets/names.json',
  *(
    f'data/{name}.py'
    for name in (
      *('__init__', 'category', 'decoding', 'files', 'folder', 'frame'),
      *('images', 'loading', 'tree'),
    )
  ),
  *(
    f'detection/{name}.py'
    for name in (
      *('__init__', 'calibration', 'card', 'drift', 'engines', 'inputs'),
      *('output', 'predictor', 'regions', 'thresholds'),
    )
  ),
  'models/__init__.py',
)


class BuildPy(build_py.build_py):
  """Places the shared files below simplenet_runtime, under its name."""

  def run(self):
    """Builds; in a checkout the runtime's own modules import simplenet_jax."""
    target = pathlib.Path(self.build_lib, 'simplenet_runtime')
    shutil.rmtree(target, ignore_errors=True)  # What an earlier build left.
    super().run()
    own = HERE / 'simplenet_runtime'
    texts = {name: PACKAGE / name for name in SHARED}
    texts |= {path.name: path for path in own.glob('*.py')}
    texts['LICENSE'] = HERE.parent / 'LICENSE'
    for name, source in texts.items():
      path = target / name
      path.parent.mkdir(parents=True, exist_ok=True)
      text = source.read_text('utf-8')
      text = text.replace('from simplenet_jax', 'from simplenet_runtime')
      path.write_text(text, 'utf-8')


if not PACKAGE.is_dir():
  raise SystemExit(
    f'{PACKAGE}: no such folder; build simplenet-runtime in a checkout of '
    'simplenet-jax: pip wheel ./runtime'
  )
VERSION = re.search(
  r"__version__ = '(.+)'", (PACKAGE / '__init__.py').read_text('utf-8')
)
assert VERSION

setuptools.setup(
  name='simplenet-runtime',
  version=VERSION[1],
  description='Runs detectors that simplenet-jax has exported, without jax',
  long_description=(HERE / 'README.md').read_text('utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=['simplenet_runtime'],
  cmdclass={'build_py': BuildPy},
  entry_points={
    'console_scripts': ['simplenet-runtime = simplenet_runtime.__main__:main']
  },
  install_requires=[
    'absl-py>=2.1',
    'contourpy>=1.3',
    'numpy>=2.0',
    'onnxruntime>=1.24.1',
    'pillow>=11.0',
    'rich>=14.3',
    'scipy>=1.14',
  ],
  extras_require={'openvino': ['openvino>=2025.2']},
)
