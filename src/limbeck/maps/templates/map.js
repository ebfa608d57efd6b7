"use strict";
// Points are drawn pixel by pixel, so that a page is as fast on a machine without a graphics card.
const data = JSON.parse(document.getElementById("data").textContent);
const NONE = 65535;
const SIZE = 65536;
const CELLS = 256;
const MANY = 20000;
const element = (id) => document.getElementById(id);
const canvas = element("canvas"), tip = element("tip"), context = canvas.getContext("2d", { alpha: false });

function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Uint16Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true));
}

const points = unpacked(data.points), places = unpacked(data.places), count = data.ids.length;
const numeric = data.kind === "number", categories = data.kind === "category";

// Drawn in a shuffled order (always the same), so that no group of the file hides those before it.
const order = new Uint32Array(count).map((_, i) => i);
for (let i = count - 1, seed = 1; i > 0; i--) {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  const j = seed % (i + 1), kept = order[i];
  order[i] = order[j];
  order[j] = kept;
}

const extent = [0, 1].map((axis) => {
  let low = SIZE, high = 0;
  for (let i = axis; i < 2 * count; i += 2) {
    low = Math.min(low, points[i]);
    high = Math.max(high, points[i]);
  }
  return Math.max(high - low, 1);
}).reduce((x, y) => ({ x, y }));

// A grid over the plane, to find what is under the pointer: members of cell c are members[starts[c]] to members[starts[c + 1]].
const starts = new Uint32Array(CELLS * CELLS + 1), members = new Uint32Array(count);
const cellOf = (i) => ((points[2 * i + 1] * CELLS / SIZE) | 0) * CELLS + ((points[2 * i] * CELLS / SIZE) | 0);
for (let i = 0; i < count; i++) starts[cellOf(i) + 1]++;
for (let c = 0; c < CELLS * CELLS; c++) starts[c + 1] += starts[c];
const filled = starts.slice();
for (let i = 0; i < count; i++) members[filled[cellOf(i)]++] = i;

// Colours

const LIGHT = ["#0072b2", "#d55e00", "#00875f", "#b0569a", "#a87900", "#3f9bd1", "#7a4fc9", "#c2334d",
  "#5a8f1f", "#8a5a2b", "#00808a", "#e07fb0", "#3b5bdb", "#9aa300", "#ff8a5c", "#5c3d8f"];
const DARK = ["#4da6e8", "#ff8c4c", "#3cc9a0", "#e59ac4", "#f0bb49", "#9fd4f5", "#b39df3", "#ff7387",
  "#a5d65a", "#d0a274", "#4fd3dc", "#ffc2dd", "#8ea2ff", "#d9e04a", "#ffc0a3", "#c58af0"];
// Five steps of viridis (van der Walt and Smith), darkest first; the end that a page's colour would swallow is left out.
const STEPS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const dark = matchMedia("(prefers-color-scheme: dark)");
const hex = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
const packed = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

function onScale(share) {
  const at = (dark.matches ? 0.15 + 0.85 * share : 0.92 * share) * (STEPS.length - 1);
  const step = Math.min(STEPS.length - 2, Math.floor(at));
  return STEPS[step].map((value, i) => Math.round(value + (at - step) * (STEPS[step + 1][i] - value)));
}

function colourOf(place) {
  if (place === NONE && data.kind !== "none") return dark.matches ? [74, 82, 91] : [201, 206, 212];
  if (numeric) return onScale(place / (NONE - 1));
  const palette = dark.matches ? DARK : LIGHT;
  if (!categories) return hex(palette[0]);
  return place < data.coloured ? hex(palette[place]) : dark.matches ? [122, 130, 139] : [140, 148, 156];
}

let colours, background;
function recolour() {
  const known = new Map();
  const of = (place) => {
    if (!known.has(place)) known.set(place, packed(colourOf(place)));
    return known.get(place);
  };
  colours = new Uint32Array(count).map((_, i) => of(data.kind === "none" ? 0 : places[i]));
  const page = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
  background = packed(page);
}

// View: a point p of the plane stands at p * zoom + offset, in pixels of the canvas.

