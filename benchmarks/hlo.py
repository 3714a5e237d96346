"""Reads programs as XLA has optimised them: kernels, bytes and operations.

The text is what `jax.stages.Compiled.as_text` returns, of GPUs or TPUs.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Sequence

# What costs nothing, or is counted where its work is started.
_FREE = {
  *('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'iota'),
  *('after-all', 'partition-id', 'opt-barrier', 'copy-done', 'slice-done'),
  'async-done',
}
_CALLS = ('call', 'async-start', 'conditional')
# What a fusion is named after: the first of these that it holds.
_HEROES = (
  *('convolution', 'dot', 'scatter', 'dynamic-update-slice', 'gather'),
  *('reduce', 'reduce-window', 'concatenate', 'transpose', 'copy'),
)
_SLICES = ('gather', 'dynamic-slice')
_ARRAY = re.compile(r'\b([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?')
_BITS = re.compile(r'[a-z]+(\d+)')
_LINE = re.compile(
  r'\s+(?P<root>ROOT )?%(?P<name>[\w.\-]+) = (?P<type>.*?) '
  r'(?P<op>[a-z][\w\-]*)\((?P<operands>[^)]*)\)(?P<attributes>.*)'
)
_CALLED = re.compile(
  r'(?:calls|to_apply|body|branch_computations)=(?:%([\w.\-]+)|\{([^}]*)\})'
)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation."""

  name: str
  type: str  # Of what it returns, with shapes and layouts.
  op: str
  operands: tuple[str, ...]
  attributes: str

  def attribute(self, pattern: str) -> str:
    """Returns a pattern's group in the attributes, or nothing."""
    found = re.search(pattern, self.attributes)
    return found[1] if found else ''

  @property
  def called(self) -> list[str]:
    """The computations that it calls, without a loop's condition."""
    found = _CALLED.findall(self.attributes)
    return re.findall(r'[\w.\-]+', ' '.join(map(' '.join, found)))


@dataclasses.dataclass(frozen=True)
class Kernel:
  """What a device starts at a time."""

  name: str
  kind: str  # An operation of XLA's, or what library is called.
  read: int  # Bytes of memory; an operand counts once, on-chip memory does not.
  written: int
  flop: int  # Of matrix products and convolutions.
  factors: str  # The type of these: 'bf16', 'f32', or 'tf32'.
  cycles: int  # The compiler's estimate, which TPUs have.
  source: str  # Where it comes from, as JAX names it.
  times: int  # How often it runs, in loops of a known length.


def shapes(text: str) -> list[tuple[str, tuple[int, ...]]]:
  """Returns the types and dimensions of the arrays in a type."""
  found = _ARRAY.findall(text)
  return [
    (kind, tuple(map(int, n.split(',') if n else ()))) for kind, n, _ in found
  ]


def size(text: str) -> int:
  """Returns the bytes that a type takes in a device's memory."""
  total = 0
  for kind, dims, layout in _ARRAY.findall(text):
    if 'S(1)' in layout:  # A TPU's on-chip memory.
      continue
    bits = 8 if kind == 'pred' else int((_BITS.match(kind) or '00')[1])
    total += math.prod(map(int, dims.split(',') if dims else ())) * bits // 8
  return total


