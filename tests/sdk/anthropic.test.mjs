// The official Anthropic library against the gateway, with each of the three dialects behind it.

import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';

import Anthropic from '@anthropic-ai/sdk';

import { PDF, PDF_BYTES, PNG, PNG_BYTES, direct, key, lastCallId, reset, url, waitForCalls } from './helpers.mjs';

const client = new Anthropic({ apiKey: key, baseURL: url, maxRetries: 0, timeout: 60_000 });

const PROVIDERS = [
  { prefix: 'openai/', model: 'gpt-4o-mini', thinker: 'gpt-5-mini~reasoning', signs: [] },
  {
    prefix: 'anthropic/', model: 'claude-haiku-4-5', thinker: 'claude-haiku-4-5',
    signs: ['claude-haiku-4-5', 'claude-sonnet-4-6'],
  },
  {
    prefix: 'google/', model: 'gemini-2.5-flash', thinker: 'gemini-2.5-flash',
    signs: ['gemini-2.5-flash', 'gemini-3-pro-preview'],
  },
];

const schema = {
  type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false,
};
const WEATHER = { name: 'weather', description: 'The weather of a city.', input_schema: schema };
const NEWS = { ...WEATHER, name: 'news' };
const tools = [WEATHER, NEWS];
const TWO_CALLS = 'call tool weather with {"city": "Oslo"} and call tool news with {"city": "Rome"}';

// Calls of their own: the stand-in remembers which calls it has signed.
const SIGNED_CALLS = TWO_CALLS.replace('Oslo', 'Bern').replace('Rome', 'Lima');

const PERSON = {
  type: 'object', additionalProperties: false, required: ['name', 'age', 'tags', 'kind'],
  properties: {
    name: { type: 'string' }, age: { type: 'integer' }, kind: { type: 'string', enum: ['a', 'b'] },
    tags: { type: 'array', items: { type: 'string' } },
  },
};

function checkPerson(person) {
  assert.deepEqual(Object.keys(person).sort(), ['age', 'kind', 'name', 'tags']);
  assert.equal(typeof person.name, 'string');
  assert.ok(Number.isInteger(person.age));
  assert.ok(Array.isArray(person.tags));
  assert.ok(['a', 'b'].includes(person.kind));
}

function ask(model, content, more = {}) {
  return { model, max_tokens: 2000, messages: [{ role: 'user', content }], ...more };
}

const textOf = (message) => message.content.filter((b) => b.type === 'text').map((b) => b.text).join('');
const callsOf = (message) => message.content.filter((b) => b.type === 'tool_use');
const called = (message) => callsOf(message).map((c) => [c.name, c.input]);

