"use strict";
for (const subject of document.querySelectorAll(".subject")) {
  const stage = subject.querySelector(".stage");
  const divider = subject.querySelector(".divider");
  const figures = [...subject.querySelectorAll("figure")];
  const choice = { left: subject.querySelector(".choose-left"), right: subject.querySelector(".choose-right") };
  const zoom = subject.querySelector(".choose-zoom");
  const width = Number(stage.dataset.width);
  const height = Number(stage.dataset.height);

  const show = () => {
    for (const side of ["left", "right"]) {
      figures.forEach((figure, index) => {
        figure.classList.toggle(side, index === choice[side].selectedIndex);
      });
      stage.querySelector(".tag." + side).textContent =
        choice[side].options[choice[side].selectedIndex].text;
    }
    const names = ["left", "right"].map((s) => choice[s].options[choice[s].selectedIndex].text);
    divider.setAttribute("aria-valuetext",
      divider.value + " percent " + names[0] + ", the rest " + names[1]);
    stage.style.setProperty("--at", divider.value + "%");
  };
  const size = () => {
    const factor = Number(zoom.value);
    stage.style.width = factor ? width * factor + "px" : "100%";
    stage.style.aspectRatio = width + " / " + height;
    stage.classList.toggle("sharp", factor > 1);
  };
  const swap = () => {
    const left = choice.left.selectedIndex;
    choice.left.selectedIndex = choice.right.selectedIndex;
    choice.right.selectedIndex = left;
    show();
  };

  divider.addEventListener("input", show);
  choice.left.addEventListener("change", show);
  choice.right.addEventListener("change", show);
  zoom.addEventListener("change", size);
  subject.querySelector(".swap").addEventListener("click", swap);

  document.documentElement.classList.add("ready");
  const room = subject.querySelector(".view").clientWidth;
  const fits = (factor) => factor && width * factor <= room &&
    (factor === 1 || height * factor <= 0.75 * window.innerHeight);
  const fitting = [...zoom.options].filter((option) => fits(Number(option.value)));
  zoom.value = fitting.length ? fitting[fitting.length - 1].value : "0";
  size();
  show();
}
