// The page: asks the server, shows takes, makes voices. Everything it loads comes from this server.
import { Player, drawWave, toWav } from "/page/sound.js";

const $ = (id) => document.getElementById(id);
const player = new Player();
const takes = [];
let clips = [];
let stopping = null;
let presets = [];

// ---- the server ------------------------------------------------------------------------------------------------

async function call(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  if (answer.status === 401) $("key-row").hidden = false;
  const told = await answer.json().catch(() => null);
  throw new Error(told?.error?.message ?? `the server answered ${answer.status}`);
}

const post = (path, body, signal) =>
  call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) yield JSON.parse(block.slice("data: ".length));
  }
}

function say(text) { $("status").textContent = text; }

function complain(error) {
  if (error?.name === "AbortError") return;
  $("error").textContent = error ? error.message : "";
}

// ---- what is asked for -----------------------------------------------------------------------------------------

function voiceName() {
  const first = $("voice").value, second = $("second").value, share = Number($("share").value) / 100;
  return second && second !== first ? `${first}:${(1 - share).toFixed(2)}+${second}:${share.toFixed(2)}` : first;
}

function asked(seed) {
  return { input: $("text").value, voice: voiceName(), preset: $("preset").value, ...(seed === undefined ? {} : { seed }) };
}

function showCommands(said = asked($("seed").value === "" ? takes.at(-1)?.seed : Number($("seed").value))) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const body = { model: "tts-1", ...said, early: false };  // whole sentences, as the command line says them
  $("command").value = `chelys speak ${quoted(body.input)} -v ${quoted(body.voice)} -p ${body.preset}` +
    (body.steps ? ` --set steps=${body.steps}` : "") + (body.seed === undefined ? "" : ` --seed ${body.seed}`) + " -o speech.wav";
  $("curl").value = `curl ${location.origin}/v1/audio/speech -H 'Content-Type: application/json' ` +
    `-d ${quoted(JSON.stringify(body))} -o speech.mp3`;
}

// ---- speaking --------------------------------------------------------------------------------------------------

async function speak() {
  complain(null);
  player.unlock();
  stopping = new AbortController();
  $("speak").disabled = true;
  $("stop").disabled = false;
  try {
    const count = Number($("takes").value);
    const first = $("seed").value === "" ? Math.floor(Math.random() * 1e6) : Number($("seed").value);
    for (let number = 0; number < count; number++) {
      await speakTake({ ...asked((first + number) % 2 ** 32) }, number === 0);
    }
    say(count > 1 ? `${count} takes are ready to compare.` : `Done: ${takes.at(-1).about}`);
  } catch (error) {
    say("");
    complain(error);
  } finally {
    $("speak").disabled = false;
    $("stop").disabled = true;
    stopping = null;
    showCommands();
  }
}

async function speakTake(body, aloud, replaced) {
  const begun = performance.now();
  say("Waiting for the first audio ...");
  const answer = await post(
    "/v1/audio/speech", { ...body, response_format: "pcm", stream_format: "sse" }, stopping?.signal);
  const parts = [];
  let first = 0, done = null;
  if (aloud) player.begin();
  for await (const event of events(answer)) {
    if (event.type === "error") throw new Error(event.error.message);
    if (event.type === "speech.audio.done") { done = event.chelys; continue; }
    const bytes = Uint8Array.from(atob(event.audio), (c) => c.charCodeAt(0));
    const samples = Float32Array.from(new Int16Array(bytes.buffer), (s) => s / 32768);
    first ||= performance.now() - begun;
    parts.push(samples);
    if (aloud) player.feed(samples);
    say(`Speaking: ${(parts.reduce((sum, part) => sum + part.length, 0) / 24000).toFixed(1)} s are here.`);
  }
  if (!done) throw new Error("the speech broke off");
  const audio = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (audio.set(part, at), at + part.length), 0);
  const take = {
    body, audio, seed: done.seed, score: done.score, warnings: done.warnings, kept: false,
    about: `${(audio.length / 24000).toFixed(2)} s, seed ${done.seed}, first audio after ${(first / 1000).toFixed(2)} s`,
  };
  if (replaced) takes.splice(takes.indexOf(replaced) + 1, 0, take); else takes.push(take);
  showTakes();
  return take;
}

