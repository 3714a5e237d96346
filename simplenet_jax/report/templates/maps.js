'use strict';

// A score's colour and opacity, 256 levels of four bytes.
const TABLE = Uint8Array.from(atob(COLOURS), (one) => one.charCodeAt(0));
// Which sides of a cell a line crosses, by the corners that lie above it: 0 is
// the upper side, then on to the right; two digits are a stroke.
const STROKES = ['', '03', '01', '13', '12', '0312', '02', '23',
  '23', '02', '0123', '12', '13', '01', '03', ''];
const read = new WeakMap();

// Reads a shot's map: squares of values in equal steps; 0 is not looked at.
async function readMap(shot, low) {
  if (!read.has(shot)) {
    const image = new Image();
    image.src = shot.dataset.heat;
    await image.decode();
    const { naturalWidth: width, naturalHeight: height } = image;
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext('2d', { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    const span = Number(shot.dataset.top) - low;
    const values = new Float32Array(width * height);
    for (let at = 0; at < values.length; at++) {
      const level = data[4 * at];
      values[at] = level ? low + span * ((level - 1) / 254) ** 2 : NaN;
    }
    read.set(shot, { values, width, height });
  }
  return read.get(shot);
}

// Colours a map; what is not looked at is hatched.
function paint(canvas, map, [low, high]) {
  const { values, width, height } = map;
  Object.assign(canvas, { width, height });
  const context = canvas.getContext('2d');
  const pixels = context.createImageData(width, height);
  values.forEach((value, at) => {
    const level = Math.floor(((value - low) * 255) / (high - low));
    const from = 4 * Math.max(0, Math.min(255, level));
    const dark = (Math.floor(at / width) + (at % width)) % 8 < 2;
    const hatch = dark ? [90, 90, 90, 220] : [225, 225, 225, 225];
    const colour = isNaN(value) ? hatch : TABLE.subarray(from, from + 4);
    pixels.data.set(colour, 4 * at);
  });
  context.putImageData(pixels, 0, 0);
}

// Returns the lines at which a map passes a level, as a path in a square of 100.
function contour({ values, width, height }, level) {
  // Outside lies little below the level: far below would draw the line too far
  // inside.
  const at = (x, y) => {
    const inside = x >= 0 && y >= 0 && x < width && y < height;
    const value = inside ? values[y * width + x] : NaN;
    return isNaN(value) ? level - 1 : Math.max(value, level - 1);
  };
  const place = (x, y) => {
    const [left, top] = [(x + 0.5) / width, (y + 0.5) / height];
    const clipped = [left, top].map((one) => Math.max(0, Math.min(1, one)));
    return clipped.map((one) => (100 * one).toFixed(1)).join(' ');
  };
  const share = (from, to) => (level - from) / (to - from);
  let path = '';
  for (let y = -1; y < height; y++) {
    let [a, d] = [at(-1, y), at(-1, y + 1)];
    for (let x = -1; x < width; x++) {
      const [b, c] = [at(x + 1, y), at(x + 1, y + 1)];
      const above = [a, b, c, d].map((one) => one > level);
      const strokes = STROKES[above.reduce((sum, one, bit) => sum + (one << bit), 0)];
      for (let from = 0; from < strokes.length; from += 2) {
        const [start, end] = [strokes[from], strokes[from + 1]].map((side) => {
          if (side === '0') return place(x + share(a, b), y);
          if (side === '1') return place(x + 1, y + share(b, c));
          if (side === '2') return place(x + share(d, c), y + 1);
          return place(x, y + share(a, d));
        });
        path += `M${start}L${end}`;
      }
      [a, d] = [b, c];
    }
  }
  return path;
}

// Draws a shot's map into a view: colours once, lines at the limit of pixels.
async function draw(shot, view, state) {
  if (!state.scale) return;
  const map = await readMap(shot, state.scale[0]);
  const canvas = view.querySelector('canvas');
  if (!canvas.dataset.painted) paint(canvas, map, state.scale);
  canvas.dataset.painted = 'yes';
  const path = state.pixel === null ? '' : contour(map, state.pixel);
  view.querySelector('.found').setAttribute('d', path);
  // If nothing is above it, and the image is not OK all the same, a ring marks
  // its highest score, which is why.
  const ring = view.querySelector('.highest');
  const notOk = state.image === null || Number(shot.dataset.score) > state.image;
  ring.style.display = path === '' && notOk ? '' : 'none';
  const { values, width, height } = map;
  let peak = 0;
  values.forEach((value, at) => {
    if (value > values[peak] || isNaN(values[peak])) peak = at;
  });
  const radius = 100 / 24;
  const most = Math.max(width, height);
  const places = {
    cx: (100 * ((peak % width) + 0.5)) / width,
    cy: (100 * (Math.floor(peak / width) + 0.5)) / height,
    rx: (radius * most) / width,
    ry: (radius * most) / height,
  };
  Object.entries(places).forEach((pair) => ring.setAttribute(...pair));
}