let width = 0, height = 0, ratio = 1, zoom = 1, left = 0, top_ = 0, pixels, image, smallest = 1;
const shown = new Uint8Array(count).fill(1);
let marked = [], hovered = -1;

function resize() {
  const before = width ? { x: (width / 2 - left) / zoom, y: (height / 2 - top_) / zoom, zoom: zoom / smallest } : null;
  ratio = Math.min(2, window.devicePixelRatio || 1);
  width = canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  height = canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  image = context.createImageData(width, height);
  pixels = new Uint32Array(image.data.buffer);
  smallest = 0.92 * Math.min(width / extent.x, height / extent.y);
  if (before === null) return fit();
  zoom = smallest * before.zoom;
  left = width / 2 - before.x * zoom;
  top_ = height / 2 - before.y * zoom;
  draw(); // at once: a canvas of a new size is black
}

function fit() {
  zoom = smallest;
  // The points' extent has the middle of the plane as its own.
  left = (width - SIZE * zoom) / 2;
  top_ = (height - SIZE * zoom) / 2;
  request();
}

function zoomAt(x, y, factor) {
  const next = Math.min(2000 * smallest, Math.max(0.5 * smallest, zoom * factor));
  left = x - (x - left) * next / zoom;
  top_ = y - (y - top_) * next / zoom;
  zoom = next;
  request(true);
}

function radius() {
  // Many points are drawn small, and grow as one goes in.
  const base = Math.min(4, Math.max(1.1, 2 * Math.sqrt(12000 / Math.max(count, 1))));
  return ratio * Math.min(7, base * Math.pow(zoom / smallest, 0.3));
}

// Pixels of a disc about a point, as offsets in the image: those that it covers, and those at its smooth edge with the
// part (of 256) that it covers of them.
function discOf(size, smooth) {
  const reach = Math.ceil(size), inner = [], edge = [], parts = [];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const part = Math.min(1, Math.max(0, size + 0.5 - Math.hypot(x, y)));
      if (part === 1 || (!smooth && part > 0.5)) inner.push(y * width + x);
      else if (smooth && part > 0.1) {
        edge.push(y * width + x);
        parts.push(Math.round(256 * part));
      }
    }
  }
  return { reach, inner: Int32Array.from(inner), edge: Int32Array.from(edge), parts: Int32Array.from(parts) };
}

function blended(under, over, part) {
  const rest = 256 - part;
  const both = (((over & 0xff00ff) * part + (under & 0xff00ff) * rest) / 256) & 0xff00ff;
  const green = (((over >>> 8) & 255) * part + ((under >>> 8) & 255) * rest) & 0xff00;
  return (0xff000000 | both | green) >>> 0;
}

function draw(smooth = true) {
  pixels.fill(background);
  const { reach, inner, edge, parts } = discOf(radius(), smooth);
  for (let n = 0; n < count; n++) {
    const i = order[n];
    if (!shown[i]) continue;
    const x = (points[2 * i] * zoom + left + 0.5) | 0, y = (points[2 * i + 1] * zoom + top_ + 0.5) | 0;
    if (x < reach || y < reach || x >= width - reach || y >= height - reach) continue;
    const at = y * width + x, colour = colours[i];
    for (let k = 0; k < inner.length; k++) pixels[at + inner[k]] = colour;
    for (let k = 0; k < edge.length; k++) pixels[at + edge[k]] = blended(pixels[at + edge[k]], colour, parts[k]);
  }
  context.putImageData(image, 0, 0);
  ring(marked, 5);
  if (hovered >= 0) ring([hovered], 6.5);
}

function ring(which, size) {
  context.strokeStyle = getComputedStyle(document.body).color;
  context.lineWidth = 1.6 * ratio;
  for (const i of which.slice(0, 2000)) {
    context.beginPath();
    context.arc(points[2 * i] * zoom + left, points[2 * i + 1] * zoom + top_, Math.max(size * ratio, radius() + 2 * ratio), 0, 7);
    context.stroke();
  }
}

