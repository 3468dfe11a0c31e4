// The stand-in provider satisfies the vendors' own libraries, without a gateway between them.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import Anthropic from '@anthropic-ai/sdk';
import { GoogleGenAI } from '@google/genai';

import { PDF, PDF_BYTES, reset, standinUrl } from './helpers.mjs';

const claude = new Anthropic({ apiKey: 'sk-ant-standin', baseURL: `${standinUrl}/anthropic`, maxRetries: 0 });
const gemini = new GoogleGenAI({ apiKey: 'AIzaStandin', httpOptions: { baseUrl: `${standinUrl}/google` } });
const CITY = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const user = (content) => ({ role: 'user', content });

beforeEach(reset);

test('the Anthropic library is answered, also on streams', async () => {
  const request = { model: 'claude-haiku-4-5', max_tokens: 100, messages: [user('hello there')] };
  const answer = await claude.messages.create(request);
  assert.equal(answer.content[0].text, 'You said: hello there');
  assert.equal(answer.stop_reason, 'end_turn');
  const streamed = await claude.messages.stream(request).finalMessage();
  assert.deepEqual(streamed.content, answer.content);
  assert.deepEqual(streamed.usage.output_tokens, answer.usage.output_tokens);
  assert.ok((await claude.messages.countTokens({ model: request.model, messages: request.messages })).input_tokens);
});

for (const thinking of [null, { type: 'enabled', budget_tokens: 1024 }]) {
  test(`the Anthropic library goes a tool round ${thinking ? 'with' : 'without'} thinking`, async () => {
    const messages = [user('call tool weather with {"city": "Oslo"}')];
    const request = {
      model: 'claude-haiku-4-5', max_tokens: 2000, messages,
      tools: [{ name: 'weather', input_schema: CITY }], ...(thinking && { thinking }),
    };
    const first = await claude.messages.stream(request).finalMessage();
    const call = first.content.find((block) => block.type === 'tool_use');
    assert.deepEqual(call.input, { city: 'Oslo' });
    messages.push({ role: 'assistant', content: first.content });
    messages.push(user([{ type: 'tool_result', tool_use_id: call.id, content: 'rain' }]));
    const second = await claude.messages.create(request);
    assert.equal(second.content.at(-1).text, 'The tools said: weather = rain');
  });
}

test('the Anthropic library reads PDFs, lists models and knows the errors', async () => {
  const source = { type: 'base64', media_type: 'application/pdf', data: PDF };
  const answer = await claude.messages.create({
    model: 'claude-opus-4-8', max_tokens: 100, messages: [user([{ type: 'document', source }])],
  });
  assert.match(answer.content[0].text, new RegExp(`^I see application/pdf of ${PDF_BYTES} bytes`));
  const ids = [];
  for await (const model of claude.models.list()) ids.push(model.id);
  assert.ok(ids.includes('claude-haiku-4-5'));
  const fail = (model) => claude.messages.create({ model, max_tokens: 9, messages: [user('x')] });
  await assert.rejects(fail('claude-haiku-4-5~status=429'), Anthropic.RateLimitError);
  await assert.rejects(fail('no-such-model'), Anthropic.NotFoundError);
  const stream = claude.messages.stream({
    model: 'claude-haiku-4-5~error_event,after=4', max_tokens: 99, messages: [user('a b c d e f')] });
  await assert.rejects(stream.finalMessage(), Anthropic.APIError);
});

test('the Google library is answered, also on streams', async () => {
  const request = { model: 'gemini-2.5-flash', contents: 'hello there', config: { temperature: 0.5 } };
  const answer = await gemini.models.generateContent(request);
  assert.equal(answer.text, 'You said: hello there');
  assert.ok(answer.usageMetadata.totalTokenCount > 0);
  let text = '';
  for await (const frame of await gemini.models.generateContentStream(request)) text += frame.text ?? '';
  assert.equal(text, 'You said: hello there');
  assert.ok((await gemini.models.countTokens({ model: request.model, contents: 'x y z' })).totalTokens > 0);
});

for (const model of ['gemini-2.5-flash', 'gemini-3-pro-preview']) {
  test(`the Google library goes a tool round with ${model}`, async () => {
    const contents = [{ role: 'user', parts: [{ text: 'call tool weather with {"city": "Tromsø"}' }] }];
    const config = { tools: [{ functionDeclarations: [{ name: 'weather', parametersJsonSchema: CITY }] }] };
    const first = await gemini.models.generateContent({ model, contents, config });
    const [call] = first.functionCalls;
    assert.deepEqual(call.args, { city: 'Tromsø' });
    const functionResponse = { name: call.name, id: call.id, response: { output: 'rain' } };
    contents.push(first.candidates[0].content, { role: 'user', parts: [{ functionResponse }] });
    const second = await gemini.models.generateContent({ model, contents, config });
    assert.equal(second.text, 'The tools said: weather = rain');
  });
}

test('the Google library embeds, lists models and knows the errors', async () => {
  const { embeddings } = await gemini.models.embedContent({
    model: 'gemini-embedding-001', contents: ['a', 'b'], config: { outputDimensionality: 16 } });
  assert.deepEqual(embeddings.map((e) => e.values.length), [16, 16]);
  const names = [];
  for await (const model of await gemini.models.list()) names.push(model.name);
  assert.ok(names.includes('models/gemini-2.5-flash'));
  await assert.rejects(gemini.models.generateContent({ model: 'gemini-2.5-flash~status=400', contents: 'x' }),
    (error) => error.status === 400);
});
