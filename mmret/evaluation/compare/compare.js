// Sorts tables by a click on a head, and shows the recipe diff of any two variants. The page is whole without it.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  for (const button of table.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const falling = head.getAttribute("aria-sort") === null ? head.classList.contains("num") : head.getAttribute("aria-sort") === "ascending";
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const value = (row) => row.cells[head.cellIndex].dataset.value ?? "";
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");  // what is not known stays last
        const order = head.classList.contains("num") ? x - y : x.localeCompare(y);
        return falling ? -order : order;
      });
      body.append(...rows);
    });
  }
}
const recipes = JSON.parse(document.getElementById("recipe-values")?.textContent ?? "null");
const picks = [document.getElementById("diff-first"), document.getElementById("diff-second")];
if (recipes && picks[0]) {
  const cell = (text, kind) => Object.assign(document.createElement("td"), { textContent: text, className: kind });
  const show = () => {
    const [ours, theirs] = picks.map((pick) => recipes.values[pick.value]);
    const rows = [];
    recipes.keys.forEach((key, place) => {
      if (ours[place] === theirs[place]) return;
      const row = document.createElement("tr");
      row.append(cell(key, "key"), cell(ours[place], "setting"), cell(theirs[place], "setting"));
      rows.push(row);
    });
    document.querySelector("#diff tbody").replaceChildren(...rows);
    document.querySelectorAll("#diff thead th.name").forEach((head, number) => { head.textContent = picks[number].value; });
    document.getElementById("diff-none").hidden = rows.length > 0;
  };
  for (const pick of picks) pick.addEventListener("change", show);
}