// While many points move their edges are left rough, and are smoothed once they stand.
let waiting = false, rough = false, standing = 0;
function request(moving = false) {
  rough = moving && count > MANY;
  clearTimeout(standing);
  if (rough) standing = setTimeout(request, 150);
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw(!rough);
  });
}

// What is under the pointer

function nearest(x, y) {
  const reach = Math.max(8 * ratio, radius() + 2 * ratio);
  const cell = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor(value * CELLS / SIZE)));
  let best = -1, least = reach * reach;
  const [x0, x1] = [cell((x - reach - left) / zoom), cell((x + reach - left) / zoom)];
  for (let row = cell((y - reach - top_) / zoom); row <= cell((y + reach - top_) / zoom); row++) {
    for (let n = starts[row * CELLS + x0]; n < starts[row * CELLS + x1 + 1]; n++) {
      const i = members[n];
      if (!shown[i]) continue;
      const far = (points[2 * i] * zoom + left - x) ** 2 + (points[2 * i + 1] * zoom + top_ - y) ** 2;
      if (far < least) [best, least] = [i, far];
    }
  }
  return best;
}

const inShort = (value) => (Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(+value.toPrecision(4)));

function valueOf(i) {
  if (data.kind === "none") return null;
  if (places[i] === NONE) return `no ${data.column}`;
  if (categories) return data.names[places[i]];
  // The ends of the scale stand for all that lies beyond.
  const value = inShort(data.low + (places[i] / (NONE - 1)) * (data.high - data.low));
  if (places[i] === NONE - 1 && data.largest > data.high) return `${value} or more`;
  return places[i] === 0 && data.smallest < data.low ? `${value} or less` : value;
}