async function collect(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

/** message_start first, one open block at a time with running indexes, message_stop last. */
function checkOrder(events) {
  let index = 0;
  let open = false;
  assert.equal(events[0].type, 'message_start');
  assert.deepEqual(events.slice(-2).map((e) => e.type), ['message_delta', 'message_stop']);
  for (const event of events) {
    if (!event.type.startsWith('content_block_')) continue;
    assert.equal(event.index, index);
    assert.equal(event.type === 'content_block_start', !open);
    if (event.type === 'content_block_delta') continue;
    open = event.type === 'content_block_start';
    if (!open) index += 1;
  }
  assert.ok(!open);
}

/** Runs `work`, which must fail with an error of the class `kind`, and returns the error. */
async function failure(kind, work) {
  const error = await work().then(() => assert.fail('it did not fail'), (e) => e);
  assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
  return error;
}

for (const provider of direct ? [] : PROVIDERS) {
  const model = provider.prefix + provider.model;
  const quiet = (directives) => `${model}~${directives}`;

  describe(`Anthropic library, ${provider.prefix}`, { concurrency: false }, () => {
    beforeEach(reset);

    test('a message is answered', async () => {
      const answer = await client.messages.create(ask(model, 'good morning'));
      assert.equal(answer.type, 'message');
      assert.equal(answer.role, 'assistant');
      assert.match(answer.id, /^msg_/);
      assert.equal(textOf(answer), 'You said: good morning');
      assert.equal(answer.stop_reason, 'end_turn');
      assert.equal(answer.stop_sequence, null);
      assert.ok(answer.usage.input_tokens > 0 && answer.usage.output_tokens > 0);
      assert.ok(answer._request_id);
    });

    test('the raw answer names its request and its provider', async () => {
      const { response, data } = await client.messages.create(ask(model, 'hello')).withResponse();
      assert.equal(response.headers.get('x-request-id'), data._request_id);
      assert.equal(response.headers.get('x-postern-provider') + '/', provider.prefix);
    });

    test('system text and earlier turns are understood', async () => {
      const answer = await client.messages.create({
        model, max_tokens: 500,
        system: [{ type: 'text', text: 'be brief', cache_control: { type: 'ephemeral' } }],
        messages: [
          { role: 'user', content: 'one' }, { role: 'assistant', content: 'You said: one' },
          { role: 'user', content: [{ type: 'text', text: 'two' }, { type: 'text', text: ' three' }] },
        ],
      });
      assert.equal(textOf(answer), 'You said: two three');
    });

    test('a token limit and a stop sequence cut the answer', async () => {
      const short = await client.messages.create(ask(model, 'a rather long text', { max_tokens: 2 }));
      assert.equal(textOf(short), 'You said');
      assert.equal(short.stop_reason, 'max_tokens');
      const cut = await client.messages.create(ask(model, 'one two three', { stop_sequences: ['two'] }));
      assert.equal(textOf(cut), 'You said: one ');
      if (provider.prefix === 'anthropic/') assert.equal(cut.stop_reason, 'stop_sequence');
    });

    test('a stream brings the same text in pieces, in the right order', async () => {
      const events = await collect(await client.messages.create(ask(model, 'one two three', { stream: true })));
      checkOrder(events);
      const deltas = events.filter((e) => e.type === 'content_block_delta').map((e) => e.delta.text);
      assert.ok(deltas.length > 2);
      assert.equal(deltas.join(''), 'You said: one two three');
      assert.ok(events[0].message.usage.input_tokens > 0);
      const last = events.at(-2);
      assert.equal(last.delta.stop_reason, 'end_turn');
      assert.ok(last.usage.output_tokens > 0);
    });

    test('the streaming helper puts the message together', async () => {
      const stream = client.messages.stream(ask(model, 'one two'));
      const deltas = [];
      stream.on('text', (delta) => deltas.push(delta));
      const whole = await stream.finalMessage();
      assert.equal(deltas.join(''), 'You said: one two');
      assert.equal(textOf(whole), 'You said: one two');
      assert.equal(whole.stop_reason, 'end_turn');
      assert.ok(whole.usage.output_tokens > 0);
    });

    for (const streamed of [false, true]) {
      const run = (request) => (streamed ? client.messages.stream(request).finalMessage()
        : client.messages.create(request));
      const how = streamed ? ', streamed' : '';

      test(`a tool is called${how}`, async () => {
        const answer = await run(ask(model, 'call tool weather with {"city": "Oslo"}', { tools }));
        assert.equal(answer.stop_reason, 'tool_use');
        assert.deepEqual(called(answer), [['weather', { city: 'Oslo' }]]);
        assert.ok(callsOf(answer)[0].id);
      });

      test(`two tools are called and their results answered${how}`, async () => {
        const request = ask(model, TWO_CALLS, { tools });
        const first = await run(request);
        assert.deepEqual(called(first), [['weather', { city: 'Oslo' }], ['news', { city: 'Rome' }]]);
        assert.equal(new Set(callsOf(first).map((c) => c.id)).size, 2);
        request.messages.push({ role: 'assistant', content: first.content });
        request.messages.push({
          role: 'user',
          content: callsOf(first).map((c) => ({
            type: 'tool_result', tool_use_id: c.id, content: [{ type: 'text', text: `${c.input.city} is fine` }],
          })),
        });
        const second = await run(request);
        assert.equal(textOf(second), 'The tools said: weather = Oslo is fine; news = Rome is fine');
        assert.equal(second.stop_reason, 'end_turn');
      });

      test(`a structured answer fits its schema${how}`, async () => {
        const answer = await run(ask(model, 'who', {
          output_config: { format: { type: 'json_schema', schema: PERSON } },
        }));
        assert.equal(answer.stop_reason, 'end_turn');
        assert.deepEqual(callsOf(answer), []);
        checkPerson(JSON.parse(textOf(answer)));
      });

      test(`reasoning is told${how}`, async () => {
        const answer = await run(ask(provider.prefix + provider.thinker, 'why', {
          max_tokens: 4000, thinking: { type: 'enabled', budget_tokens: 1024 },
        }));
        assert.equal(answer.content[0].type, 'thinking');
        assert.equal(answer.content[0].thinking, 'Let me think about: why');
        assert.equal(typeof answer.content[0].signature, 'string');
        assert.equal(textOf(answer), 'You said: why');
      });

      for (const thinker of provider.signs) {
        test(`${thinker}: a tool round with reasoning keeps its signatures${how}`, async () => {
          const request = ask(provider.prefix + thinker, SIGNED_CALLS, {
            tools, max_tokens: 4000, thinking: { type: 'enabled', budget_tokens: 1024 },
          });
          const first = await run(request);
          assert.equal(callsOf(first).length, 2);
          assert.equal(first.content[0].type, 'thinking');
          if (provider.prefix === 'anthropic/') assert.ok(first.content[0].signature);
          request.messages.push({ role: 'assistant', content: first.content });
          request.messages.push({
            role: 'user',
            content: callsOf(first).map((c) => ({ type: 'tool_result', tool_use_id: c.id, content: 'fine' })),
          });
          const second = await run(request);
          assert.equal(textOf(second), 'The tools said: weather = fine; news = fine');
        });
      }
    }

    test('tool_choice is obeyed', async () => {
      const none = await client.messages.create(ask(model, TWO_CALLS, { tools, tool_choice: { type: 'none' } }));
      assert.deepEqual(called(none), []);
      const any = await client.messages.create(ask(model, 'hi', { tools, tool_choice: { type: 'any' } }));
      assert.equal(callsOf(any).length, 1);
      const news = await client.messages.create(
        ask(model, 'hi', { tools, tool_choice: { type: 'tool', name: 'news' } }));
      assert.deepEqual(called(news).map(([name]) => name), ['news']);
    });

    test('the name of a tool may be longer than the provider takes', async () => {
      if (provider.prefix === 'anthropic/') return; // the vendor's own limit holds for its own bodies
      const long = { ...WEATHER, name: `mcp/files.read:${'x'.repeat(80)}` };
      const answer = await client.messages.create(
        ask(model, 'hi', { tools: [long], tool_choice: { type: 'any' } }));
      assert.deepEqual(called(answer).map(([name]) => name), [long.name]);
    });

    test('an image is seen', async () => {
      const answer = await client.messages.create(ask(model, [
        { type: 'text', text: 'look' },
        { type: 'image', source: { type: 'base64', media_type: 'image/png', data: PNG } }]));
      assert.equal(textOf(answer), `I see image/png of ${PNG_BYTES} bytes. You said: look`);
    });

    test('a PDF is read', async () => {
      const answer = await client.messages.create(ask(model, [
        { type: 'document', source: { type: 'base64', media_type: 'application/pdf', data: PDF }, title: 'a.pdf' },
        { type: 'text', text: 'read' }]));
      assert.equal(textOf(answer), `I see application/pdf of ${PDF_BYTES} bytes. You said: read`);
    });

    test('a plain document is read', async () => {
      const answer = await client.messages.create(ask(model, [
        { type: 'document', source: { type: 'text', media_type: 'text/plain', data: 'the moon is far' } },
        { type: 'text', text: ' read' }]));
      assert.match(textOf(answer), /read/);
      if (provider.prefix !== 'anthropic/') assert.match(textOf(answer), /the moon is far/);
    });

    test('a refusal is a stop reason', async () => {
      const answer = await client.messages.create(ask(quiet('refuse'), 'x'));
      assert.equal(answer.stop_reason, 'refusal');
    });

    test('tokens are counted', async () => {
      const few = await client.messages.countTokens({ model, messages: [{ role: 'user', content: 'one two' }] });
      const many = await client.messages.countTokens({
        model, messages: [{ role: 'user', content: 'one two '.repeat(200) }], tools });
      assert.ok(few.input_tokens > 0);
      assert.ok(many.input_tokens > few.input_tokens + 100);
    });

    test('models are listed and can be looked up', async () => {
      const ids = [];
      for await (const one of client.models.list({ limit: 5 })) {
        assert.equal(one.type, 'model');
        ids.push(one.id);
      }
      const wanted = ids.find((id) => id.startsWith(provider.prefix));
      assert.ok(wanted, `none of ${provider.prefix} in ${ids}`);
      assert.equal(new Set(ids).size, ids.length);
      assert.equal((await client.models.retrieve(wanted)).id, wanted);
      await failure(Anthropic.NotFoundError, () => client.models.retrieve('no-such-thing-at-all'));
    });

    test('an unknown model is NotFoundError', async () => {
      const error = await failure(Anthropic.NotFoundError,
        () => client.messages.create(ask(`${provider.prefix}llm-9000`, 'x')));
      assert.equal(error.error.type, 'error');
      assert.equal(error.error.error.type, 'not_found_error');
      assert.ok(error.requestID);
    });

    test('what the provider refuses is BadRequestError, with its message', async () => {
      const error = await failure(Anthropic.BadRequestError,
        () => client.messages.create(ask(quiet('status=400,message=out-of-cheese'), 'x')));
      assert.match(error.message, /out-of-cheese/);
    });

    test('a wrong key is AuthenticationError', async () => {
      const stranger = new Anthropic({ apiKey: 'sk-wrong', baseURL: url, maxRetries: 0 });
      const error = await failure(Anthropic.AuthenticationError, () => stranger.messages.create(ask(model, 'x')));
      assert.equal(error.error.error.type, 'authentication_error');
      assert.ok(!JSON.stringify(error.error).includes('sk-wrong'));
    });

    test('a limit of the provider is RateLimitError, with Retry-After', async () => {
      const error = await failure(Anthropic.RateLimitError,
        () => client.messages.create(ask(quiet('status=429,retry_after=600'), 'x')));
      assert.equal(error.headers.get('retry-after'), '600');
    });

    test('a failing provider is a server error, also before a stream begins', async () => {
      for (const stream of [false, true]) {
        await reset();
        const error = await failure(Anthropic.InternalServerError,
          () => client.messages.create(ask(quiet('status=500'), 'x', { stream })));
        assert.equal(error.headers.get('x-postern-error-source'), 'provider');
      }
    });

    test('a stream that breaks off is an error, never a whole message', async () => {
      for (const fault of ['reset=stream,after=4', 'error_event,after=4', 'no_final,no_finish']) {
        await reset();
        const stream = await client.messages.create(
          ask(quiet(fault), 'one two three four five six seven', { stream: true }));
        const events = [];
        const error = await failure(Anthropic.APIError, async () => {
          for await (const event of stream) events.push(event);
        });
        assert.ok(error.error?.error?.type, 'the error came in-band');
        assert.ok(events.every((e) => e.type !== 'message_stop'));
      }
    });

    test('an aborted stream reaches the provider', async () => {
      const since = await lastCallId();
      const stream = await client.messages.create(ask(quiet('chunks=100000,gap_ms=5'), 'x', { stream: true }));
      let seen = 0;
      for await (const event of stream) {
        seen += event.type === 'content_block_delta';
        if (seen === 5) stream.controller.abort();
      }
      assert.ok(seen < 1000);
      const call = await waitForCalls(since, (list) => list.find((c) => c.stream && c.done));
      assert.equal(call.aborted, true);
    });

    test('an aborted request that waits reaches the provider', async () => {
      const since = await lastCallId();
      const stop = new AbortController();
      const waiting = failure(Anthropic.APIUserAbortError, () => client.messages.create(
        ask(quiet('hang=before'), 'x'), { signal: stop.signal }));
      await waitForCalls(since, (list) => list.length === 1);
      stop.abort();
      await waiting;
      const call = await waitForCalls(since, (list) => list.find((c) => c.done));
      assert.equal(call.aborted, true);
    });
  });
}
