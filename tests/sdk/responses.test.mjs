// The official OpenAI library's responses.* against the gateway, with each of the three dialects
// behind it. Upstream is always a chat dialect.

import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';

import OpenAI from 'openai';
import { makeParseableTextFormat } from 'openai/lib/parser';

import { PDF, PDF_BYTES, PNG, PNG_BYTES, direct, key, lastCallId, reset, url, waitForCalls } from './helpers.mjs';

const client = new OpenAI({ apiKey: key, baseURL: `${url}/v1`, maxRetries: 0, timeout: 60_000 });

const PROVIDERS = [
  { prefix: 'openai/', model: 'gpt-4o-mini', thinker: 'gpt-5-mini~reasoning', signs: [] },
  {
    prefix: 'anthropic/', model: 'claude-haiku-4-5', thinker: 'claude-haiku-4-5',
    signs: ['claude-haiku-4-5', 'claude-sonnet-4-6', 'claude-opus-4-8'],
  },
  {
    prefix: 'google/', model: 'gemini-2.5-flash', thinker: 'gemini-2.5-flash',
    signs: ['gemini-2.5-flash', 'gemini-3-pro-preview'],
  },
];

const CITY = {
  type: 'object', properties: { city: { type: 'string' } }, required: ['city'], additionalProperties: false,
};
const WEATHER = {
  type: 'function', name: 'weather', description: 'The weather of a city.', strict: false, parameters: CITY,
};
const NEWS = { ...WEATHER, name: 'news' };
/* The stand-in remembers which calls it has signed: those of other tests are left alone. */
const SIGNED_CALLS = 'call tool weather with {"city": "Hilo"} and call tool news with {"city": "Kona"}';
const TWO_CALLS = 'call tool weather with {"city": "Turin"} and call tool news with {"city": "Porto"}';

const PERSON = {
  type: 'object', additionalProperties: false, required: ['name', 'age', 'tags', 'kind'],
  properties: {
    name: { type: 'string' }, age: { type: 'integer' }, kind: { type: 'string', enum: ['a', 'b'] },
    tags: { type: 'array', items: { type: 'string' } },
  },
};
const PERSON_FORMAT = { type: 'json_schema', name: 'person', strict: true, schema: PERSON };

function checkPerson(person) {
  assert.deepEqual(Object.keys(person).sort(), ['age', 'kind', 'name', 'tags']);
  assert.equal(typeof person.name, 'string');
  assert.ok(Number.isInteger(person.age));
  assert.ok(Array.isArray(person.tags));
  assert.ok(['a', 'b'].includes(person.kind));
}

const callsOf = (response) => response.output.filter((item) => item.type === 'function_call');
const called = (response) => callsOf(response).map((c) => [c.name, JSON.parse(c.arguments)]);
const outputs = (response, text) => callsOf(response).map((c) => (
  { type: 'function_call_output', call_id: c.call_id, output: text }));

function checkUsage(usage) {
  assert.ok(usage.input_tokens > 0 && usage.output_tokens > 0);
  assert.equal(usage.total_tokens, usage.input_tokens + usage.output_tokens);
  assert.equal(typeof usage.input_tokens_details.cached_tokens, 'number');
  assert.equal(typeof usage.output_tokens_details.reasoning_tokens, 'number');
}

