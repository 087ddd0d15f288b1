const table = document.querySelector(".models"), groups = [...table.tBodies];
const rowsOf = group => [...group.rows].filter(row => row.dataset.model);
const filters = document.querySelector(".filters"), count = filters.querySelector("output");

function keyOf(row, head) {
  const cell = row.cells[head.cellIndex];
  return head.classList.contains("number") ? parseFloat(cell.dataset.value) : cell.dataset.value ?? cell.textContent.trim();
}

function compareKeys(one, other) {
  return typeof one === "number" ? one - other : one.localeCompare(other);
}

function sortBy(head) {
  const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  for (const group of groups) {
    const rows = rowsOf(group), keys = new Map(rows.map(row => [row, keyOf(row, head)]));
    const unknown = row => Number.isNaN(keys.get(row));
    rows.sort((one, other) => unknown(one) - unknown(other) || direction * compareKeys(keys.get(one), keys.get(other)) || 0);
    group.append(...rows);
  }
}

function filter() {
  const words = filters.elements.words.value.toLowerCase().split(/\s+/);
  const selects = [...filters.querySelectorAll("select")], models = new Set();
  for (const group of groups) {
    for (const row of rowsOf(group)) {
      const text = `${row.textContent} ${row.dataset.data}`.toLowerCase();
      row.hidden = !(words.every(word => text.includes(word))
        && selects.every(select => !select.value || row.dataset[select.name] === select.value));
      if (!row.hidden) models.add(row.dataset.model);
    }
    group.hidden = rowsOf(group).every(row => row.hidden);
  }
  count.value = `${models.size} of ${groups.flatMap(rowsOf).length} models`;
  for (const part of document.querySelectorAll("svg [data-model]"))
    part.classList.toggle("filtered", !models.has(part.dataset.model));
}

function openCard() {
  const card = document.getElementById(location.hash.slice(1));
  if (!card?.closest("details")) return;
  card.closest("details").open = true;
  card.scrollIntoView();
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.value);
  } catch {
    // Where a page may not write to the clipboard by itself, as one without https.
    const field = document.createElement("textarea");
    field.value = button.value;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  button.textContent = "copied";
  setTimeout(() => button.textContent = "copy", 2000);
}

for (const head of table.tHead.rows[0].cells) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  button.addEventListener("click", () => sortBy(head));
  head.append(button);
}
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", () => copy(button));
  button.hidden = false;
}
filters.addEventListener("input", filter);
filters.addEventListener("reset", event => {
  // Left to itself it empties the count as well, later than this.
  event.preventDefault();
  for (const field of filters.querySelectorAll("input, select")) field.value = "";
  filter();
});
filters.addEventListener("submit", event => event.preventDefault());
addEventListener("hashchange", openCard);
filters.hidden = false;
filter();
openCard();
