(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");

  // Radio buttons write their value to <html data-...>; the style sheet does the rest.
  for (const input of document.querySelectorAll("input[type=radio]")) {
    const apply = () => { if (input.checked) root.dataset[input.name] = input.value; };
    input.addEventListener("change", apply);
    apply();
  }

  // The slider: by its control, or by dragging on a picture.
  const cut = document.getElementById("cut");
  const setCut = (percent) => {
    const value = Math.min(100, Math.max(0, percent));
    root.style.setProperty("--cut", value + "%");
    cut.value = value;
    document.dispatchEvent(new Event("cut"));
  };
  cut.addEventListener("input", () => setCut(Number(cut.value)));
  document.addEventListener("set-cut", (event) => setCut(event.detail));
  for (const frame of document.querySelectorAll(".stack")) {
    const follow = (event) => {
      if (root.dataset.mode !== "slider" || event.buttons === 0) return;
      const box = frame.getBoundingClientRect();
      setCut(((event.clientX - box.left) / box.width) * 100);
    };
    frame.addEventListener("pointerdown", follow);
    frame.addEventListener("pointermove", follow);
    frame.addEventListener("dragstart", (event) => event.preventDefault());
  }
  setCut(50);
})();
