// The official Google library against the gateway, with each of the three dialects behind it.

import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';

import { ApiError, FunctionCallingConfigMode, GoogleGenAI, Type } from '@google/genai';

import { PDF, PDF_BYTES, PNG, PNG_BYTES, direct, key, lastCallId, reset, url, waitForCalls } from './helpers.mjs';

const client = new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: url, timeout: 60_000 } });

const PROVIDERS = [
  {
    prefix: 'openai/', model: 'gpt-4o-mini', embedder: 'text-embedding-3-small',
    thinker: 'gpt-5-mini~reasoning', signs: [],
  },
  {
    prefix: 'anthropic/', model: 'claude-haiku-4-5', embedder: null,
    thinker: 'claude-haiku-4-5', signs: ['claude-haiku-4-5', 'claude-sonnet-4-6', 'claude-opus-4-8'],
  },
  {
    prefix: 'google/', model: 'gemini-2.5-flash', embedder: 'gemini-embedding-001',
    thinker: 'gemini-2.5-flash', signs: ['gemini-2.5-flash', 'gemini-3-pro-preview'],
  },
];

const WEATHER = {
  name: 'weather', description: 'The weather of a city.',
  parameters: { type: Type.OBJECT, properties: { city: { type: Type.STRING } }, required: ['city'] },
};
const NEWS = {
  name: 'news', description: 'The news of a city.',
  parametersJsonSchema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
};
const TOOLS = [{ functionDeclarations: [WEATHER, NEWS] }];
const TWO_CALLS = 'call tool weather with {"city": "Oslo"} and call tool news with {"city": "Rome"}';

/** The stand-in remembers which calls it has signed; other tests' calls are left alone. */
const SIGNED_CALLS = 'call tool weather with {"city": "Lima"} and call tool news with {"city": "Quito"}';

const PERSON = {
  type: Type.OBJECT, required: ['name', 'age', 'tags', 'kind'],
  properties: {
    name: { type: Type.STRING }, age: { type: Type.INTEGER },
    kind: { type: Type.STRING, format: 'enum', enum: ['a', 'b'] },
    tags: { type: Type.ARRAY, items: { type: Type.STRING }, minItems: '0' },
  },
};

function checkPerson(person) {
  assert.deepEqual(Object.keys(person).sort(), ['age', 'kind', 'name', 'tags']);
  assert.equal(typeof person.name, 'string');
  assert.ok(Number.isInteger(person.age));
  assert.ok(Array.isArray(person.tags));
  assert.ok(['a', 'b'].includes(person.kind));
}

