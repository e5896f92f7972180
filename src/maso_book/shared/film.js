// Plays a film: `draw(number)` shows one of `count` frames; button and slider are those of `root`.
// oxlint-disable-next-line no-unused-vars -- the players of the chapters call it
function film(root, count, draw, pause) {
  const button = root.querySelector("button"), slider = root.querySelector("input");
  let timer = null;
  function show(number) { draw(number); slider.value = number; }
  function stop() { clearInterval(timer); timer = null; button.textContent = "Play"; }
  button.onclick = () => {
    if (timer) return stop();
    let number = Number(slider.value) === count - 1 ? 0 : Number(slider.value);
    button.textContent = "Pause";
    show(number);
    timer = setInterval(() => { if (number === count - 1) stop(); else show(++number); }, pause);
  };
  slider.oninput = () => { stop(); show(Number(slider.value)); };
  show(0);
}