function hover(i, x, y) {
  if (i !== hovered) {
    hovered = i;
    canvas.classList.toggle("over", i >= 0);
    request();
  }
  tip.hidden = i < 0;
  if (i < 0) return;
  const value = valueOf(i);
  tip.textContent = data.ids[i];
  if (value !== null) {
    const line = document.createElement("span");
    line.textContent = value;
    tip.append(document.createElement("br"), line);
  }
  const plane = canvas.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, plane.width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > plane.height ? y - tip.offsetHeight - 10 : y + 18}px`;
}

// Pointers: one drags, two pinch.

const pointers = new Map();
const placeOf = (event) => {
  const plane = canvas.getBoundingClientRect();
  return { x: event.clientX - plane.left, y: event.clientY - plane.top };
};

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, placeOf(event));
  canvas.classList.add("moving");
});
canvas.addEventListener("pointermove", (event) => {
  const now = placeOf(event), before = pointers.get(event.pointerId);
  if (!before) return hover(nearest(now.x * ratio, now.y * ratio), now.x, now.y);
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  if (other) {
    const far = Math.hypot(now.x - other.x, now.y - other.y), was = Math.hypot(before.x - other.x, before.y - other.y);
    if (was > 0) zoomAt((now.x + other.x) * ratio / 2, (now.y + other.y) * ratio / 2, far / was);
  } else {
    left += (now.x - before.x) * ratio;
    top_ += (now.y - before.y) * ratio;
    request(true);
  }
  hover(-1);
  pointers.set(event.pointerId, now);
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => {
    pointers.delete(event.pointerId);
    canvas.classList.toggle("moving", pointers.size > 0);
  });
}
canvas.addEventListener("pointerleave", () => hover(-1));
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const { x, y } = placeOf(event);
  const lines = event.deltaMode === 1 ? 33 : 1;
  zoomAt(x * ratio, y * ratio, Math.exp(-0.0015 * lines * event.deltaY));
  hover(-1);
}, { passive: false });
canvas.addEventListener("dblclick", (event) => zoomAt(placeOf(event).x * ratio, placeOf(event).y * ratio, 2));
canvas.addEventListener("keydown", (event) => {
  const step = 60 * ratio;
  const moves = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
  if (moves[event.key]) {
    left += moves[event.key][0];
    top_ += moves[event.key][1];
    request();
  } else if (event.key === "+" || event.key === "=") zoomAt(width / 2, height / 2, 1.4);
  else if (event.key === "-") zoomAt(width / 2, height / 2, 1 / 1.4);
  else if (event.key === "0") fit();
  else return;
  event.preventDefault();
});
element("fit").addEventListener("click", fit);
element("closer").addEventListener("click", () => zoomAt(width / 2, height / 2, 1.6));
element("farther").addEventListener("click", () => zoomAt(width / 2, height / 2, 1 / 1.6));

// Finding by id

const search = element("search");
search.addEventListener("input", () => {
  const wanted = search.value.trim().toLowerCase();
  marked = [];
  if (wanted) data.ids.forEach((id, i) => { if (id.toLowerCase().includes(wanted)) marked.push(i); });
  const drawn = marked.length > 2000 ? " (2,000 of them marked)" : "";
  element("found").textContent = wanted ? `${marked.length.toLocaleString("en")} found${drawn}${marked.length ? "; Enter goes to the first" : ""}` : "";
  request();
});
search.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !marked.length) return;
  const exact = marked.find((i) => data.ids[i].toLowerCase() === search.value.trim().toLowerCase());
  const i = exact === undefined ? marked[0] : exact;
  zoom = Math.max(zoom, 8 * smallest);
  left = width / 2 - points[2 * i] * zoom;
  top_ = height / 2 - points[2 * i + 1] * zoom;
  hover(i, width / ratio / 2, height / ratio / 2);
  request();
});

// Legend

const off = new Set();
function filter() {
  for (let i = 0; i < count; i++) shown[i] = off.has(Math.min(places[i], places[i] === NONE ? NONE : data.coloured)) ? 0 : 1;
  for (const button of element("legend").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(!off.has(Number(button.dataset.place))));
  }
  element("show").disabled = off.size === 0;
  hover(-1);
  request();
}

function entry(place, name, number) {
  const item = document.createElement("li"), button = document.createElement("button");
  const [dot, label, size] = ["dot", "name", "count"].map((style) => {
    const part = document.createElement("span");
    part.className = style;
    return part;
  });
  button.dataset.place = place;
  button.title = name;
  button.setAttribute("aria-pressed", "true");
  label.textContent = name;
  size.textContent = number.toLocaleString("en");
  button.append(dot, label, size);
  button.addEventListener("click", () => {
    if (!off.delete(place)) off.add(place);
    filter();
  });
  item.append(button);
  element("legend").append(item);
}

function legend() {
  const missing = places.reduce((sum, place) => sum + (place === NONE), 0);
  if (categories) {
    data.names.slice(0, data.coloured).forEach((name, place) => entry(place, name, data.counts[place]));
    const rest = data.names.length - data.coloured;
    const others = data.counts.slice(data.coloured).reduce((sum, number) => sum + number, 0);
    if (rest > 0) entry(data.coloured, `${rest.toLocaleString("en")} others`, others);
    element("all").hidden = false;
    element("show").disabled = true;
    element("show").addEventListener("click", () => { off.clear(); filter(); });
    element("hide").addEventListener("click", () => {
      for (const button of element("legend").querySelectorAll("button")) off.add(Number(button.dataset.place));
      filter();
    });
  }
  if (missing) entry(NONE, "no value", missing);
  if (numeric) {
    element("scale").hidden = false;
    const [low, high] = element("scale").querySelectorAll("span");
    low.textContent = `${data.smallest < data.low ? "≤ " : ""}${inShort(data.low)}`;
    high.textContent = `${data.largest > data.high ? "≥ " : ""}${inShort(data.high)}`;
  }
}

function themed() {
  recolour();
  for (const button of document.querySelectorAll("#legend button")) {
    const [r, g, b] = colourOf(Number(button.dataset.place));
    button.querySelector(".dot").style.background = `rgb(${r} ${g} ${b})`;
  }
  if (numeric) {
    const stops = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) => `rgb(${onScale(i / 8).join(" ")})`);
    element("scale").firstElementChild.style.background = `linear-gradient(to right, ${stops.join(",")})`;
  }
  request();
}

if (data.column !== null) legend();
resize();
themed();
draw(); // not in the next frame: a page that is printed or opened in the background has none
dark.addEventListener("change", themed);
new ResizeObserver(resize).observe(canvas);
