// Uses the gateway as an application built on OpenAI's client does. Input on stdin, findings on stdout, both JSON.
import { readFileSync } from "node:fs";
import OpenAI, { NotFoundError, RateLimitError } from "openai";

const { baseURL, key, model, messages } = JSON.parse(readFileSync(0, "utf8"));
const client = new OpenAI({ baseURL, apiKey: key, maxRetries: 0 });
const asked = { model, messages, max_tokens: 20, temperature: 0.8, seed: 4 };

const models = [];
for await (const one of client.models.list()) models.push(one.id);
const whole = await client.chat.completions.create(asked);

let streamed = "";
let usage = null;
const stream = await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}

const schema = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"], additionalProperties: false };
const format = { type: "json_schema", json_schema: { name: "verdict", schema, strict: true } };
const shaped = await client.chat.completions.create({ ...asked, response_format: format });

const left = await client.chat.completions.create({ ...asked, max_tokens: 400, stream: true });
for await (const _ of left) break; // Leaving the loop aborts the request.

const refusal = async (more) => {
  try {
    await client.chat.completions.create({ ...asked, ...more });
  } catch (error) {
    return { status: error.status, type: error.type, known: error instanceof NotFoundError || error instanceof RateLimitError };
  }
};
console.log(
  JSON.stringify({
    models,
    whole: whole.choices[0].message.content,
    streamed,
    tokens: [whole.usage.completion_tokens, usage.completion_tokens],
    shaped: Object.keys(JSON.parse(shaped.choices[0].message.content)),
    unknown: await refusal({ model: "nothing" }),
    wrong: await refusal({ temperature: 9 }),
  }),
);
