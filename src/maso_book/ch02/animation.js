// Plays the frames of `animation.py`. `root` holds the canvas and the line of text.
// A frame is {epoch, cells, accuracy, data}: data is base64 of uint16, see `animation.frame`.
/* global film */
// oxlint-disable-next-line no-unused-vars -- the page calls it
function playFilm(root, frames) {
  const [canvas, text] = ["canvas", "p"].map(name => root.querySelector(name));
  const pen = canvas.getContext("2d"), scale = canvas.width / 65535;
  function draw(number) {
    const frame = frames[number];
    const bytes = Uint8Array.from(atob(frame.data), c => c.charCodeAt(0));
    const value = new Uint16Array(bytes.buffer), cells = value[0];
    let at = 1 + 4 * cells;
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.strokeStyle = "#fff";
    pen.lineWidth = 0.8;
    for (let i = 0; i < cells; i++) {
      const [corners, red, green, blue] = value.subarray(1 + 4 * i, 5 + 4 * i);
      pen.beginPath();
      for (let k = 0; k < corners; k++, at += 2) pen.lineTo(value[at] * scale, value[at + 1] * scale);
      pen.closePath();
      pen.fillStyle = `rgb(${red},${green},${blue})`;
      pen.fill();
      pen.stroke();
    }
    text.textContent = `epoch ${frame.epoch}: ${frame.cells} cells, test accuracy ${frame.accuracy}`;
  }
  film(root, frames.length, draw, 250);
}
