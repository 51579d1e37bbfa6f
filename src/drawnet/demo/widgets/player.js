// Plays props.value = {frames: [data URL, ...], notes: [words, ...]}; a single frame is just shown.
const find = (name) => element.querySelector(name);
const canvas = find("canvas"), note = find(".note"), controls = find(".controls");
const play = find(".play"), position = find(".position"), speed = find(".speed");
const HOLD = 1500; // milliseconds on the last frame
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
let pictures = [], notes = [], timer = null, run = 0;
speed.value = props.speed;

const show = (t) => {
  const picture = pictures[t];
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  canvas.getContext("2d").drawImage(picture, 0, 0);
  position.value = t;
  note.textContent = notes[t];
  canvas.setAttribute("aria-label", notes[t]);
};
const stop = () => {
  clearTimeout(timer);
  timer = null;
  play.textContent = "▶";
};
const next = () => {
  const t = (Number(position.value) + 1) % pictures.length;
  show(t);
  timer = setTimeout(next, t === pictures.length - 1 ? HOLD : 1000 / Number(speed.value));
};
const start = () => {
  play.textContent = "❚❚";
  timer = setTimeout(next, 1000 / Number(speed.value));
};
const load = async () => {
  if (!props.value || !props.value.frames) return;
  const mine = ++run;
  const loaded = props.value.frames.map((url) => Object.assign(new Image(), { src: url }));
  await Promise.all(loaded.map((picture) => picture.decode()));
  if (mine !== run) return; // another film has come meanwhile
  stop();
  pictures = loaded;
  notes = props.value.notes;
  position.max = pictures.length - 1;
  controls.hidden = pictures.length === 1;
  show(controls.hidden || !calm ? 0 : pictures.length - 1);
  if (!controls.hidden && !calm) start();
};

play.addEventListener("click", () => (timer === null ? start() : stop()));
position.addEventListener("input", () => {
  stop();
  show(Number(position.value));
});
watch("value", load);
load();
