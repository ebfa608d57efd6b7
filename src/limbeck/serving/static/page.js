// Asks this server about the protein that was pasted. All text is set as text; only the server's own picture is markup.
"use strict";

const at = id => document.getElementById(id);
const form = at("ask");
let numbers = null;
let current = null;

form.addEventListener("submit", event => { event.preventDefault(); look(); });
at("map")?.addEventListener("pointermove", show);
at("map")?.addEventListener("pointerdown", show);
at("map")?.addEventListener("pointerleave", () => { at("tip").hidden = true; });

// "#sequence=MKTAYIAKQR" fills the page in; what follows "#" is never sent to a server.
const given = new URLSearchParams(location.hash.slice(1));
if (given.get("by") && at("by")) at("by").value = given.get("by");
if (given.get("sequence")) {
  at("protein").value = given.get("sequence");
  if (!at("key")) look();
}

function read(text) {
  if (!text.trimStart().startsWith(">")) return { name: "", sequence: text.trim() };
  const records = text.trimStart().slice(1).split(/\n>/);
  const [header, ...lines] = records[0].split("\n");
  return { name: header.trim(), sequence: lines.join("\n").trim(), others: records.length - 1 };
}

async function look() {
  const { name, sequence, others } = read(at("protein").value);
  current?.abort();
  const running = current = new AbortController();
  for (const id of ["near", "scan"]) if (at(id)) at(id).hidden = true;
  at("problem").hidden = true;
  at("go").disabled = true;
  at("state").textContent = others ? "The first protein only; computing…" : "Computing…";
  const label = name || "";
  const asked = [];
  if (form.dataset.index) asked.push(ask("search", { sequences: [sequence], k: 10 }, running).then(found => near(found, label)));
  if (at("by")) asked.push(ask("saturate", { sequence, by: at("by").value, picture: true }, running).then(found => scan(found, label)));
  const done = await Promise.allSettled(asked);
  if (running !== current) return;
  at("go").disabled = false;
  at("state").textContent = others ? "The first protein only." : "";
  const problems = [...new Set(done.filter(one => one.reason).map(one => one.reason.message.replace(/^sequences\[0\]/, "sequence")))];
  if (problems.length) {
    at("problem").textContent = problems.join(" ");
    at("problem").hidden = false;
  }
}

async function ask(path, body, running) {
  const headers = { "Content-Type": "application/json" };
  if (at("key")) headers.Authorization = "Bearer " + at("key").value;
  let response;
  try {
    response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal: running.signal });
  } catch {
    throw new Error("The server does not answer; try again later.");
  }
  const found = await response.json();
  if (!response.ok) throw new Error(found.detail);
  return found;
}

function near(found, label) {
  const [result] = found.results;
  at("near-of").textContent = label;
  const labels = result.annotations.slice(0, 5).map(one => one.label + (one.reliability == null ? "" : " (reliability " + one.reliability.toFixed(2) + ")"));
  at("labels").textContent = labels.length ? "Label by its neighbours: " + labels.join("; ") + "." : "";
  fill("hits", result.hits.map(hit => [hit.id, hit.label ?? "", hit.similarity.toFixed(3), hit.reliability == null ? "" : hit.reliability.toFixed(2)]), 2);
  at("near").hidden = false;
}

function scan(found, label) {
  at("scan-of").textContent = label;
  at("meaning").textContent = found.meaning;
  const map = at("map"), picture = found.picture;
  at("scale").hidden = !picture;
  numbers = picture && picture.numbers;
  if (picture) {
    map.innerHTML = picture.svg;
    for (const svg of map.querySelectorAll("svg")) svg.style.width = svg.dataset.width + "px";
    at("low").textContent = "≤ " + picture.low;
    at("high").textContent = "≥ " + picture.high;
    at("centre").textContent = "middle: " + picture.centre + " (the protein itself)";
  } else map.textContent = "Too long for a picture.";
  const all = [];
  found.values.forEach((row, i) => row.forEach((value, j) => {
    if (value !== null) all.push([found.wild_type[j] + found.positions[j] + found.residues[i], value]);
  }));
  all.sort((a, b) => b[1] - a[1]);
  fill("best", all.slice(0, 10).map(([name, value]) => [name, value.toPrecision(3)]), 1);
  at("scan").hidden = false;
}

function fill(id, rows, firstNumber) {
  at(id).replaceChildren(...rows.map(cells => {
    const row = document.createElement("tr");
    cells.forEach((text, i) => {
      const cell = row.insertCell();
      cell.textContent = text;
      cell.className = i >= firstNumber ? "number" : "left";
    });
    return row;
  }));
}

function show(event) {
  const tip = at("tip"), svg = event.target.closest("svg.heat");
  tip.hidden = true;
  if (!svg || !numbers) return;
  const box = svg.getBoundingClientRect(), unit = svg.viewBox.baseVal.width / box.width, data = svg.dataset;
  const column = Math.floor(((event.clientX - box.left) * unit - data.left) / numbers.cell);
  const y = (event.clientY - box.top) * unit - data.top;
  const row = numbers.rows.findIndex(top => y >= top && y < top + numbers.cell);
  if (row < 0 || column < 0 || column >= data.count) return;
  const place = column + Number(data.first), wild = numbers.wild[place];
  const value = numbers.measured.split(",")[row * numbers.positions.length + place];
  const name = wild + numbers.positions[place];
  tip.textContent = wild === numbers.letters[row] ? name + ", the protein's own" : name + numbers.letters[row] + ": " + (value || "no value");
  tip.hidden = false;
  const half = tip.offsetWidth / 2, width = document.documentElement.clientWidth;
  tip.style.left = Math.min(Math.max(event.clientX, half + 4), width - half - 4) + "px";
  tip.style.top = event.clientY - 14 + "px";
}