class Program:
  """A program's computations by their names."""

  def __init__(self, text: str):
    self.computations: dict[str, list[Instruction]] = {}
    inside: list[Instruction] = []
    for line in text.splitlines():
      if head := re.match(r'(ENTRY )?%?([\w.\-]+) \(.*\{$', line):
        inside = self.computations[head[2]] = []
        if head[1]:
          self.entry = head[2]
      elif found := _LINE.match(line):
        operands = tuple(re.findall(r'%([\w.\-]+)', found['operands']))
        fields = found['name'], found['type'], found['op']
        inside.append(Instruction(*fields, operands, found['attributes']))

  def loops(self) -> dict[str, int | None]:
    """Returns the bodies of loops; how often each runs, if that is known."""
    found = {}
    for instruction in itertools.chain(*self.computations.values()):
      if instruction.op == 'while':
        trips = instruction.attribute(r'"known_trip_count":\{"n":"(\d+)"')
        [body] = [one for one in instruction.called if one]
        found[body] = int(trips) if trips else None
    return found

  def kernels(self, computation: str, times: int = 1) -> Iterator[Kernel]:
    """Yields what a computation starts, with what it calls."""
    types: dict[str, str] = {}
    for one in self.computations[computation]:
      types[one.name] = one.type
      if one.op in _FREE:
        continue
      if one.op == 'while' or one.op in _CALLS:
        trips = one.attribute(r'"known_trip_count":\{"n":"(\d+)"')
        for name in one.called:
          yield from self.kernels(name, times * int(trips or 1))
        continue
      read, written = self._traffic(
        one, [types.get(n, '') for n in one.operands]
      )
      products = list(self._products(one, types))
      cycles = one.attribute(r'"estimated_cycles":"(\d+)"')
      yield Kernel(
        name=one.name,
        kind=self._kind(one),
        read=read,
        written=written,
        flop=sum(flop for flop, _ in products),
        factors=products[0][1] if products else '',
        cycles=int(cycles or 0),
        source=one.attribute(r'op_name="([^"]*)"'),
        times=times,
      )

  def _kind(self, one: Instruction) -> str:
    if one.op == 'custom-call':
      return one.attribute(r'custom_call_target="([^"]+)"')
    if one.op != 'fusion':
      return one.op
    ops = {inner.op for inner in self._inside(one)}
    return next((hero for hero in _HEROES if hero in ops), 'elementwise')

  def _inside(self, one: Instruction) -> Iterator[Instruction]:
    """Yields what a fusion does, with what fusions inside of it do."""
    for name in one.called:
      for inner in self.computations[name]:
        yield inner
        if inner.op == 'fusion':
          yield from self._inside(inner)

  def _traffic(self, one: Instruction, given: Sequence[str]) -> tuple[int, int]:
    """Returns the bytes that an instruction reads and writes."""
    written = size(one.type)
    if one.op == 'custom-call':
      # Libraries return the memory that they work in, too.
      work = sum(math.prod(n) for k, n in shapes(one.type) if k in ('s8', 'u8'))
      return sum(map(size, given)), written - work
    if one.op.endswith('-start'):
      return size(given[0]), size(given[0])
    if one.op != 'fusion':
      return sum(map(size, given)), written
    inner = self.computations[one.called[0]]
    read = 0
    for parameter in (each for each in inner if each.op == 'parameter'):
      read += self._read(parameter, inner)
    types = {each.name: each for each in inner}
    for each in inner:
      if each.op == 'dynamic-update-slice':  # In place.
        written -= size(each.type) - size(types[each.operands[1]].type)
    return read, max(written, 0)

  def _read(self, value: Instruction, inner: Sequence[Instruction]) -> int:
    """Returns the bytes of a fusion's parameter that it needs."""
    users = [each for each in inner if value.name in each.operands]
    whole, total = size(value.type), 0
    for user in users:
      first = user.operands[0] == value.name
      if user.op in _SLICES and first:
        total += size(user.type)
      elif user.op == 'bitcast':
        total += self._read(user, inner)
      elif not (user.op == 'dynamic-update-slice' and first):
        total += whole
    return min(whole, total)

  def _products(
    self, one: Instruction, types: dict[str, str]
  ) -> Iterator[tuple[int, str]]:
    """Yields the operations of products, and the type of their factors."""
    if one.op == 'fusion':
      for name in one.called:
        inner: dict[str, str] = {}
        for each in self.computations[name]:
          inner[each.name] = each.type
          yield from self._products(each, inner)
      return
    target = self._kind(one) if one.op == 'custom-call' else one.op
    is_dot = target == 'dot' or 'matmul' in target or 'gemm' in target
    if not (is_dot or target == 'convolution' or '$conv' in target):
      return
    (kind, left), (_, right) = (shapes(types[n])[0] for n in one.operands[:2])
    [(_, out), *_] = shapes(one.type)
    if is_dot:
      dims = one.attribute(
        r'lhs_contracting_dim(?:ension)?s"?[=:][{\[]([^}\]]*)'
      )
      flop = math.prod(left[int(n)] for n in re.findall(r'\d+', dims))
    else:
      # `b01f_o01i->b01f`: what the kernel has beside its outputs is summed.
      labels = one.attribute(r'dim_labels=\w+_(\w+)->')
      flop = math.prod(right) // right[labels.index('o')]
    if kind == 'f32' and 'highest' not in one.attributes.lower():
      kind = 'tf32'
    yield 2 * math.prod(out) * flop, kind
