"""The page that `benchmarks.capacity` writes."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from simplenet_jax.files import written_aside

PAGE = pathlib.Path(__file__).parents[1] / 'docs' / 'capacity.md'

_TEXT = """# How far it goes

*Written by `python -m benchmarks.capacity`, whose flags compute it for other
sizes ([all figures](../benchmarks/results/capacity.json)).*

{categories:,} categories with {images} good and {test} test images each,
WideResNet50-2, 288 x 288, {epochs} epochs, {seeds}, bfloat16 products. With PNG
files of 1024 x 1024:

{times}

With JPEG files of that size (quality 95):

{jpeg}

A device takes its categories one after the other. While the heads of one train,
the files of the next are read and decoded, and finished ones are evaluated; so
the largest part decides. Before it begins, every process reads the sizes of all
files and compiles. Minutes of each on the busiest device, PNG files:

{parts}

**What to do.** {advice}

**Memory and storage**, in GB:

{sizes}

Pictures, curves and the report come on top. `--noconfig.detector.save` leaves
the detectors out, each of which has a backbone of its own;
`--config.bank.dtype=bfloat16` halves the features, and
`--config.bank.device_gb` bounds them.

**Where the figures come from.** Those of the GPU are bounds from above: a
step's time contains the backbone's passes of its run, the backbone's a head and
its map.

| | milliseconds | measured on |
|---|---:|---|
{costs}

Assumed and not measured: {cores} processors per device, as fast as those here;
{read:g} GB/s of storage per device and {together:g} GB/s in all.
"""

_ADVICE = {
  'heads': 'The heads decide: fewer epochs take that much less.',
  'decode': 'Decoding decides: smaller files, or JPEG, or more processors per '
  'device.',
  'storage': 'Storage decides: smaller files, copies of the images on the\n'
  'machines, no detectors.',
  'backbone': 'The backbone decides: fewer pixels.',
  'evaluation': 'Evaluation decides, which has one processor per process: more '
  'processes per machine.',
  'start': 'The start decides: keep compiled programs\n'
  '(`JAX_COMPILATION_CACHE_DIR`); every process reads the sizes of all files.',
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns a Markdown table; all columns but the first are numbers."""
  lines = [head, ['---', *['---:'] * (len(head) - 1)], *rows]
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def duration(hours: float) -> str:
  """Returns hours, or minutes where there are few."""
  return f'{hours:.1f} h' if hours >= 1 else f'{60 * hours:.1f} min'


def times(spent: Sequence[Mapping[str, Any]]) -> str:
  """Returns the table of times."""
  return table(
    ('devices', 'time', 'of it busy by the plan', 'bottleneck'),
    [
      (
        str(one['devices']),
        duration(one['hours']),
        f'{one["efficiency"]:.0%}',
        one['bottleneck'],
      )
      for one in spent
    ],
  )


def render(result: Mapping[str, Any]) -> str:
  """Returns the page.

  Args:
    result: What `benchmarks/results/capacity.json` holds.
  """
  work, runs = result['work'], result['runs']
  png, jpeg = runs['PNG'], runs['JPEG']
  parts = list(png['spent'][0]['hours_of'])
  deciding = dict.fromkeys(
    one['bottleneck'] for run in (png, jpeg) for one in run['spent']
  )
  here = f'{result["device"]["host"]}, one processor'
  gpu = 'one NVIDIA H200'
  costs = [
    ('a step of a head, everything included', png['costs']['step'], gpu),
    ('the backbone, an image', png['costs']['backbone'], gpu),
    ('compilation, with a first epoch', png['costs']['start'], gpu),
    ("reading a PNG file's size", png['costs']['header'], here),
    ('decoding a PNG file', png['costs']['decode'], here),
    ('decoding a JPEG file', jpeg['costs']['decode'], here),
    ('the metrics of 100 maps', png['costs']['evaluate'], here),
    ('writing a finished head', png['costs']['write'], here),
    ('writing a detector', png['costs']['ship'], here),
  ]
  seeds = work['seeds']
  return _TEXT.format(
    **{key: work[key] for key in ('categories', 'images', 'test', 'epochs')},
    seeds='one seed' if seeds == 1 else f'{seeds} seeds',
    times=times(png['spent']),
    jpeg=times(jpeg['spent']),
    parts=table(
      ('devices', *parts),
      [
        (
          str(one['devices']),
          *(f'{60 * one["hours_of"][part]:.2f}' for part in parts),
        )
        for one in png['spent']
      ],
    ),
    advice='\n'.join(_ADVICE[part] for part in deciding),
    sizes=table(
      ('', 'GB'), [(k, f'{v:,.2f}') for k, v in png['gigabytes'].items()]
    ),
    costs='\n'.join(
      f'| {what} | {1e3 * seconds:,.2f} | {where} |'
      for what, seconds, where in costs
    ),
    cores=work['cores'],
    read=work['read'] / 1e9,
    together=work['together'] / 1e9,
  )


def write(result: Mapping[str, Any]) -> None:
  """Writes the page."""
  with written_aside(PAGE) as aside:
    aside.write_text(render(result), encoding='utf-8')
