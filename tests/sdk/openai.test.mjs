// The official OpenAI library against the gateway, with each of the three dialects behind it.

import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';

import OpenAI from 'openai';
import { makeParseableResponseFormat } from 'openai/lib/parser';

import { PDF, PDF_BYTES, PNG, PNG_BYTES, direct, key, lastCallId, reset, url, waitForCalls } from './helpers.mjs';

const client = new OpenAI({ apiKey: key, baseURL: `${url}/v1`, maxRetries: 0, timeout: 60_000 });

const PROVIDERS = [
  {
    prefix: 'openai/', model: 'gpt-4o-mini', listed: 'gpt-4o', embedder: 'text-embedding-3-small',
    thinker: 'gpt-5-mini~reasoning', image: `I see image/png of ${PNG_BYTES} bytes.`, signs: [],
  },
  {
    prefix: 'anthropic/', model: 'claude-haiku-4-5', listed: 'claude-haiku-4-5', embedder: null,
    thinker: 'claude-haiku-4-5', signs: ['claude-haiku-4-5', 'claude-sonnet-4-6', 'claude-opus-4-8'],
  },
  {
    prefix: 'google/', model: 'gemini-2.5-flash', listed: 'gemini-2.5-flash',
    embedder: 'gemini-embedding-001', thinker: 'gemini-2.5-flash',
    signs: ['gemini-2.5-flash', 'gemini-3-pro-preview'],
  },
];

const WEATHER = {
  type: 'function',
  function: {
    name: 'weather', description: 'The weather of a city.',
    parameters: {
      type: 'object', properties: { city: { type: 'string' } }, required: ['city'],
      additionalProperties: false,
    },
  },
};
const NEWS = { type: 'function', function: { ...WEATHER.function, name: 'news' } };
const TWO_CALLS = 'call tool weather with {"city": "Oslo"} and call tool news with {"city": "Rome"}';

const PERSON = {
  type: 'object', additionalProperties: false, required: ['name', 'age', 'tags', 'kind'],
  properties: {
    name: { type: 'string' }, age: { type: 'integer' }, kind: { type: 'string', enum: ['a', 'b'] },
    tags: { type: 'array', items: { type: 'string' } },
  },
};
const PERSON_FORMAT = {
  type: 'json_schema', json_schema: { name: 'person', strict: true, schema: PERSON },
};

function checkPerson(person) {
  assert.deepEqual(Object.keys(person).sort(), ['age', 'kind', 'name', 'tags']);
  assert.equal(typeof person.name, 'string');
  assert.ok(Number.isInteger(person.age));
  assert.ok(Array.isArray(person.tags));
  assert.ok(['a', 'b'].includes(person.kind));
}

function ask(model, text, more = {}) {
  return { model, messages: [{ role: 'user', content: text }], ...more };
}

function called(message) {
  return (message.tool_calls ?? []).map((c) => [c.function.name, JSON.parse(c.function.arguments)]);
}

