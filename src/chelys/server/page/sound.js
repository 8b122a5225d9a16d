// Sound in the browser: plays samples while they come, draws waveforms, writes WAV.
const RATE = 24000;

export class Player {
  constructor() {
    this.context = null;
    this.sources = [];
    this.end = 0;  // when what was fed will have been played, in the context's time
    this.loudest = 0;  // of what was heard
  }

  unlock() {  // browsers let sound begin with a click or a key
    if (!this.context) {
      this.context = new AudioContext();
      this.meter = new AnalyserNode(this.context, { fftSize: 2048 });
      this.meter.connect(this.context.destination);
      const heard = new Float32Array(this.meter.fftSize);
      setInterval(() => {
        this.meter.getFloatTimeDomainData(heard);
        for (const sample of heard) this.loudest = Math.max(this.loudest, Math.abs(sample));
      }, 50);
    }
    this.context.resume();
  }

  begin() {
    for (const source of this.sources) source.stop();
    this.sources = [];
    this.end = 0;
  }

  feed(samples) {
    if (!samples.length) return;
    const buffer = this.context.createBuffer(1, samples.length, RATE);
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(this.context, { buffer });
    source.connect(this.meter);
    this.end = Math.max(this.end, this.context.currentTime + 0.03);
    source.start(this.end);
    this.end += buffer.duration;
    this.sources.push(source);
  }

  async decode(bytes) {
    const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes);
    return decoded.getChannelData(0);
  }
}

export function drawWave(canvas, samples) {
  const drawing = canvas.getContext("2d"), { width, height } = canvas, per = Math.max(1, samples.length / width);
  drawing.clearRect(0, 0, width, height);
  drawing.fillStyle = getComputedStyle(canvas).color;
  for (let x = 0; x < width; x++) {
    let peak = 0;
    for (let i = Math.floor(x * per); i < Math.min(samples.length, (x + 1) * per); i++) peak = Math.max(peak, Math.abs(samples[i]));
    const tall = Math.max(1, peak * height);
    drawing.fillRect(x, (height - tall) / 2, 1, tall);
  }
}

export function toWav(samples) {
  const data = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const text = (at, letters) => [...letters].forEach((letter, i) => data.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF"); data.setUint32(4, 36 + 2 * samples.length, true); text(8, "WAVEfmt ");
  data.setUint32(16, 16, true); data.setUint16(20, 1, true); data.setUint16(22, 1, true);
  data.setUint32(24, RATE, true); data.setUint32(28, 2 * RATE, true); data.setUint16(32, 2, true); data.setUint16(34, 16, true);
  text(36, "data"); data.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => data.setInt16(44 + 2 * i, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return new Blob([data], { type: "audio/wav" });
}
