// The stand-in provider checks requests by the names in fields.json: they must be the vendors'.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { installedFields } from './fields.mjs';

test('fields.json says what the installed type definitions say', () => {
  const kept = JSON.parse(readFileSync(new URL('./fields.json', import.meta.url), 'utf8'));
  assert.deepEqual(kept, installedFields());
});
