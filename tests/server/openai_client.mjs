// OpenAI's client for JavaScript against a running server: node openai_client.mjs URL. Prints one JSON object.
import { createRequire } from "node:module";
import { createHash } from "node:crypto";

const require = createRequire(`${process.env.NODE_PATH.split(":")[0]}/`);
const { OpenAI } = require("openai");
const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "none", maxRetries: 0 });
const asked = { model: "tts-1", voice: "low", input: "Hello there. One, two, three! There, hello.", seed: 7 };
const found = { bytes: {}, pieces: 0 };
for (const response_format of ["mp3", "opus", "aac", "flac", "wav", "pcm"]) {
  const answer = await client.audio.speech.create({ ...asked, response_format });
  const data = Buffer.from(await answer.arrayBuffer());
  found.bytes[response_format] = data.length;
  if (response_format === "pcm") found.pcm = createHash("sha256").update(data).digest("hex");
}
const streamed = await client.audio.speech.create({ ...asked, response_format: "pcm" });
const parts = [];
for await (const part of streamed.body) parts.push(Buffer.from(part));
found.pieces = parts.length;
found.streamed = createHash("sha256").update(Buffer.concat(parts)).digest("hex");
try {
  await client.audio.speech.create({ ...asked, voice: "nobody" });
} catch (error) {
  found.error = { status: error.status, name: error.constructor.name, message: error.message };
}
found.models = (await client.models.list()).data.map((model) => model.id);
console.log(JSON.stringify(found));
