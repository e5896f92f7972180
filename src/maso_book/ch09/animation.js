// Plays the frames of `animation.py`. `root` holds the picture, the button, the slider and the line that names β.
// A frame is {beta, data}: data is a PNG in base64.
// oxlint-disable-next-line no-unused-vars -- the page calls it
function playMelting(root, frames) {
  const [picture, button, slider, line] = ["img", "button", "input", "output"].map(name => root.querySelector(name));
  let timer = null;
  function draw(number) {
    picture.src = `data:image/png;base64,${frames[number].data}`;
    line.textContent = `β = ${frames[number].beta}`;
    slider.value = number;
    slider.setAttribute("aria-valuetext", line.textContent);
  }
  function stop() { clearInterval(timer); timer = null; button.textContent = "Play"; }
  button.onclick = () => {
    if (timer) return stop();
    let number = Number(slider.value) === frames.length - 1 ? 0 : Number(slider.value);
    button.textContent = "Pause";
    draw(number);
    timer = setInterval(() => { if (number === frames.length - 1) stop(); else draw(++number); }, 300);
  };
  slider.oninput = () => { stop(); draw(Number(slider.value)); };
  draw(0);
}
