// Light or dark, as the reader chose; the system's choice otherwise.
document.getElementById('theme').addEventListener('click', () => {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === 'dark'
    : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
});

// Columns sort by value, undefined ones last; the mean stays below.
for (const button of document.querySelectorAll('.figures thead button')) {
  button.addEventListener('click', () => {
    const head = button.parentElement;
    const column = head.cellIndex;
    // Figures from the highest down at first, names from A.
    const before = head.getAttribute('aria-sort');
    const up = column === 0 ? before !== 'ascending' : before === 'descending';
    for (const other of head.parentElement.cells) {
      other.setAttribute('aria-sort', 'none');
    }
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const body = head.closest('table').tBodies[0];
    const rows = [...body.rows].filter((row) => !row.classList.contains('mean'));
    const value = (row) => parseFloat(row.cells[column].innerText);
    rows.sort((a, b) => {
      if (column === 0) {
        const order = a.cells[0].innerText.localeCompare(b.cells[0].innerText);
        return up ? order : -order;
      }
      const [x, y] = [value(a), value(b)];
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
      return up ? x - y : y - x;
    });
    body.prepend(...rows);
  });
}

// Numbers with three digits, or as many more as tell them apart.
function numbers(...values) {
  for (let digits = 3; ; digits++) {
    const told = values.map((one) => one.toPrecision(digits));
    const apart = new Set(told).size === new Set(values).size;
    if (apart || digits === 10) return told;
  }
}

// The axis of scores: few lie far above the limit, and share its end.
function axisOf(every, good, limit) {
  let [low, high] = [Math.min(...every), Math.max(...every)];
  const top = high;
  if (limit !== null) {
    low = Math.min(low, limit);
    const far = Math.max(limit + 3 * (limit - low), low, ...good);
    high = Math.max(limit, Math.min(high, far));
  }
  const pad = 0.02 * (high - low) || 0.5;
  return { low: low - pad, high: high + pad, more: top > high + pad };
}

function drawBars(svg, kinds, axis, count = 40) {
  const bin = (score) => {
    const at = ((score - axis.low) / (axis.high - axis.low)) * count;
    return Math.max(0, Math.min(count - 1, Math.floor(at)));
  };
  const total = new Array(count).fill(0);
  const bars = [];
  for (const [kind, scores] of kinds) {
    const own = new Array(count).fill(0);
    scores.forEach((score) => own[bin(score)]++);
    own.forEach((height, at) => {
      if (height) bars.push([kind, at, height, total[at]]);
      total[at] += height;
    });
  }
  const most = Math.max(...total);
  svg.setAttribute('viewBox', `0 0 ${count} ${most}`);
  svg.innerHTML = bars.map(([kind, at, height, below]) =>
    `<rect class="${kind}" x="${at + 0.06}" width=".88" y="${most - below - height}" height="${height}"/>`
  ).join('') + `<line class="at" y2="${most}"/>`;
}

const VERDICTS = [['passed', 'false alarm'], ['missed', 'found']];

// One category: what lies beyond its limits, at any place of its sliders.
class Category {
  constructor(section) {
    this.section = section;
    const data = JSON.parse(section.querySelector('.data').textContent);
    Object.assign(this, data, { own: { image: data.image, pixel: data.pixel } });
    this.together = data.image !== null && data.image === data.pixel;
    this.shots = [...section.querySelectorAll('.shot')];
    this.onScreen = new Set();
    this.drawBars();
    for (const kind of ['image', 'pixel']) {
      const slider = section.querySelector(kind === 'image' ? '.limit' : '.own input');
      if (!slider) continue;
      const axis = kind === 'image' ? this.axis : this.pixelAxis();
      slider.addEventListener('input', () => {
        const share = slider.value / slider.max;
        this.move(kind, axis.low + share * (axis.high - axis.low));
      });
      slider.addEventListener('change', () => this.sort());
      this[`${kind}Slider`] = [slider, axis];
    }
    const reset = section.querySelector('.reset');
    reset?.addEventListener('click', () => {
      Object.assign(this, this.own);
      this.show();
      this.sort();
      this.imageSlider[0].focus();
    });
    for (const name of ['.filter', '.order']) {
      const select = section.querySelector(name);
      select?.addEventListener('change', () => this.sort());
    }
    for (const box of section.querySelectorAll('.layer')) {
      box.addEventListener('change', () => {
        const all = section.querySelectorAll('.gallery');
        all.forEach((one) => one.classList.toggle(box.value, box.checked));
      });
    }
    for (const shot of this.shots) {
      shot.addEventListener('click', () => openLarge(this, shot));
    }
    this.drawLegend();
    // Only what is on the screen is drawn.
    const watch = new IntersectionObserver((seen) => {
      for (const { target, isIntersecting } of seen) {
        this.onScreen[isIntersecting ? 'add' : 'delete'](target);
        if (isIntersecting) draw(target, target.querySelector('.view'), this);
      }
    }, { rootMargin: '300px' });
    this.shots.forEach((shot) => watch.observe(shot));
    this.show();
    this.sort();
  }

