// Holds a picture as props.value, a data URL, and triggers "input" when it is another one.
// A picture may be chosen, dropped or pasted; with props.pen, one can draw on it.
// It is scaled down here to props.side pixels, so that large photos need not travel.
const find = (name) => element.querySelector(name);
const canvas = find("canvas"), file = find("input[type=file]"), clear = find(".clear");
const ink = canvas.getContext("2d");
const PEN = 0.075; // of the width of the canvas: about as a digit of MNIST

const send = () => {
  props.value = canvas.toDataURL("image/png");
  trigger("input");
};
const blank = () => {
  canvas.width = canvas.height = props.side;
  ink.fillStyle = "black";
  ink.fillRect(0, 0, canvas.width, canvas.height);
};
const show = (picture) => {
  const scale = Math.min(1, props.side / Math.max(picture.width, picture.height));
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  ink.fillStyle = "white"; // under what is transparent
  ink.fillRect(0, 0, canvas.width, canvas.height);
  ink.imageSmoothingQuality = "high";
  ink.drawImage(picture, 0, 0, canvas.width, canvas.height);
};
const take = async (chosen) => {
  if (!chosen || !/^image\/(png|jpeg|webp)$/.test(chosen.type)) return;
  const picture = await createImageBitmap(chosen).catch(() => null);
  if (picture === null) return;
  show(picture);
  send();
};

find(".choose").addEventListener("click", () => file.click());
file.addEventListener("change", () => {
  take(file.files[0]);
  file.value = "";
});
element.addEventListener("dragover", (event) => event.preventDefault());
element.addEventListener("drop", (event) => {
  event.preventDefault();
  take(event.dataTransfer.files[0]);
});
element.addEventListener("paste", (event) => take(event.clipboardData.files[0]));

clear.hidden = !props.pen;
clear.addEventListener("click", () => {
  blank();
  props.value = "";
  trigger("input");
});
if (props.pen) {
  canvas.classList.add("pen");
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const scale = canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    Object.assign(ink, { strokeStyle: "white", lineCap: "round", lineJoin: "round" });
    ink.lineWidth = PEN * canvas.width;
    ink.beginPath();
    ink.moveTo(...at(event));
    ink.lineTo(...at(event));
    ink.stroke();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    ink.lineTo(...at(event));
    ink.stroke();
  });
  canvas.addEventListener("lostpointercapture", send);
}

blank();
if (props.value) {
  const picture = Object.assign(new Image(), { src: props.value });
  picture.decode().then(() => show(picture), () => null);
}