function showTakes() {
  $("board").hidden = takes.length === 0;
  replaceItems($("take-list"), takes.map((take, place) => {
    const item = element("li", { className: `take${take.kept ? " kept" : ""}` });
    const name = `Take ${place + 1}`;
    const canvas = element("canvas", { width: 640, height: 128 });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Waveform of take ${place + 1}`);
    const steps = take.body.steps ? `, ${take.body.steps} steps` : "";
    item.append(
      element("h3", {}, take.kept ? `${name}, kept` : name),
      element("p", { className: "about" }, `${take.body.voice}, ${take.body.preset}${steps}: ${take.about}`),
      element("p", { className: "score" }, `Score ${take.score === null ? "none" : take.score.toFixed(3)}`),
      canvas,
      ...take.warnings.map((warning) => element("p", { className: "bad" }, warning)),
      buttons(name, {
        Play: () => { player.unlock(); player.begin(); player.feed(take.audio); },
        Keep: () => { takes.forEach((other) => { other.kept = other === take; }); showTakes(); showCommands(take.body); },
        Better: () => better(take),
        Download: () => download(take, place),
        Remove: () => { takes.splice(takes.indexOf(take), 1); showTakes(); },
      }),
    );
    requestAnimationFrame(() => drawWave(canvas, take.audio));
    return item;
  }));
}

async function better(take) {
  complain(null);
  try {  // the same seed and candidates: the same words and timing, rendered with more steps
    await speakTake({ ...take.body, seed: take.seed, steps: 40 }, true, take);
    say("Rendered again with 40 steps.");
  } catch (error) { complain(error); }
}

function download(take, place) {
  const link = element("a", { href: URL.createObjectURL(toWav(take.audio)), download: `take-${place + 1}.wav` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// ---- reading ---------------------------------------------------------------------------------------------------

async function showReading() {
  complain(null);
  try {
    const read = await (await post("/v1/text", { input: $("text").value })).json();
    $("sentences").replaceChildren(...read.sentences.map((sentence) => {
      const item = element("li", {}, sentence.spoken || "(a pause)");
      item.append(element("div", { className: "phonemes" }, `${sentence.phonemes} (pause ${sentence.pause.toFixed(2)} s)`));
      return item;
    }));
    $("reading-warnings").replaceChildren(...read.warnings.map((warning) => element("li", { className: "bad" }, warning)));
    $("reading").hidden = false;
  } catch (error) { complain(error); }
}

// ---- voices ----------------------------------------------------------------------------------------------------

async function loadVoices(chosen) {
  const { data } = await (await call("/v1/audio/voices")).json();
  for (const [list, empty] of [[$("voice"), []], [$("second"), [new Option("nothing", "")]]]) {
    const before = chosen && list === $("voice") ? chosen : list.value;
    list.replaceChildren(...empty, ...[["built in", "Built in"], ["own", "Your own"]].flatMap(([kind, label]) => {
      const options = data.filter((voice) => voice.kind === kind).map((voice) => new Option(voice.name, voice.id));
      if (!options.length) return [];
      const group = element("optgroup", { label });
      group.append(...options);
      return [group];
    }), ...(list === $("voice") ? [new Option("a random one (random:1)", "random:1")] : []));
    if ([...list.options].some((option) => option.value === before)) list.value = before;
  }
}

function showClips() {
  replaceItems($("clip-list"), clips.map((clip) => {
    const item = element("li", {}, `${clip.name} (${Math.ceil(clip.size / 1000)} kB) `);
    item.append(buttons(clip.name, { Remove: () => { clips = clips.filter((other) => other !== clip); showClips(); } }));
    return item;
  }));
}

function clipForm() {
  const form = new FormData();
  for (const clip of clips) form.append("files", clip, clip.name);
  return form;
}

async function checkClips() {
  complain(null);
  try {
    $("check").textContent = "Listening to the clips ...";
    const found = await (await call("/v1/audio/voices/check", { method: "POST", body: clipForm() })).json();
    $("check").replaceChildren(element("p", {}, found.good ? "The clips are fit to make a voice of." :
      "The voice will suffer from what was found."), list(found.check));
  } catch (error) {
    $("check").textContent = "";
    complain(error);
  }
}

async function makeVoice() {
  complain(null);
  const form = clipForm();
  form.append("name", $("name").value);
  try {
    $("check").textContent = "Listening to the clips ...";
    const voice = await (await call("/v1/audio/voices", { method: "POST", body: form })).json();
    await loadVoices(voice.id);
    $("check").replaceChildren(element("p", {}, `The voice ${voice.name} is made and chosen.`), list(voice.check));
    clips = [];
    showClips();
    showCommands();
  } catch (error) {
    $("check").textContent = "";
    complain(error);
  }
}

async function removeVoice() {
  complain(null);
  try {
    const name = $("voice").value;
    if (!confirm(`Delete the voice ${name}?`)) return;
    await call(`/v1/audio/voices/${encodeURIComponent(name)}`, { method: "DELETE" });
    $("check").textContent = `The voice ${name} is deleted.`;
    await loadVoices();
  } catch (error) { complain(error); }
}

let recorder = null;

async function record() {
  complain(null);
  if (recorder) { recorder.stop(); return; }
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const pieces = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = (event) => pieces.push(event.data);
    recorder.onstop = async () => {
      recorder = null;
      stream.getTracks().forEach((track) => track.stop());
      $("record").setAttribute("aria-pressed", "false");
      $("record").textContent = "Record";
      const audio = await player.decode(await new Blob(pieces).arrayBuffer());  // as WAV every server can read it
      clips.push(new File([toWav(audio)], `recording-${clips.length + 1}.wav`));
      showClips();
    };
    recorder.start();
    $("record").setAttribute("aria-pressed", "true");
    $("record").textContent = "Stop recording";
  } catch (error) { complain(error); }
}

// ---- elements --------------------------------------------------------------------------------------------------

function element(tag, properties = {}, text = null) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== null) made.textContent = text;
  return made;
}

function list(lines) {
  const made = element("ul");
  made.append(...lines.map((line) => element("li", {}, line)));
  return made;
}

function buttons(of, actions) {
  const made = element("div", { className: "buttons" });
  for (const [label, action] of Object.entries(actions)) {
    const button = element("button", { type: "button", onclick: action }, label);
    button.setAttribute("aria-label", `${label}: ${of}`);
    made.append(button);
  }
  return made;
}

function replaceItems(list, items) {  // the focus stays where it was
  const label = list.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  list.replaceChildren(...items);
  if (label) [...list.querySelectorAll("button")].find((one) => one.getAttribute("aria-label") === label)?.focus();
}

// ---- start -----------------------------------------------------------------------------------------------------

async function start() {
  const ready = await (await call("/ready")).json();
  presets = ready.presets;
  $("preset").replaceChildren(...presets.map((name) => new Option(name, name, name === ready.preset, name === ready.preset)));
  await loadVoices();
  showCommands();
}

$("speak-form").addEventListener("submit", (event) => { event.preventDefault(); speak(); });
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); $("speak-form").requestSubmit(); }
});
$("stop").addEventListener("click", () => { stopping?.abort(); player.begin(); say("Stopped."); });
$("read").addEventListener("click", showReading);
$("make").addEventListener("click", makeVoice);
$("check-clips").addEventListener("click", checkClips);
$("remove").addEventListener("click", removeVoice);
$("record").addEventListener("click", record);
$("clips").addEventListener("change", (event) => { clips.push(...event.target.files); event.target.value = ""; showClips(); });
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") { clips.push(...event.dataTransfer.files); showClips(); }
  });
}
$("share").addEventListener("input", () => { $("share-shown").textContent = `${$("share").value} %`; });
$("second").addEventListener("change", () => { $("share").disabled = !$("second").value; });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTakes);  // waveforms have the colours of then
$("key").addEventListener("change", () => { sessionStorage.setItem("key", $("key").value); start().then(() => complain(null), complain); });
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText($(button.dataset.copies).value);
    say("Copied.");
  });
}
for (const id of ["text", "voice", "second", "share", "preset", "seed"]) $(id).addEventListener("input", () => showCommands());
window.chelys = { player, takes };  // for those who look from outside
start().catch(complain);