  drawBars() {
    const of = (label) => this.scores.filter((row) => row[1] === label);
    const [good, bad] = [0, 1].map((label) => of(label).map((row) => row[0]));
    const every = [...this.held, ...good, ...bad];
    this.axis = axisOf(every, [...this.held, ...good], this.image);
    const svg = this.section.querySelector('.bars');
    drawBars(svg, [['held', this.held], ['good', good], ['bad', bad]], this.axis);
    const [left, , right] = this.section.querySelector('.axis').children;
    const ends = numbers(this.axis.low, this.axis.high);
    left.textContent = ends[0];
    right.textContent = ends[1] + (this.axis.more ? ' or more' : '');
  }

  pixelAxis() {
    const [low, high] = this.scale;
    const tops = this.shots.map((shot) => Number(shot.dataset.top));
    return { low, high: Math.max(high, ...tops) };
  }

  drawLegend() {
    for (const bar of this.section.querySelectorAll('.legend .bar')) {
      bar.hidden = !this.scale;
      if (!this.scale) continue;
      const [low, high, middle] = this.scale;
      const values = Float32Array.from({ length: 256 }, (_, at) => low + ((high - low) * at) / 255);
      const canvas = bar.querySelector('canvas');
      paint(canvas, { values, width: 256, height: 1 }, this.scale);
      const ends = numbers(low, high);
      bar.firstElementChild.textContent = ends[0];
      bar.lastElementChild.textContent = `${ends[1]} or more`
        + (middle === null ? '' : `; in the middle ${numbers(middle)[0]}`);
    }
  }

  move(kind, value) {
    this[kind] = value;
    if (this.together) this.pixel = value;
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.show());
  }

  verdict(score, label) {
    if (this.image === null) return '';
    return VERDICTS[Number(label)][Number(score > this.image)];
  }

  // Shows counts, verdicts and outlines at the limits of now.
  show() {
    const { section, image, pixel, own } = this;
    const set = (name, text) => {
      for (const one of section.querySelectorAll(name)) one.textContent = text;
    };
    const above = (rows) => rows.filter((row) => row[0] > image).length;
    if (image !== null) {
      const [slider, { low, high }] = this.imageSlider;
      const share = (image - low) / (high - low);
      slider.value = Math.round(share * slider.max);
      slider.setAttribute('aria-valuetext', numbers(image)[0]);
      const line = section.querySelector('.bars .at');
      for (const x of ['x1', 'x2']) line.setAttribute(x, 40 * share);
      set('.answer .found', above(this.scores.filter((row) => row[1])));
      set('.answer .alarms', above(this.scores.filter((row) => !row[1])));
      set('.answer .at', numbers(image)[0]);
      for (const row of section.querySelectorAll('.kinds tbody tr')) {
        const kind = row.cells[0].textContent;
        const some = this.scores.filter((one) => one[1] && one[2] === kind);
        row.querySelector('b').textContent = above(some);
      }
      const moved = image !== own.image || pixel !== own.pixel;
      section.querySelector('.reset').disabled = !moved;
      section.classList.toggle('moved', moved);
      const held = this.held.filter((score) => score > image).length;
      const told = this.held.length
        ? `At ${numbers(image)[0]}, ${held} of ${this.held.length} good images that were not trained on would be false alarms.`
        : 'This is not the limit of the detector.';
      set('.trial', moved ? told : '');
    }
    if (pixel !== null) set('.legend b.pixel, .own b', numbers(pixel)[0]);
    if (this.pixelSlider) {
      const [slider, { low, high }] = this.pixelSlider;
      slider.value = Math.round(((pixel - low) / (high - low)) * slider.max);
      slider.setAttribute('aria-valuetext', numbers(pixel)[0]);
    }
    for (const shot of this.shots) {
      const { name, score, label } = shot.dataset;
      const verdict = label === '' ? '' : this.verdict(score, label);
      shot.dataset.verdict = verdict;
      const sets = label === '' && image !== null && score >= image;
      const word = sets ? 'sets the limit' : verdict;
      const told = numbers(Number(score))[0] + (word ? ` ${word}` : '');
      shot.querySelector('.verdict').textContent = told;
      shot.setAttribute('aria-label', `${name}, score ${told}`);
    }
    this.onScreen.forEach((shot) => draw(shot, shot.querySelector('.view'), this));
  }

  // Filters and orders the gallery; not while a slider moves.
  sort() {
    const { section } = this;
    const filter = section.querySelector('.filter');
    if (!filter) return;
    const gallery = section.querySelector('.gallery');
    const shots = this.shots.filter((shot) => shot.dataset.label !== '');
    const kinds = [...new Set(shots.map((shot) => shot.dataset.kind))].sort();
    const words = this.image === null ? [] : ['missed', 'false alarm', 'found', 'passed'];
    const choices = [['', 'all'], ...words.map((one) => [`v:${one}`, one]),
      ...kinds.map((one) => [`d:${one}`, one])];
    const fits = (shot, value) => !value
      || shot.dataset[value[0] === 'v' ? 'verdict' : 'kind'] === value.slice(2);
    const chosen = filter.value;
    filter.replaceChildren(...choices.map(([value, name]) => {
      const count = shots.filter((shot) => fits(shot, value)).length;
      return new Option(`${name} (${count})`, value, false, value === chosen);
    }));
    const wrong = ({ dataset: { score, label } }) =>
      (label === '1' ? -1 : 1) * (score - (this.image ?? 0));
    const orders = {
      errors: (a, b) => wrong(b) - wrong(a),
      down: (a, b) => b.dataset.score - a.dataset.score,
      up: (a, b) => a.dataset.score - b.dataset.score,
      name: (a, b) => a.dataset.name.localeCompare(b.dataset.name),
    };
    shots.sort(orders[section.querySelector('.order').value]);
    gallery.append(...shots);
    for (const shot of shots) shot.hidden = !fits(shot, chosen);
    const left = shots.filter((shot) => !shot.hidden).length;
    section.querySelector('.count').textContent = chosen ? `${left} of ${shots.length}` : '';
    gallery.classList.toggle('empty', left === 0);
  }
}

