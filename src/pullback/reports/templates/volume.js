// Both volumes in NiiVue, which runs only when the reader asks for it.
(() => {
  "use strict";
  const find = (id) => document.getElementById(id);
  const say = (text) => { find("status").textContent = text; };
  const opacity = () => Number(find("opacity").value) / 100;

  const bytes = (id) => {
    const binary = atob(JSON.parse(find(id).textContent));
    return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
  };

  const add = async (viewer, id, options) => {
    const file = new File([bytes(id)], id + ".nii.gz");
    viewer.addVolume(await niivue.NVImage.loadFromFile({ file, name: file.name, cal_min: 0, cal_max: 220, ...options }));
  };

  const load = async () => {
    if (!document.createElement("canvas").getContext("webgl2")) throw new Error("this browser has no WebGL 2");
    const script = document.createElement("script");
    script.textContent = find("niivue-script").textContent;
    document.head.append(script);
    find("stage").hidden = find("controls").hidden = false;
    const viewer = new niivue.Niivue({
      isRadiologicalConvention: true, sagittalNoseLeft: true, multiplanarShowRender: 1, multiplanarLayout: 2,
      dragAndDropEnabled: false, backColor: [0, 0, 0, 1], crosshairColor: [1, 0.8, 0.3, 0.8], crosshairWidth: 0.4,
    });
    await viewer.attachToCanvas(find("gl"));
    await add(viewer, "fixed", { colormap: "green" });
    await add(viewer, "warped", { colormap: "violet", opacity: opacity() });
    viewer.setSliceType(Number(find("layout").value));
    find("layout").addEventListener("change", () => viewer.setSliceType(Number(find("layout").value)));
    find("opacity").addEventListener("input", () => viewer.setOpacity(1, opacity()));
    find("load").hidden = true;
    say("Drag to turn the volume, click or scroll in a slice to move. Green: fixed. Violet: moving, after. Grey: both agree.");
    document.documentElement.dataset.ready = "yes";
  };

  find("load").addEventListener("click", () => {
    find("load").disabled = true;
    say("Loading\u2026");
    load().catch((error) => {
      find("load").disabled = false;
      find("stage").hidden = find("controls").hidden = true;
      say("The volumes could not be shown: " + error.message + ".");
    });
  });
})();
