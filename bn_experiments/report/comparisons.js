// Comparisons: the rows of a sweep's tables that its choices leave, in the order that they ask for.
function showRows(sweep) {
  const choices = sweep.querySelector(":scope > .choices");
  if (!choices) return;
  const chosen = (name, otherwise) => choices.querySelector(`[name$=".${name}"]`)?.value ?? otherwise;
  const [metric, by, only] = [chosen("metric", ""), chosen("sort", ""), chosen("only", "").toLowerCase()];
  const without = new Set([...choices.querySelectorAll("[type=checkbox]:not(:checked)")].map(box => box.value));
  for (const table of sweep.querySelectorAll("table.forest")) {
    const box = table.closest(".box");
    box.hidden = metric !== "" && metric !== box.dataset.metric;
    sortRows(table, by);
    const baseline = chosen("baseline", table.rows[1].dataset.by);
    for (const row of table.tBodies[0].rows) {
      const {by, arm, other} = row.dataset;
      const text = [".setting", "th", ".other"].map(name => row.querySelector(name)?.textContent ?? "").join(" ");
      row.hidden = by !== baseline || without.has(arm) || (by === "all" && without.has(other))
        || !text.toLowerCase().includes(only);
    }
  }
}

// `by` is the key of a column, after a minus for the largest first; rows without a number stay last.
function sortRows(table, by) {
  table.inOrder ??= [...table.tBodies[0].rows];
  if ((table.dataset.sorted ?? "") === by) return;
  table.dataset.sorted = by;
  const [key, sign] = [by.replace(/^-/, ""), by.startsWith("-") ? -1 : 1];
  const headings = [...table.tHead.rows[0].cells];
  for (const heading of headings.filter(each => each.dataset.key)) {
    heading.ariaSort = heading.dataset.key !== key ? null : sign > 0 ? "ascending" : "descending";
  }
  const column = headings.findIndex(heading => heading.dataset.key === key);
  const valueOf = row => {
    const cell = row.cells[column];
    return cell.classList.contains("num") ? parseFloat(cell.dataset.v) : cell.textContent;
  };
  const compare = (a, b) => typeof a === "string"
    ? sign * a.localeCompare(b, "en", {numeric: true})
    : Number.isNaN(a) - Number.isNaN(b) || sign * (a - b) || 0;
  const pairs = column < 0 ? [] : table.inOrder.map(row => [valueOf(row), row]);
  table.tBodies[0].append(...(column < 0 ? table.inOrder : pairs.sort((a, b) => compare(a[0], b[0])).map(pair => pair[1])));
}

// A heading sorts by its column, and once more the other way round.
for (const heading of document.querySelectorAll(".forest th[data-key]")) {
  const button = document.createElement("button");
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => {
    const select = heading.closest(".sweep").querySelector(':scope > .choices [name$=".sort"]');
    const key = heading.dataset.key;
    select.value = select.value === key ? `-${key}` : key;
    select.dispatchEvent(new Event("input", {bubbles: true}));
  });
}

for (const sweep of document.querySelectorAll(".sweep")) sweep.addEventListener("chosen", () => showRows(sweep));
