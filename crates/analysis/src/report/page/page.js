"use strict";
// An element with properties and children.
const make = (name, properties, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};
const percent = part => `${(100 * part).toFixed(1)}%`;
const reading = document.getElementById("reading");
const say = text => { if (reading && text) reading.textContent = text; };

// Tables: what has no number stays at the end.
const sortable = table => {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  headings.forEach((heading, column) => {
    if (heading.classList.contains("fixed")) return;
    const sort = () => {
      // The largest first, names from A to Z.
      const up = column === 0 ? heading.ariaSort !== "ascending" : heading.ariaSort === "descending";
      headings.forEach(other => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = row => row.cells[column].dataset.value;
      const compare = (a, b) => {
        if (column === 0) return (up ? 1 : -1) * a.cells[0].textContent.localeCompare(b.cells[0].textContent);
        const [one, other] = [value(a), value(b)];
        if (one === undefined || other === undefined) return (one === undefined) - (other === undefined);
        return (up ? 1 : -1) * (one - other);
      };
      body.append(...[...body.rows].sort(compare));
    };
    heading.tabIndex = 0;
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sort();
    });
  });
  if (body.rows.length < 20) return;
  const found = make("output", {});
  const input = make("input", { type: "search", placeholder: "filter rows", ariaLabel: "Filter the rows below" });
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      shown += !row.hidden;
    }
    found.textContent = words.length ? `${shown} of ${body.rows.length} rows` : "";
  });
  table.parentElement.before(make("p", { className: "controls" }, input, found));
};

// Flame graphs: the part of the width from `view[0]` to `view[1]` fills the picture.
const flame = svg => {
  const number = (element, name) => parseFloat(element.getAttribute(name));
  const frames = [...svg.querySelectorAll(":scope > svg")].map(element => {
    const from = number(element, "x") / 100;
    return {
      element, from, to: from + number(element, "width") / 100, y: number(element, "y"),
      label: element.querySelector("text"), name: element.querySelector("text").textContent, told: element.querySelector("title").textContent,
    };
  });
  if (!frames.length) return;
  const least = 0.0003;
  const whole = [0, 1];
  let view = whole;
  let current = frames[0];
  const reset = make("button", { type: "button", textContent: "whole picture", hidden: true });
  const found = make("output", {});
  const input = make("input", { type: "search", placeholder: "search frames", ariaLabel: "Search the frames of the flame graph" });
  const part = frame => {
    const width = view[1] - view[0];
    return [Math.max(0, (frame.from - view[0]) / width), Math.min(1, (frame.to - view[0]) / width)];
  };
  // As much of the name as has room, at some 6.5 pixels a letter.
  const fitting = (name, pixels) => {
    const room = Math.floor((pixels - 5) / 6.5);
    if (name.length <= room) return name;
    return room < 3 ? "" : `${name.slice(0, room - 1)}…`;
  };
  const draw = () => {
    const pixels = svg.getBoundingClientRect().width;
    for (const frame of frames) {
      const [from, to] = part(frame);
      frame.shown = to - from >= least;
      frame.element.style.display = frame.shown ? "" : "none";
      if (!frame.shown) continue;
      frame.element.setAttribute("x", `${100 * from}%`);
      frame.element.setAttribute("width", `${100 * (to - from)}%`);
      frame.label.textContent = fitting(frame.name, pixels * (to - from));
    }
    reset.hidden = view === whole;
  };
  const zoom = (from, to) => {
    [from, to] = [Math.max(0, from), Math.min(1, to)];
    view = to - from > 0.9999 ? whole : [from, to];
    draw();
  };
  const choose = frame => {
    if (!frame) return;
    current.element.classList.remove("current");
    current = frame;
    current.element.classList.add("current");
    say(frame.told);
  };
  const frame = event => frames.find(({ element }) => element === event.target.closest("svg svg"));
  svg.addEventListener("pointerover", event => { const over = frame(event); if (over) say(over.told); });
  svg.addEventListener("click", event => {
    const clicked = frame(event);
    if (!clicked) return;
    choose(clicked);
    zoom(clicked.from, clicked.to);
  });
  // Up zooms in; down zooms out, and scrolls the page once all is shown.
  svg.addEventListener("wheel", event => {
    if (event.ctrlKey || !event.deltaY || (event.deltaY > 0 && view === whole)) return;
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    const width = view[1] - view[0];
    const at = (event.clientX - box.left) / box.width;
    const next = Math.min(1, Math.max(1e-5, width * (event.deltaY < 0 ? 0.8 : 1.25)));
    const from = Math.min(1 - next, Math.max(0, view[0] + at * (width - next)));
    zoom(from, from + next);
  }, { passive: false });
  const middle = ({ from, to }) => (from + to) / 2;
  const row = y => frames.filter(other => other.shown && other.y === y).sort((a, b) => a.from - b.from);
  const step = { ArrowLeft: -1, ArrowRight: 1 };
  const inside = (inner, outer) => middle(inner) >= outer.from && middle(inner) <= outer.to;
  const rows = [...new Set(frames.map(({ y }) => y))].sort((a, b) => a - b);
  const above = y => rows[rows.indexOf(y) - 1];
  const below = y => rows[rows.indexOf(y) + 1];
  const keys = event => {
    const { key } = event;
    if (key in step) {
      const here = row(current.y);
      choose(here[here.indexOf(current) + step[key]]);
    } else if (key === "ArrowUp") {
      const children = row(above(current.y)).filter(other => inside(other, current));
      choose(children.sort((a, b) => (b.to - b.from) - (a.to - a.from))[0]);
    } else if (key === "ArrowDown") {
      choose(row(below(current.y)).find(other => inside(current, other)));
    } else if (key === "Enter") {
      zoom(current.from, current.to);
    } else if (key === "Escape" || key === "0") {
      zoom(0, 1);
    } else if (key === "/") {
      input.focus();
    } else return;
    event.preventDefault();
  };
  const search = () => {
    const word = input.value.trim().toLowerCase();
    let [sum, hits, end] = [0, 0, 0];
    for (const one of frames) one.hit = word !== "" && one.name.toLowerCase().includes(word);
    for (const one of frames) one.element.classList.toggle("hit", one.hit);
    svg.classList.toggle("searched", word !== "");
    // Frames within frames that were found count once.
    for (const one of frames.filter(({ hit }) => hit).sort((a, b) => a.from - b.from || b.to - a.to)) {
      hits += 1;
      if (one.from >= end - 1e-9) { sum += one.to - one.from; end = one.to; }
    }
    const all = frames.reduce((most, one) => Math.max(most, one.to), 0) - frames[0].from;
    found.textContent = word ? `${hits} frames, ${percent(sum / all)} of the time` : "";
  };
  input.addEventListener("input", search);
  reset.addEventListener("click", () => zoom(0, 1));
  svg.tabIndex = 0;
  svg.addEventListener("keydown", keys);
  svg.addEventListener("focus", () => choose(current));
  const hint = make("span", { className: "hint", textContent: "click or Enter zooms, wheel too; arrows move; Escape shows all; / searches" });
  svg.before(make("p", { className: "controls" }, input, found, reset, hint));
  new ResizeObserver(draw).observe(svg);
};

document.querySelectorAll(".sortable").forEach(sortable);
document.querySelectorAll("svg.flame").forEach(flame);
// Bars of timelines, and points of charts, in words.
for (const picture of document.querySelectorAll("figure > svg:not(.flame)")) {
  const read = event => say(event.target.closest("svg svg, g, rect")?.querySelector(":scope > title")?.textContent);
  picture.addEventListener("pointerover", read);
  picture.addEventListener("click", read);
}