function checkUsage(usage) {
  assert.ok(usage.promptTokenCount > 0 && usage.candidatesTokenCount > 0);
  assert.equal(usage.totalTokenCount,
    usage.promptTokenCount + usage.candidatesTokenCount + (usage.thoughtsTokenCount ?? 0));
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const partsOf = (answer) => answer.candidates?.[0]?.content?.parts ?? [];
const said = (parts, thought = false) =>
  parts.filter((p) => p.text !== undefined && Boolean(p.thought) === thought).map((p) => p.text).join('');
const textOf = (chunks) => said(chunks.flatMap(partsOf));
const called = (parts) => parts.filter((p) => p.functionCall)
  .map((p) => [p.functionCall.name, p.functionCall.args]);

/** Runs `work`, which must fail with an ApiError, and returns it. */
async function failure(work) {
  const error = await work().then(() => assert.fail('it did not fail'), (e) => e);
  assert.ok(error instanceof ApiError, `${error.constructor.name}: ${error.message}`);
  return error;
}

for (const provider of direct ? [] : PROVIDERS) {
  const named = (name) => provider.prefix + name;
  const model = named(provider.model);
  const quiet = (directives) => `${model}~${directives}`;
  const ask = (contents, config = {}, other = model) => ({ model: other, contents, config });
  const generate = (...args) => client.models.generateContent(ask(...args));
  const stream = (...args) => client.models.generateContentStream(ask(...args));

  describe(`Google library, ${provider.prefix}`, { concurrency: false }, () => {
    beforeEach(reset);

    test('a message is answered', async () => {
      const answer = await generate('good morning');
      assert.equal(answer.text, 'You said: good morning');
      assert.equal(answer.candidates.length, 1);
      assert.equal(answer.candidates[0].content.role, 'model');
      assert.equal(answer.candidates[0].finishReason, 'STOP');
      assert.ok(answer.modelVersion && answer.responseId);
      checkUsage(answer.usageMetadata);
    });

    test('a system instruction and earlier turns are understood', async () => {
      const answer = await generate([
        { role: 'user', parts: [{ text: 'one' }] },
        { role: 'model', parts: [{ text: 'You said: one' }] },
        { role: 'user', parts: [{ text: 'two' }, { text: ' three' }] },
      ], { systemInstruction: 'be brief' });
      assert.equal(answer.text, 'You said: two three');
    });

    test('a token limit and a stop string cut the answer', async () => {
      const short = await generate('a rather long text', { maxOutputTokens: 2 });
      assert.equal(short.candidates[0].finishReason, 'MAX_TOKENS');
      const cut = await generate('one two three', { stopSequences: ['two'] });
      assert.equal(cut.text, 'You said: one ');
      assert.equal(cut.candidates[0].finishReason, 'STOP');
    });

    test('a stream brings the same text in pieces, one finish reason and the usage', async () => {
      const chunks = await collect(await stream('one two three'));
      assert.ok(chunks.length > 2);
      assert.equal(textOf(chunks), 'You said: one two three');
      assert.deepEqual(chunks.map((c) => c.candidates?.[0]?.finishReason).filter(Boolean), ['STOP']);
      assert.equal(new Set(chunks.map((c) => c.responseId)).size, 1);
      checkUsage(chunks.at(-1).usageMetadata);
    });

    test('a chat keeps its history, also of streams', async () => {
      const chat = client.chats.create({ model });
      assert.equal((await chat.sendMessage({ message: 'one' })).text, 'You said: one');
      await collect(await chat.sendMessageStream({ message: 'two' }));
      assert.equal((await chat.sendMessage({ message: 'three' })).text, 'You said: three');
    });

    test('a tool is called', async () => {
      const answer = await generate('call tool weather with {"city": "Oslo"}', { tools: TOOLS });
      assert.deepEqual(called(partsOf(answer)), [['weather', { city: 'Oslo' }]]);
      assert.equal(answer.candidates[0].finishReason, 'STOP');
    });

    test('two streamed tool calls come whole and in order', async () => {
      const chunks = await collect(await stream(TWO_CALLS, { tools: TOOLS }));
      assert.deepEqual(called(chunks.flatMap(partsOf)),
        [['weather', { city: 'Oslo' }], ['news', { city: 'Rome' }]]);
      assert.deepEqual(chunks.map((c) => c.candidates?.[0]?.finishReason).filter(Boolean), ['STOP']);
    });

    test('the calling mode is obeyed', async () => {
      const choose = (mode, allowedFunctionNames) => generate('hi', {
        tools: TOOLS, toolConfig: { functionCallingConfig: { mode, allowedFunctionNames } },
      });
      assert.deepEqual(called(partsOf(await choose(FunctionCallingConfigMode.NONE))), []);
      assert.equal(called(partsOf(await choose(FunctionCallingConfigMode.ANY))).length, 1);
      const news = await choose(FunctionCallingConfigMode.ANY, ['news']);
      assert.deepEqual(called(partsOf(news)).map(([name]) => name), ['news']);
    });

    for (const ids of [true, false]) {
      test(`two tool results go back ${ids ? 'with' : 'without'} ids and are answered`, async () => {
        const contents = [{ role: 'user', parts: [{ text: TWO_CALLS }] }];
        const first = await generate(contents, { tools: TOOLS });
        const { content } = first.candidates[0];
        if (!ids) for (const part of content.parts) delete part.functionCall?.id;
        contents.push(content, {
          role: 'user',
          parts: first.functionCalls.map(({ id, name, args }) => ({
            functionResponse: { ...(ids ? { id } : {}), name, response: { output: `${args.city} is fine` } },
          })),
        });
        const second = await generate(contents, { tools: TOOLS });
        assert.equal(second.text, 'The tools said: weather = Oslo is fine; news = Rome is fine');
      });
    }

    test('an image is seen', async () => {
      const answer = await generate([{
        role: 'user', parts: [{ text: 'look' }, { inlineData: { mimeType: 'image/png', data: PNG } }],
      }]);
      assert.equal(answer.text, `I see image/png of ${PNG_BYTES} bytes. You said: look`);
    });

    test('a PDF is read', async () => {
      const answer = await generate([{
        role: 'user', parts: [{ inlineData: { mimeType: 'application/pdf', data: PDF } }, { text: 'read' }],
      }]);
      assert.equal(answer.text, `I see application/pdf of ${PDF_BYTES} bytes. You said: read`);
    });

    test('a structured answer fits its schema', async () => {
      const config = { responseMimeType: 'application/json', responseSchema: PERSON };
      const answer = await generate('who', config);
      checkPerson(JSON.parse(answer.text));
      assert.deepEqual(called(partsOf(answer)), []);
      checkPerson(JSON.parse(textOf(await collect(await stream('who', config)))));
    });

    test('JSON mode answers with JSON', async () => {
      const answer = await generate('answer in json', { responseMimeType: 'application/json' });
      assert.equal(typeof JSON.parse(answer.text), 'object');
    });

    test('thoughts are told and counted', async () => {
      const config = { thinkingConfig: { includeThoughts: true, thinkingBudget: 2048 } };
      const answer = await generate('why', config, named(provider.thinker));
      assert.equal(said(partsOf(answer), true), 'Let me think about: why');
      assert.equal(said(partsOf(answer)), 'You said: why');
      assert.ok(answer.usageMetadata.thoughtsTokenCount > 0 || provider.prefix === 'anthropic/');
      const parts = (await collect(await stream('why', config, named(provider.thinker)))).flatMap(partsOf);
      assert.equal(said(parts, true), 'Let me think about: why');
      assert.equal(said(parts), 'You said: why');
    });

    for (const thinker of provider.signs) {
      for (const streamed of [false, true]) {
        test(`${thinker}: a ${streamed ? 'streamed ' : ''}tool round with thoughts keeps its signatures`, async () => {
          const thinkingConfig = { includeThoughts: true, thinkingBudget: 2048 };
          if (thinker.startsWith('gemini-3')) {
            delete thinkingConfig.thinkingBudget;
            thinkingConfig.thinkingLevel = 'LOW';
          }
          const config = { tools: TOOLS, thinkingConfig };
          const contents = [{ role: 'user', parts: [{ text: SIGNED_CALLS }] }];
          const first = streamed ? await collect(await stream(contents, config, named(thinker)))
            : [await generate(contents, config, named(thinker))];
          const parts = first.flatMap(partsOf);
          assert.equal(called(parts).length, 2);
          if (provider.prefix === 'google/') contents.push({ role: 'model', parts }); // relayed as it is
          else for (const chunk of first) contents.push(chunk.candidates[0].content);
          contents.push({
            role: 'user',
            parts: parts.filter((p) => p.functionCall).map(({ functionCall: { id, name } }) => ({
              functionResponse: { id, name, response: { output: 'fine' } },
            })),
          });
          const second = await generate(contents, config, named(thinker));
          assert.equal(second.text, 'The tools said: weather = fine; news = fine');
        });
      }
    }

    test('embeddings come one by one and in batches', async () => {
      const request = { model: named(provider.embedder ?? provider.model), contents: ['a cat', 'a dog'] };
      if (!provider.embedder) {
        const error = await failure(() => client.models.embedContent(request));
        assert.ok(error.status >= 400 && error.status < 500, `status ${error.status}`);
        return;
      }
      const answer = await client.models.embedContent({ ...request, config: { outputDimensionality: 64 } });
      assert.deepEqual(answer.embeddings.map((e) => e.values.length), [64, 64]);
      const one = await fetch(`${url}/v1beta/models/${encodeURIComponent(request.model)}:embedContent`, {
        method: 'POST', headers: { 'x-goog-api-key': key, 'Content-Type': 'application/json' },
        body: JSON.stringify({ content: { parts: [{ text: 'a cat' }] }, outputDimensionality: 64 }),
      });
      assert.deepEqual((await one.json()).embedding.values, answer.embeddings[0].values);
    });

    test('tokens are counted', async () => {
      const answer = await client.models.countTokens({ model, contents: 'one two three four five six' });
      assert.ok(answer.totalTokens > 0);
    });

    test('models are listed and can be looked up', async () => {
      const names = [];
      for await (const one of await client.models.list({ config: { pageSize: 2 } })) names.push(one.name);
      assert.equal(new Set(names).size, names.length);
      const wanted = names.find((name) => name.startsWith(`models/${provider.prefix}`));
      assert.ok(wanted, `none of ${provider.prefix} in ${names}`);
      const one = await client.models.get({ model: wanted });
      assert.equal(one.name, wanted);
    });

    test('an unknown model and an unknown method are not found', async () => {
      assert.equal((await failure(() => generate('x', {}, named('llm-9000')))).status, 404);
      const answer = await fetch(`${url}/v1beta/models/${model}:conjure`, {
        method: 'POST', headers: { 'x-goog-api-key': key, 'Content-Type': 'application/json' }, body: '{}',
      });
      assert.equal(answer.status, 404);
      assert.equal((await answer.json()).error.status, 'NOT_FOUND');
    });

    test('what the provider refuses is a 400 with its message', async () => {
      const error = await failure(() => generate('x', {}, quiet('status=400,message=out-of-cheese')));
      assert.equal(error.status, 400);
      assert.match(error.message, /out-of-cheese/);
    });

    test('a wrong key is a 401', async () => {
      const stranger = new GoogleGenAI({ apiKey: 'wrong-key', httpOptions: { baseUrl: url } });
      const error = await failure(() => stranger.models.generateContent(ask('x')));
      assert.equal(error.status, 401);
      assert.ok(!error.message.includes('wrong-key'));
    });

    test('a limit of the provider is a 429', async () => {
      const error = await failure(() => generate('x', {}, quiet('status=429,retry_after=600')));
      assert.equal(error.status, 429);
      assert.match(error.message, /RESOURCE_EXHAUSTED/);
    });

    test('a failing provider is a server error, also before a stream begins', async () => {
      for (const start of [generate, stream]) {
        await reset();
        assert.ok((await failure(() => start('x', {}, quiet('status=500')))).status >= 500);
      }
    });

    test('a stream that breaks off is an error, never a whole answer', async () => {
      for (const fault of ['reset=stream,after=4', 'error_event,after=4']) {
        await reset();
        const chunks = [];
        const error = await failure(async () => {
          const pieces = await stream('one two three four five six seven', {}, quiet(fault));
          for await (const chunk of pieces) chunks.push(chunk);
        });
        assert.ok(error.status >= 400);
        assert.ok(chunks.every((c) => !c.candidates?.[0]?.finishReason));
      }
    });

    test('an aborted stream reaches the provider', async () => {
      const since = await lastCallId();
      const stop = new AbortController();
      const pieces = await stream('x', { abortSignal: stop.signal }, quiet('chunks=100000,gap_ms=5'));
      let seen = 0;
      await assert.rejects(async () => {
        for await (const piece of pieces) {
          seen += partsOf(piece).length;
          if (seen === 5) stop.abort();
        }
      });
      const call = await waitForCalls(since, (list) => list.find((c) => c.stream && c.done));
      assert.equal(call.aborted, true);
    });
  });
}
