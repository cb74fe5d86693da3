for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const rows = [...body.rows];
  for (const [at, head] of heads.entries()) {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const text = (row) => row.cells[at].textContent.trim();
      const numeric = rows.every((row) => text(row) === "" || !Number.isNaN(Number(text(row))));
      const compare = (a, b) => numeric ? Number(a) - Number(b) : a.localeCompare(b);
      // What has no value stays at the end, whichever way.
      const order = (a, b) => text(a) === "" || text(b) === ""
        ? (text(a) === "") - (text(b) === "")
        : compare(text(a), text(b)) * (down ? -1 : 1);
      body.append(...[...rows].sort(order));
    });
  }
}
