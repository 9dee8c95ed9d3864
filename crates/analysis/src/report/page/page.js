"use strict";
// Sorting: what has no number stays at the end.
for (const table of document.querySelectorAll(".sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const sort = () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach(other => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const value = row => row.cells[column].dataset.value;
      const compare = (a, b) => {
        if (column === 0) return (up ? 1 : -1) * a.cells[0].textContent.localeCompare(b.cells[0].textContent);
        const [one, other] = [value(a), value(b)];
        if (one === undefined || other === undefined) return (one === undefined) - (other === undefined);
        return (up ? 1 : -1) * (one - other);
      };
      [...body.rows].sort(compare).forEach(row => body.append(row));
    };
    heading.tabIndex = 0;
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
}
// The frame under the pointer, or the one that was tapped, in words.
const reading = document.getElementById("reading");
const read = event => {
  const title = event.target.closest("svg svg")?.querySelector("title");
  if (title) reading.textContent = title.textContent;
};
for (const graph of document.querySelectorAll("figure > svg")) {
  graph.addEventListener("pointerover", read);
  graph.addEventListener("click", read);
}
