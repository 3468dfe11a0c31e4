// What the SDK tests share: where things are, and a few payloads.
//
//   POSTERN_URL   base URL of the gateway, without a path        POSTERN_KEY   a key it accepts
//   STANDIN_URL   the stand-in provider behind it, for its log of calls
//   SDK_DIRECT=1  no gateway: POSTERN_URL is the stand-in's /openai and only OpenAI is tried

export const url = need('POSTERN_URL').replace(/\/$/, '');
export const key = need('POSTERN_KEY');
export const standinUrl = need('STANDIN_URL').replace(/\/$/, '');
export const direct = process.env.SDK_DIRECT === '1';

// Debian's node 18 brings undici 5.15, where a request's AbortController is held by a weak reference
// alone: a garbage collection between a call and its abort loses the abort, and the call is never left.
const controllers = [];
globalThis.AbortController = class extends AbortController {
  constructor() {
    super();
    controllers.push(this);
  }
};

function need(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; tests/sdk/run.sh sets it`);
  return value;
}

export const PNG =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
export const PNG_BYTES = 70;
export const PDF = 'JVBERi0xLjEKJSVFT0YK';
export const PDF_BYTES = 15;

/** Calls the stand-in has received since `since`. */
export async function calls(since = 0) {
  const answer = await fetch(`${standinUrl}/_calls?since=${since}`);
  return (await answer.json()).calls;
}

export async function lastCallId() {
  const all = await calls();
  return all.length ? all[all.length - 1].id : 0;
}

/** Waits for `condition(calls)`; a safety bound of ten seconds. */
export async function waitForCalls(since, condition) {
  for (let i = 0; i < 1000; i++) {
    const found = condition(await calls(since));
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('the stand-in never saw it');
}

/** A clean slate: no scripts in the stand-in, all circuits of the gateway closed. */
export async function reset() {
  await fetch(`${standinUrl}/_control`, { method: 'DELETE' });
  if (direct) return;
  for (const name of ['openai', 'anthropic', 'google']) {
    const answer = await fetch(`${url}/api/v1/admin/circuits/${name}/reset`, {
      method: 'POST', headers: { Authorization: `Bearer ${key}` },
    });
    if (!answer.ok) throw new Error(`reset of circuit ${name}: ${answer.status}`);
  }
}
