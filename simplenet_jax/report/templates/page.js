'use strict';

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

const large = document.getElementById('large');
let shown = [];
let at = 0;

function show(place) {
  at = (place + shown.length) % shown.length;
  const shot = shown[at];
  const stage = large.querySelector('.stage');
  stage.className = `stage ${shot.parentElement.className.replace('gallery', '')}`;
  stage.replaceChildren(...[...shot.children].map((part) => part.cloneNode(true)));
  // As large as the window allows, whatever the image's aspect.
  const view = stage.querySelector('.view');
  const [width, height] = view.style.aspectRatio.split('/').map(Number);
  view.style.width = `min(100%, ${(74 * width) / height}vh)`;
  large.querySelector('.where').textContent = `${at + 1} of ${shown.length}`;
}

for (const section of document.querySelectorAll('.category')) {
  const gallery = section.querySelector('.gallery');
  if (!gallery) continue;
  const shots = [...gallery.children];
  const filter = section.querySelector('.filter');
  const count = section.querySelector('.count');
  const visible = () => shots.filter((shot) => !shot.hidden);

  filter.addEventListener('change', () => {
    const kind = filter.value.slice(0, 2);
    const wanted = filter.value.slice(2);
    for (const shot of shots) {
      const own = kind === 'v:' ? shot.dataset.verdict : shot.dataset.defect;
      shot.hidden = kind !== '' && own !== wanted;
    }
    const left = visible().length;
    count.textContent = kind ? `${left} of ${shots.length}` : '';
    gallery.classList.toggle('empty', left === 0);
  });
  for (const box of section.querySelectorAll('.layer')) {
    box.addEventListener('change', () => {
      gallery.classList.toggle(box.value, box.checked);
    });
  }
  for (const shot of shots) {
    shot.addEventListener('click', () => {
      shown = visible();
      show(shown.indexOf(shot));
      large.showModal();
    });
  }
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
