// Choices: the controls of the page; what differs from its start stands in the address, so that a link shows the same.
const controls = [...document.querySelectorAll(".choices [name]")];
const valueOf = control => control.type === "checkbox" ? control.checked : control.value;
controls.forEach(control => control.start = valueOf(control));

function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const control of controls) {
    if (control.type === "checkbox") {
      control.checked = control.start !== given.getAll(control.name).includes(control.value);
    } else {
      control.value = given.get(control.name) ?? control.start;
      if (control.selectedIndex === -1) control.value = control.start;
    }
  }
  document.querySelectorAll(".sweep").forEach(sweep => sweep.dispatchEvent(new Event("chosen")));
}

function toAddress() {
  const changed = controls.filter(control => valueOf(control) !== control.start);
  const pairs = new Set(changed.map(control => String(new URLSearchParams([[control.name, control.value]]))));
  history.replaceState(null, "", `${location.href.split("#")[0]}#${[...pairs].join("&")}`);
}

document.addEventListener("input", ({target}) => {
  if (!controls.includes(target)) return;
  for (const twin of controls) {
    if (twin.type === "checkbox" && twin.name === target.name && twin.value === target.value) twin.checked = target.checked;
  }
  toAddress();
  const isOfFigure = target.type !== "checkbox" && target.closest("figure");
  (isOfFigure || target.closest(".sweep")).dispatchEvent(new Event("chosen"));
});
addEventListener("hashchange", () => location.hash.includes("=") && fromAddress());
document.querySelectorAll(".choices").forEach(choices => choices.hidden = false);
fromAddress();