const large = document.getElementById('large');
let [category, shown, at] = [null, [], 0];

// Shows an image, and the same with its heat map, side by side.
function show(place) {
  at = (place + shown.length) % shown.length;
  const shot = shown[at];
  const stage = large.querySelector('.stage');
  const views = [0, 1].map(() => shot.querySelector('.view').cloneNode(true));
  views[0].querySelectorAll('canvas, .found, .highest').forEach((one) => one.remove());
  views[1].querySelector('canvas').removeAttribute('data-painted');
  // As large as the window allows, whatever the image's aspect.
  const [width, height] = views[0].style.aspectRatio.split('/').map(Number);
  for (const view of views) view.style.setProperty('--aspect', width / height);
  stage.replaceChildren(...views);
  draw(shot, views[1], category);
  const { name, score, label, verdict } = shot.dataset;
  const limit = category.image;
  const told = limit === null ? numbers(Number(score)) : numbers(Number(score), limit);
  let words = `Score ${told[0]}`;
  if (limit !== null && label !== '') {
    words = `${score > limit ? 'NOT OK' : 'OK'} ${told[0]} (limit ${told[1]}): ${verdict}`;
  } else if (limit !== null) words += ` (limit ${told[1]})`;
  large.querySelector('.name').textContent = name;
  large.querySelector('.verdict').textContent = words;
  large.dataset.verdict = verdict;
  large.querySelector('.where').textContent = `${at + 1} of ${shown.length}`;
}

function openLarge(from, shot) {
  category = from;
  shown = [...shot.parentElement.children].filter((one) => !one.hidden);
  const legend = from.section.querySelector('.legend').cloneNode(true);
  const bars = [...from.section.querySelector('.legend').querySelectorAll('canvas')];
  [...legend.querySelectorAll('canvas')].forEach((one, i) =>
    one.getContext('2d').drawImage(bars[i], 0, 0));
  large.querySelector('.legend').replaceWith(legend);
  large.querySelector('.stage').className = 'stage heat lines';
  show(shown.indexOf(shot));
  large.showModal();
}

for (const button of large.querySelectorAll('.step')) {
  button.addEventListener('click', () => show(at + Number(button.value)));
}
large.addEventListener('keydown', (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) {
    event.preventDefault();
    show(at + step);
  }
});
large.addEventListener('click', (event) => {
  if (event.target === large) large.close();
});
large.addEventListener('close', () => shown[at].focus());

for (const section of document.querySelectorAll('.category')) {
  if (section.querySelector('.data')) new Category(section);
}