async function collect(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

/** What holds for every whole stream, whatever is in it. Returns its last response. */
function checkStream(events, last = 'response.completed') {
  assert.deepEqual(events.map((e) => e.sequence_number), events.map((_, i) => i));
  assert.deepEqual(events.slice(0, 2).map((e) => e.type), ['response.created', 'response.in_progress']);
  assert.equal(events.at(-1).type, last);
  const { response } = events.at(-1);
  for (const e of events) if (e.response) assert.equal(e.response.id, response.id);
  const open = new Set();
  for (const e of events) {
    if (e.type === 'response.output_item.added') {
      assert.equal(e.output_index, open.size);
      open.add(e.item.id);
    }
    if (e.item_id) assert.ok(open.has(e.item_id), `${e.type} before its item`);
  }
  const done = events.filter((e) => e.type === 'response.output_item.done');
  assert.deepEqual(done.sort((a, b) => a.output_index - b.output_index).map((e) => e.item), response.output);
  return response;
}

const deltas = (events, type) => events.filter((e) => e.type === type).map((e) => e.delta).join('');

/** Runs `work`, which must fail with an error of the class `kind`, and returns the error. */
async function failure(kind, work) {
  const error = await work().then(() => assert.fail('it did not fail'), (e) => e);
  assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
  return error;
}

for (const provider of direct ? [] : PROVIDERS) {
  const named = (name) => provider.prefix + name;
  const model = named(provider.model);
  const quiet = (directives) => `${model}~${directives}`;

  describe(`OpenAI library, responses, ${provider.prefix}`, { concurrency: false }, () => {
    beforeEach(reset);

    test('a string is answered', async () => {
      const { data: answer, response: raw } = await client.responses
        .create({ model, input: 'good morning', metadata: { a: 'b' }, temperature: 0.5 }).withResponse();
      assert.equal(answer.output_text, 'You said: good morning');
      assert.equal(answer.object, 'response');
      assert.equal(answer.status, 'completed');
      assert.match(answer.id, /^resp_./);
      assert.deepEqual(answer.output.map((i) => [i.type, i.role, i.status]), [['message', 'assistant', 'completed']]);
      assert.deepEqual([answer.metadata, answer.temperature, answer.store, answer.error, answer.incomplete_details],
        [{ a: 'b' }, 0.5, false, null, null]);
      assert.ok(Math.abs(answer.created_at - Date.now() / 1000) < 3600);
      checkUsage(answer.usage);
      assert.equal(raw.headers.get('x-postern-provider') + '/', provider.prefix);
    });

    test('instructions, roles and earlier turns are understood', async () => {
      const first = await client.responses.create({ model, input: 'one' });
      const answer = await client.responses.create({
        model, instructions: 'be brief',
        input: [
          { role: 'developer', content: 'be polite' },
          { role: 'user', content: 'one' },
          ...first.output,
          { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'two' }, { type: 'input_text', text: ' three' }] },
        ],
      });
      assert.equal(answer.output_text, 'You said: two three');
      assert.equal(answer.instructions, 'be brief');
    });

    test('a token limit leaves the answer incomplete', async () => {
      const request = { model, input: 'a rather long text of many words', max_output_tokens: 2 };
      const answer = await client.responses.create(request);
      assert.equal(answer.status, 'incomplete');
      assert.deepEqual(answer.incomplete_details, { reason: 'max_output_tokens' });
      assert.equal(answer.output_text, 'You said');
      assert.equal(answer.output[0].status, 'incomplete');
      const events = await collect(await client.responses.create({ ...request, stream: true }));
      const last = checkStream(events, 'response.incomplete');
      assert.deepEqual(last.incomplete_details, { reason: 'max_output_tokens' });
      assert.equal(last.output[0].status, 'incomplete');
    });

    test('a stream has every event in its place', async () => {
      const events = await collect(await client.responses.create({ model, input: 'one two three', stream: true }));
      const last = checkStream(events);
      const kinds = events.map((e) => e.type.replace('response.', ''));
      assert.deepEqual(kinds.filter((k) => k !== 'output_text.delta'), ['created', 'in_progress', 'output_item.added',
        'content_part.added', 'output_text.done', 'content_part.done', 'output_item.done', 'completed']);
      assert.ok(kinds.filter((k) => k === 'output_text.delta').length > 2);
      assert.equal(deltas(events, 'response.output_text.delta'), 'You said: one two three');
      assert.equal(last.output[0].content[0].text, 'You said: one two three');
      checkUsage(last.usage);
    });

    test('the streaming helper puts the answer together', async () => {
      const stream = client.responses.stream({ model, input: 'one two' });
      let snapshot = '';
      stream.on('response.output_text.delta', (event) => { snapshot = event.snapshot; });
      const whole = await stream.finalResponse();
      assert.equal(snapshot, 'You said: one two');
      assert.equal(whole.output_text, 'You said: one two');
      assert.equal(whole.status, 'completed');
    });

    test('a tool is called, and tool_choice is obeyed', async () => {
      const tools = [WEATHER, NEWS];
      const one = await client.responses.create({ model, tools, input: 'call tool weather with {"city": "Turin"}' });
      assert.deepEqual(called(one), [['weather', { city: 'Turin' }]]);
      assert.equal(one.status, 'completed');
      assert.deepEqual(one.tools, tools);
      const none = await client.responses.create({ model, tools, input: TWO_CALLS, tool_choice: 'none' });
      assert.deepEqual(called(none), []);
      const any = await client.responses.create({ model, tools, input: 'hi', tool_choice: 'required' });
      assert.equal(called(any).length, 1);
      const tool_choice = { type: 'function', name: 'news' };
      const news = await client.responses.create({ model, tools, input: 'hi', tool_choice });
      assert.deepEqual(called(news).map(([name]) => name), ['news']);
      assert.deepEqual(news.tool_choice, tool_choice);
    });

    test('two streamed tool calls are two items', async () => {
      const request = { model, tools: [WEATHER, NEWS], input: TWO_CALLS };
      const events = await collect(await client.responses.create({ ...request, stream: true }));
      assert.deepEqual(called(checkStream(events)), [['weather', { city: 'Turin' }], ['news', { city: 'Porto' }]]);
      const texts = {};
      for (const e of events) {
        if (e.type !== 'response.function_call_arguments.delta') continue;
        texts[e.output_index] = (texts[e.output_index] ?? '') + e.delta;
      }
      const done = events.filter((e) => e.type === 'response.function_call_arguments.done');
      assert.deepEqual(done.map((e) => e.arguments), Object.values(texts));
      assert.deepEqual(done.map((e) => e.name), ['weather', 'news']);
      const whole = await client.responses.stream(request).finalResponse();
      assert.deepEqual(called(whole).map(([name]) => name), ['weather', 'news']);
    });

    for (const streamed of [false, true]) {
      test(`a ${streamed ? 'streamed ' : ''}round with two calls is answered`, async () => {
        const request = { model, tools: [WEATHER, NEWS] };
        const input = [{ role: 'user', content: TWO_CALLS }];
        const first = streamed
          ? await client.responses.stream({ ...request, input }).finalResponse()
          : await client.responses.create({ ...request, input });
        input.push(...first.output, ...outputs(first, 'fine'));
        const second = await client.responses.create({ ...request, input });
        assert.equal(second.output_text, 'The tools said: weather = fine; news = fine');
        assert.equal(second.status, 'completed');
      });
    }

    test('a tool may answer in parts', async () => {
      const input = [{ role: 'user', content: 'call tool weather with {"city": "Turin"}' }];
      const first = await client.responses.create({ model, tools: [WEATHER], input });
      input.push(...first.output, ...outputs(first, [{ type: 'input_text', text: 'rain' }]));
      const second = await client.responses.create({ model, tools: [WEATHER], input });
      assert.equal(second.output_text, 'The tools said: weather = rain');
    });

    test('an image is seen', async () => {
      const content = [{ type: 'input_text', text: 'look' },
        { type: 'input_image', detail: 'low', image_url: `data:image/png;base64,${PNG}` }];
      const answer = await client.responses.create({ model, input: [{ role: 'user', content }] });
      assert.equal(answer.output_text, `I see image/png of ${PNG_BYTES} bytes. You said: look`);
    });

    test('a PDF is read', async () => {
      const content = [
        { type: 'input_file', filename: 'a.pdf', file_data: `data:application/pdf;base64,${PDF}` },
        { type: 'input_text', text: 'read' }];
      const answer = await client.responses.create({ model, input: [{ role: 'user', content }] });
      assert.equal(answer.output_text, `I see application/pdf of ${PDF_BYTES} bytes. You said: read`);
    });

    test('a structured answer fits its schema, whole, streamed and parsed', async () => {
      const request = { model, input: 'who', text: { format: PERSON_FORMAT } };
      const answer = await client.responses.create(request);
      checkPerson(JSON.parse(answer.output_text));
      assert.deepEqual(callsOf(answer), []);
      assert.deepEqual(answer.text.format, PERSON_FORMAT);
      const events = await collect(await client.responses.create({ ...request, stream: true }));
      checkStream(events);
      checkPerson(JSON.parse(deltas(events, 'response.output_text.delta')));
      const format = makeParseableTextFormat(PERSON_FORMAT, (text) => ({ person: JSON.parse(text) }));
      const parsed = await client.responses.parse({ model, input: 'who', text: { format } });
      checkPerson(parsed.output_parsed.person);
    });

    test('JSON mode answers with JSON', async () => {
      const answer = await client.responses.create(
        { model, input: 'answer in json', text: { format: { type: 'json_object' } } });
      assert.equal(typeof JSON.parse(answer.output_text), 'object');
    });

    test('reasoning is told as a summary, and counted', async () => {
      const request = {
        model: named(provider.thinker), input: 'why', reasoning: { effort: 'low', summary: 'auto' },
      };
      const answer = await client.responses.create(request);
      assert.deepEqual(answer.output.map((i) => i.type), ['reasoning', 'message']);
      assert.deepEqual(answer.output[0].summary, [{ type: 'summary_text', text: 'Let me think about: why' }]);
      assert.equal(answer.output_text, 'You said: why');
      assert.ok(answer.usage.output_tokens_details.reasoning_tokens > 0);
      assert.deepEqual(answer.reasoning, { effort: 'low', summary: 'auto' });
      const events = await collect(await client.responses.create({ ...request, stream: true }));
      assert.deepEqual(checkStream(events).output[0].summary, answer.output[0].summary);
      assert.equal(deltas(events, 'response.reasoning_summary_text.delta'), 'Let me think about: why');
      const kinds = events.filter((e) => e.type.includes('summary') && !e.type.endsWith('delta'));
      assert.deepEqual(kinds.map((e) => e.type.replace('response.reasoning_', '')),
        ['summary_part.added', 'summary_text.done', 'summary_part.done']);
    });

    for (const thinker of provider.signs) {
      for (const streamed of [false, true]) {
        for (const summaries of [true, false]) {
          const how = `${streamed ? 'streamed ' : ''}${summaries ? '' : 'summary-less '}`;
          test(`${thinker}: a ${how}tool round with reasoning keeps its signatures`, async () => {
            const request = {
              model: named(thinker), tools: [WEATHER, NEWS], reasoning: { effort: 'low' }, store: false,
              include: ['reasoning.encrypted_content'],
            };
            const input = [{ role: 'user', content: SIGNED_CALLS }];
            const first = streamed
              ? await client.responses.stream({ ...request, input }).finalResponse()
              : await client.responses.create({ ...request, input });
            assert.equal(callsOf(first).length, 2);
            const kept = first.output.map((item) => (
              item.type === 'reasoning' && !summaries ? { ...item, summary: [] } : item));
            if (provider.prefix === 'anthropic/') assert.ok(kept.some((i) => i.encrypted_content));
            input.push(...kept, ...outputs(first, 'fine'));
            const second = await client.responses.create({ ...request, input });
            assert.equal(second.output_text, 'The tools said: weather = fine; news = fine');
          });
        }
      }
    }

    test('a refusal is told', async () => {
      for (const stream of [false, true]) {
        const request = { model: quiet('refuse'), input: 'x' };
        const answer = stream
          ? await client.responses.stream(request).finalResponse()
          : await client.responses.create(request);
        if (provider.prefix === 'openai/') {
          assert.deepEqual(answer.output[0].content, [{ type: 'refusal', refusal: 'I cannot help with that.', ...(stream && { parsed: null }) }]);
          assert.equal(answer.status, 'completed');
        } else {
          assert.equal(answer.status, 'incomplete');
          assert.deepEqual(answer.incomplete_details, { reason: 'content_filter' });
        }
      }
    });

    test('what needs stored state is refused by name', async () => {
      const more = [['previous_response_id', 'resp_1'], ['conversation', 'conv_1'], ['background', true]];
      for (const [name, value] of more) {
        const error = await failure(OpenAI.BadRequestError,
          () => client.responses.create({ model, input: 'x', [name]: value }));
        assert.equal(error.param, `/${name}`);
      }
      const error = await failure(OpenAI.BadRequestError,
        () => client.responses.create({ model, input: 'x', tools: [{ type: 'web_search' }] }));
      assert.equal(error.param, '/tools/0/type');
    });

    test('errors are the classes of the library', async () => {
      await failure(OpenAI.NotFoundError, () => client.responses.create({ model: named('llm-9000'), input: 'x' }));
      const refused = await failure(OpenAI.BadRequestError,
        () => client.responses.create({ model: quiet('status=400,message=out-of-cheese'), input: 'x' }));
      assert.match(refused.message, /out-of-cheese/);
      const stranger = new OpenAI({ apiKey: 'sk-wrong', baseURL: `${url}/v1`, maxRetries: 0 });
      await failure(OpenAI.AuthenticationError, () => stranger.responses.create({ model, input: 'x' }));
      const limited = await failure(OpenAI.RateLimitError,
        () => client.responses.create({ model: quiet('status=429,retry_after=600'), input: 'x' }));
      assert.equal(limited.headers.get('retry-after'), '600');
      for (const stream of [false, true]) {
        await reset();
        await failure(OpenAI.InternalServerError,
          () => client.responses.create({ model: quiet('status=500'), input: 'x', stream }));
      }
    });

    test('a stream that breaks off fails, never completes', async () => {
      for (const fault of ['reset=stream,after=4', 'error_event,after=4']) {
        await reset();
        const stream = await client.responses.create(
          { model: quiet(fault), input: 'one two three four five six seven', stream: true });
        const events = [];
        const error = await failure(OpenAI.APIError, async () => {
          for await (const event of stream) events.push(event);
        });
        assert.ok(error.message);
        const kinds = events.map((e) => e.type);
        assert.equal(kinds.at(-1), 'response.failed');
        assert.equal(events.at(-1).response.status, 'failed');
        assert.ok(events.at(-1).response.error.message);
        assert.ok(!kinds.includes('response.completed') && !kinds.includes('response.output_item.done'));
        await reset();
        await failure(Error, () => client.responses
          .stream({ model: quiet(fault), input: 'one two three four five six seven' }).finalResponse());
      }
    });

    test('an aborted stream reaches the provider', async () => {
      const since = await lastCallId();
      const stop = new AbortController();
      const stream = await client.responses.create(
        { model: quiet('chunks=100000,gap_ms=5'), input: 'x', stream: true }, { signal: stop.signal });
      let seen = 0;
      for await (const event of stream) {
        seen += event.type === 'response.output_text.delta';
        if (seen === 5) stop.abort();
      }
      assert.ok(seen < 1000);
      const call = await waitForCalls(since, (list) => list.find((c) => c.stream && c.done));
      assert.equal(call.aborted, true);
    });

    test('an aborted request that waits reaches the provider', async () => {
      const since = await lastCallId();
      const stop = new AbortController();
      const waiting = failure(OpenAI.APIUserAbortError, () => client.responses.create(
        { model: quiet('hang=before'), input: 'x' }, { signal: stop.signal }));
      await waitForCalls(since, (list) => list.length === 1);
      stop.abort();
      await waiting;
      const call = await waitForCalls(since, (list) => list.find((c) => c.done));
      assert.equal(call.aborted, true);
    });
  });
}
