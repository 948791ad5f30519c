"use strict";
(function () {
  const responses = JSON.parse(document.getElementById("responses").textContent);
  const format = (value) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(1);
  for (const box of document.querySelectorAll(".responses")) {
    const known = responses[box.dataset.dimension];
    if (!known) continue;
    const slider = box.querySelector("input");
    const list = box.querySelector("ul");
    const output = box.querySelector("output");
    const largest = Math.max(0.1, ...known.changes.flat().map(Math.abs));
    const rows = known.genes.map((gene) => {
      const row = document.createElement("li");
      for (const part of ["gene", "track", "change"]) {
        const span = document.createElement("span");
        span.className = part;
        row.append(span);
      }
      row.children[0].textContent = gene;
      row.children[0].title = gene;
      const bar = document.createElement("span");
      bar.className = "bar";
      row.children[1].append(bar);
      list.append(row);
      return { bar, change: row.children[2] };
    });
    const show = () => {
      const step = Number(slider.value);
      const value = known.values[step];
      const inside = known.in_range[step];
      output.textContent = value.toFixed(1).replace("-", "\u2212") + (inside ? "" : " (no cells there)");
      slider.setAttribute("aria-valuetext", output.textContent);
      box.classList.toggle("outside", !inside);
      rows.forEach(({ bar, change }, i) => {
        const x = known.changes[i][step];
        const width = (50 * Math.abs(x)) / largest;
        bar.style.left = (x < 0 ? 50 - width : 50) + "%";
        bar.style.width = width + "%";
        bar.style.background = x < 0 ? "var(--down)" : "var(--up)";
        change.textContent = format(x);
      });
    };
    slider.max = String(known.values.length - 1);
    slider.value = String(known.in_range.lastIndexOf(true));
    slider.addEventListener("input", show);
    box.hidden = false;
    show();
  }
})();