function checkUsage(usage) {
  assert.ok(usage.prompt_tokens > 0 && usage.completion_tokens > 0);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const textOf = (chunks) => chunks.map((c) => c.choices[0]?.delta?.content ?? '').join('');

/** Runs `work`, which must fail with an error of the class `kind`, and returns the error. */
async function failure(kind, work) {
  const error = await work().then(() => assert.fail('it did not fail'), (e) => e);
  assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
  return error;
}

for (const provider of direct ? PROVIDERS.slice(0, 1) : PROVIDERS) {
  const named = (name) => (direct ? name : provider.prefix + name);
  const model = named(provider.model);
  const quiet = (directives) => `${model}~${directives}`;

  describe(`OpenAI library, ${provider.prefix}`, { concurrency: false }, () => {
    beforeEach(reset);

    test('a chat is answered', async () => {
      const answer = await client.chat.completions.create(ask(model, 'good morning'));
      assert.equal(answer.object, 'chat.completion');
      assert.equal(answer.choices.length, 1);
      const [{ message, finish_reason: reason, index }] = answer.choices;
      assert.equal(message.role, 'assistant');
      assert.equal(message.content, 'You said: good morning');
      assert.equal(reason, 'stop');
      assert.equal(index, 0);
      assert.equal(typeof answer.id, 'string');
      assert.ok(Math.abs(answer.created - Date.now() / 1000) < 3600);
      checkUsage(answer.usage);
    });

    test('the raw answer names its request and its provider', async () => {
      const { response, data } = await client.chat.completions.create(ask(model, 'hello')).withResponse();
      assert.ok(data._request_id);
      assert.equal(response.headers.get('x-request-id'), data._request_id);
      if (!direct) assert.equal(response.headers.get('x-postern-provider') + '/', provider.prefix);
    });

    test('system, developer and earlier turns are understood', async () => {
      const answer = await client.chat.completions.create({
        model,
        messages: [
          { role: 'system', content: 'be brief' },
          { role: 'developer', content: [{ type: 'text', text: 'be polite' }] },
          { role: 'user', content: 'one' },
          { role: 'assistant', content: 'You said: one' },
          { role: 'user', content: [{ type: 'text', text: 'two' }, { type: 'text', text: ' three' }] },
        ],
      });
      assert.equal(answer.choices[0].message.content, 'You said: two three');
    });

    test('a token limit and a stop string cut the answer', async () => {
      const short = await client.chat.completions.create(ask(model, 'a rather long text', { max_tokens: 2 }));
      assert.equal(short.choices[0].message.content, 'You said');
      assert.equal(short.choices[0].finish_reason, 'length');
      const cut = await client.chat.completions.create(ask(model, 'one two three', { stop: ['two'] }));
      assert.equal(cut.choices[0].message.content, 'You said: one ');
      assert.equal(cut.choices[0].finish_reason, 'stop');
    });

    test('a stream brings the same text in pieces and one finish reason', async () => {
      const chunks = await collect(await client.chat.completions.create(
        ask(model, 'one two three', { stream: true })));
      assert.ok(chunks.length > 4);
      assert.equal(chunks[0].choices[0].delta.role, 'assistant');
      assert.equal(textOf(chunks), 'You said: one two three');
      assert.deepEqual(chunks.map((c) => c.choices[0]?.finish_reason).filter(Boolean), ['stop']);
      assert.equal(new Set(chunks.map((c) => c.id)).size, 1);
      assert.ok(chunks.every((c) => c.object === 'chat.completion.chunk'));
    });

    test('usage is streamed only when it is asked for', async () => {
      const without = await collect(await client.chat.completions.create(ask(model, 'x', { stream: true })));
      assert.ok(without.every((c) => c.usage == null && c.choices.length === 1));
      const chunks = await collect(await client.chat.completions.create(
        ask(model, 'x', { stream: true, stream_options: { include_usage: true } })));
      const last = chunks.pop();
      assert.deepEqual(last.choices, []);
      checkUsage(last.usage);
      assert.ok(chunks.every((c) => c.usage == null));
    });

    test('the streaming helper puts the answer together', async () => {
      const stream = client.chat.completions.stream(
        ask(model, 'one two', { stream_options: { include_usage: true } }));
      const deltas = [];
      stream.on('content', (delta) => deltas.push(delta));
      const whole = await stream.finalChatCompletion();
      assert.equal(deltas.join(''), 'You said: one two');
      assert.equal(whole.choices[0].message.content, 'You said: one two');
      checkUsage(whole.usage);
    });

    test('a tool is called', async () => {
      const answer = await client.chat.completions.create(
        ask(model, 'call tool weather with {"city": "Oslo"}', { tools: [WEATHER, NEWS] }));
      const [{ message, finish_reason: reason }] = answer.choices;
      assert.equal(reason, 'tool_calls');
      assert.deepEqual(called(message), [['weather', { city: 'Oslo' }]]);
      assert.equal(message.tool_calls[0].type, 'function');
      assert.ok(message.tool_calls[0].id);
      assert.ok(!message.content);
    });

    test('two tools are called in parallel', async () => {
      const answer = await client.chat.completions.create(ask(model, TWO_CALLS, { tools: [WEATHER, NEWS] }));
      const { message } = answer.choices[0];
      assert.deepEqual(called(message), [['weather', { city: 'Oslo' }], ['news', { city: 'Rome' }]]);
      assert.equal(new Set(message.tool_calls.map((c) => c.id)).size, 2);
    });

    test('tool_choice is obeyed', async () => {
      const tools = [WEATHER, NEWS];
      const none = await client.chat.completions.create(ask(model, TWO_CALLS, { tools, tool_choice: 'none' }));
      assert.deepEqual(called(none.choices[0].message), []);
      const any = await client.chat.completions.create(ask(model, 'hi', { tools, tool_choice: 'required' }));
      assert.equal(called(any.choices[0].message).length, 1);
      const choice = { type: 'function', function: { name: 'news' } };
      const news = await client.chat.completions.create(ask(model, 'hi', { tools, tool_choice: choice }));
      assert.deepEqual(called(news.choices[0].message).map(([name]) => name), ['news']);
    });

    test('two streamed tool calls keep their indexes apart', async () => {
      const chunks = await collect(await client.chat.completions.create(
        ask(model, TWO_CALLS, { tools: [WEATHER, NEWS], stream: true })));
      const found = [];
      for (const chunk of chunks) {
        for (const part of chunk.choices[0]?.delta?.tool_calls ?? []) {
          const call = (found[part.index] ??= { name: '', text: '', ids: new Set() });
          call.name += part.function?.name ?? '';
          call.text += part.function?.arguments ?? '';
          if (part.id) call.ids.add(part.id);
        }
      }
      assert.deepEqual(found.map((c) => [c.name, JSON.parse(c.text), c.ids.size]),
        [['weather', { city: 'Oslo' }, 1], ['news', { city: 'Rome' }, 1]]);
      assert.deepEqual(chunks.map((c) => c.choices[0]?.finish_reason).filter(Boolean), ['tool_calls']);
      const whole = await client.chat.completions
        .stream(ask(model, TWO_CALLS, { tools: [WEATHER, NEWS] })).finalChatCompletion();
      assert.deepEqual(called(whole.choices[0].message).map(([name]) => name), ['weather', 'news']);
    });

    test('tool results go back and are answered', async () => {
      const messages = [{ role: 'user', content: TWO_CALLS }];
      const tools = [WEATHER, NEWS];
      const first = await client.chat.completions.create({ model, messages, tools });
      const { message } = first.choices[0];
      messages.push(message);
      for (const call of message.tool_calls) {
        const { city } = JSON.parse(call.function.arguments);
        messages.push({ role: 'tool', tool_call_id: call.id, content: `${city} is fine` });
      }
      const second = await client.chat.completions.create({ model, messages, tools });
      assert.equal(second.choices[0].message.content,
        'The tools said: weather = Oslo is fine; news = Rome is fine');
      assert.equal(second.choices[0].finish_reason, 'stop');
    });

    for (const stream of [false, true]) {
      test(`the tool runner goes the whole round${stream ? ' on streams' : ''}`, async () => {
        const runner = client.chat.completions.runTools({
          model, stream, messages: [{ role: 'user', content: 'call tool weather with {"city": "Bergen"}' }],
          tools: [{
            type: 'function',
            function: {
              ...WEATHER.function, parse: JSON.parse, function: ({ city }) => `rain in ${city}`,
            },
          }],
        });
        assert.equal(await runner.finalContent(), 'The tools said: weather = rain in Bergen');
      });
    }

    test('an image is seen', async () => {
      const answer = await client.chat.completions.create({
        model,
        messages: [{
          role: 'user',
          content: [{ type: 'text', text: 'look' },
            { type: 'image_url', image_url: { url: `data:image/png;base64,${PNG}`, detail: 'low' } }],
        }],
      });
      assert.equal(answer.choices[0].message.content,
        `I see image/png of ${PNG_BYTES} bytes. You said: look`);
    });

    test('a PDF is read', async () => {
      const answer = await client.chat.completions.create({
        model,
        messages: [{
          role: 'user',
          content: [{ type: 'file', file: { filename: 'a.pdf', file_data: `data:application/pdf;base64,${PDF}` } },
            { type: 'text', text: 'read' }],
        }],
      });
      assert.equal(answer.choices[0].message.content,
        `I see application/pdf of ${PDF_BYTES} bytes. You said: read`);
    });

    test('a structured answer fits its schema', async () => {
      const answer = await client.chat.completions.create(ask(model, 'who', { response_format: PERSON_FORMAT }));
      assert.equal(answer.choices[0].finish_reason, 'stop');
      checkPerson(JSON.parse(answer.choices[0].message.content));
      const chunks = await collect(await client.chat.completions.create(
        ask(model, 'who', { response_format: PERSON_FORMAT, stream: true })));
      checkPerson(JSON.parse(textOf(chunks)));
    });

    test('the parse helper returns the object', async () => {
      const format = makeParseableResponseFormat(PERSON_FORMAT, (text) => ({ person: JSON.parse(text) }));
      const answer = await client.chat.completions.parse(ask(model, 'who', { response_format: format }));
      checkPerson(answer.choices[0].message.parsed.person);
    });

    test('JSON mode answers with JSON', async () => {
      const answer = await client.chat.completions.create(
        ask(model, 'answer in json', { response_format: { type: 'json_object' } }));
      assert.equal(typeof JSON.parse(answer.choices[0].message.content), 'object');
    });

    test('reasoning is told and counted', async () => {
      const request = ask(named(provider.thinker), 'why', { reasoning_effort: 'low' });
      const answer = await client.chat.completions.create(request);
      const [{ message }] = answer.choices;
      assert.equal(message.reasoning_content, 'Let me think about: why');
      assert.equal(message.content, 'You said: why');
      assert.ok(answer.usage.completion_tokens_details.reasoning_tokens > 0);
      const chunks = await collect(await client.chat.completions.create({ ...request, stream: true }));
      assert.equal(chunks.map((c) => c.choices[0]?.delta?.reasoning_content ?? '').join(''),
        'Let me think about: why');
      assert.equal(textOf(chunks), 'You said: why');
    });

    for (const thinker of direct ? [] : provider.signs) {
      for (const streamed of [false, true]) {
        test(`${thinker}: a ${streamed ? 'streamed ' : ''}tool round with reasoning keeps its signatures`, async () => {
          const tools = [WEATHER, NEWS];
          const messages = [{ role: 'user', content: TWO_CALLS }];
          const request = { model: named(thinker), messages, tools, reasoning_effort: 'low' };
          const first = streamed
            ? await client.chat.completions.stream(request).finalChatCompletion()
            : await client.chat.completions.create(request);
          const { message } = first.choices[0];
          assert.equal(message.tool_calls.length, 2);
          messages.push(message);
          for (const call of message.tool_calls) {
            messages.push({ role: 'tool', tool_call_id: call.id, content: 'fine' });
          }
          const second = await client.chat.completions.create(request);
          assert.equal(second.choices[0].message.content, 'The tools said: weather = fine; news = fine');
        });
      }

      test(`${thinker}: a round of the tool runner, which sends back known fields only, is answered`, async () => {
        const runner = client.chat.completions.runTools({
          model: named(thinker), reasoning_effort: 'low',
          messages: [{ role: 'user', content: 'call tool weather with {"city": "Bergen"}' }],
          tools: [{ type: 'function', function: { ...WEATHER.function, function: () => 'rain' } }],
        });
        assert.equal(await runner.finalContent(), 'The tools said: weather = rain');
      });
    }

    test('a refusal is told', async () => {
      const answer = await client.chat.completions.create(ask(quiet('refuse'), 'x'));
      const [{ message, finish_reason: reason }] = answer.choices;
      if (provider.prefix === 'openai/') assert.equal(message.refusal, 'I cannot help with that.');
      else assert.equal(reason, 'content_filter');
    });

    test('embeddings come as numbers, also by the default encoding', async () => {
      if (!provider.embedder) {
        const error = await failure(OpenAI.APIError, () => client.embeddings.create({ model, input: 'x' }));
        assert.ok(error.status >= 400 && error.status < 500, `status ${error.status}`);
        return;
      }
      const request = { model: named(provider.embedder), input: ['a cat', 'a dog'], dimensions: 64 };
      const packed = await client.embeddings.create(request);
      const plain = await client.embeddings.create({ ...request, encoding_format: 'float' });
      for (const answer of [packed, plain]) {
        assert.equal(answer.object, 'list');
        assert.deepEqual(answer.data.map((d) => d.index), [0, 1]);
        assert.ok(answer.usage.prompt_tokens >= 0);
        for (const { embedding } of answer.data) {
          assert.equal(embedding.length, 64);
          const norm = embedding.reduce((sum, v) => sum + v * v, 0);
          assert.ok(Math.abs(norm - 1) < 1e-3, `norm ${norm}`);
        }
      }
      packed.data[0].embedding.forEach((v, i) => assert.ok(Math.abs(v - plain.data[0].embedding[i]) < 1e-6));
      const single = await client.embeddings.create({ ...request, input: 'a cat', encoding_format: 'float' });
      assert.deepEqual(single.data[0].embedding, plain.data[0].embedding);
    });

    test('models are listed and can be looked up', async () => {
      const ids = [];
      for await (const one of client.models.list()) {
        assert.equal(one.object, 'model');
        ids.push(one.id);
      }
      const wanted = direct ? provider.listed : ids.find((id) => id.startsWith(provider.prefix));
      assert.ok(ids.includes(wanted), `none of ${provider.prefix} in ${ids}`);
      const one = await client.models.retrieve(encodeURI(wanted));
      assert.equal(one.id, wanted);
      assert.equal(one.object, 'model');
      assert.equal(typeof one.owned_by, 'string');
    });

    test('an unknown model is NotFoundError', async () => {
      const error = await failure(OpenAI.NotFoundError,
        () => client.chat.completions.create(ask(named('llm-9000'), 'x')));
      assert.equal(typeof error.error.message, 'string');
      assert.ok(error.error.type);
      await failure(OpenAI.NotFoundError, () => client.models.retrieve('no-such-thing-at-all'));
    });

    test('what the provider refuses is BadRequestError, with its message', async () => {
      const error = await failure(OpenAI.BadRequestError,
        () => client.chat.completions.create(ask(quiet('status=400,message=out-of-cheese'), 'x')));
      assert.equal(error.status, 400);
      assert.match(error.message, /out-of-cheese/);
      assert.ok(error.requestID);
    });

    test('a wrong key is AuthenticationError', async () => {
      const stranger = new OpenAI({ apiKey: 'sk-wrong', baseURL: `${url}/v1`, maxRetries: 0 });
      const error = await failure(OpenAI.AuthenticationError,
        () => stranger.chat.completions.create(ask(model, 'x')));
      assert.equal(error.status, 401);
      assert.ok(!JSON.stringify(error.error).includes('sk-wrong'));
    });

    test('a limit of the provider is RateLimitError, with Retry-After', async () => {
      const error = await failure(OpenAI.RateLimitError,
        () => client.chat.completions.create(ask(quiet('status=429,retry_after=600'), 'x')));
      assert.equal(error.status, 429);
      assert.equal(error.headers.get('retry-after'), '600');
    });

    test('a failing provider is a server error, also before a stream begins', async () => {
      for (const stream of [false, true]) {
        await reset();
        await failure(OpenAI.InternalServerError,
          () => client.chat.completions.create(ask(quiet('status=500'), 'x', { stream })));
      }
    });

    test('a stream that breaks off is an error, never a whole answer', async () => {
      for (const fault of ['reset=stream,after=4', 'error_event,after=4']) {
        await reset();
        const stream = await client.chat.completions.create(
          ask(quiet(fault), 'one two three four five six seven', { stream: true }));
        const chunks = [];
        const error = await failure(Error, async () => {
          for await (const chunk of stream) chunks.push(chunk);
        });
        assert.ok(!(error instanceof assert.AssertionError), 'the stream ended as if it were whole');
        assert.ok(chunks.every((c) => !c.choices[0]?.finish_reason));
      }
    });

    test('an aborted stream reaches the provider', async () => {
      const since = await lastCallId();
      const stop = new AbortController();
      const stream = await client.chat.completions.create(
        ask(quiet('chunks=100000,gap_ms=5'), 'x', { stream: true }), { signal: stop.signal });
      let seen = 0;
      for await (const chunk of stream) {
        seen += chunk.choices.length;
        if (seen === 5) stop.abort();
      }
      assert.ok(seen < 1000);
      const call = await waitForCalls(since, (list) => list.find((c) => c.stream && c.done));
      assert.equal(call.aborted, true);
    });

    test('an aborted request that waits reaches the provider', async () => {
      const since = await lastCallId();
      const stop = new AbortController();
      const waiting = failure(OpenAI.APIUserAbortError, () => client.chat.completions.create(
        ask(quiet('hang=before'), 'x'), { signal: stop.signal }));
      await waitForCalls(since, (list) => list.length === 1);
      stop.abort();
      await waiting;
      const call = await waitForCalls(since, (list) => list.find((c) => c.done));
      assert.equal(call.aborted, true);
    });
  });
}
