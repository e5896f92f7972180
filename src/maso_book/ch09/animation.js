// Plays the frames of `animation.py`. `root` holds the picture, the slider and the line that names β.
// A frame is {beta, data}: data is a PNG in base64.
/* global film */
// oxlint-disable-next-line no-unused-vars -- the page calls it
function playMelting(root, frames) {
  const [picture, slider, line] = ["img", "input", "output"].map(name => root.querySelector(name));
  function draw(number) {
    picture.src = `data:image/png;base64,${frames[number].data}`;
    line.textContent = `β = ${frames[number].beta}`;
    slider.setAttribute("aria-valuetext", line.textContent);
  }
  film(root, frames.length, draw, 300);
}
