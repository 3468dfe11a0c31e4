// The names in the vendors' type definitions, as far as the stand-in provider checks them.
//
//     node fields.mjs > fields.json        after an update of the packages
//
// fields.json stays in the tree so that the stand-in's tests need no packages; fields.test.mjs
// fails when it no longer says what the installed packages say.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const SOURCES = {
  openai: {
    'resources/chat/completions/completions.d.ts': [
      'ChatCompletionCreateParamsBase', 'ChatCompletionContentPartImage', 'ChatCompletionContentPartText',
      'ChatCompletionAssistantMessageParam', 'ChatCompletionToolMessageParam',
      'ChatCompletionUserMessageParam', 'ChatCompletionSystemMessageParam', 'ChatCompletionStreamOptions',
    ],
    'resources/responses/responses.d.ts': ['ResponseCreateParamsBase'],
    'resources/embeddings.d.ts': ['EmbeddingCreateParams'],
    'resources/shared.d.ts': ['FunctionDefinition'],
  },
  '@anthropic-ai/sdk': {
    'resources/messages/messages.d.ts': [
      'MessageCreateParamsBase', 'MessageCountTokensParams', 'TextBlockParam', 'ImageBlockParam',
      'DocumentBlockParam', 'SearchResultBlockParam', 'ToolUseBlockParam', 'ToolResultBlockParam',
      'ThinkingBlockParam', 'RedactedThinkingBlockParam', 'Tool', 'OutputConfig', 'ThinkingConfigEnabled',
      'ThinkingConfigAdaptive', 'ToolChoiceTool', 'ToolChoiceAuto', 'Metadata', 'CacheControlEphemeral',
    ],
  },
  '@google/genai': {
    'dist/genai.d.ts': [
      'Part', 'Content', 'Blob_2', 'FileData', 'FunctionCall', 'FunctionResponse', 'FunctionDeclaration',
      'FunctionCallingConfig', 'Tool', 'ToolConfig', 'Schema', 'GenerationConfig', 'ThinkingConfig',
    ],
  },
};

const modules = fileURLToPath(new URL('./node_modules/', import.meta.url));

function namesOf(text, name) {
  const head = new RegExp(`^(?:export )?(?:declare )?(?:interface|class) ${name}(?: extends \\w+)? \\{$`, 'm');
  const start = head.exec(text);
  if (!start) throw new Error(`${name} is not in the type definitions`);
  const body = text.slice(start.index, text.indexOf('\n}', start.index));
  const out = { required: [], optional: [] };
  for (const [, field, mark] of body.matchAll(/^    (\w+)(\??):/gm)) {
    out[mark ? 'optional' : 'required'].push(field);
  }
  return { required: out.required.sort(), optional: out.optional.sort() };
}

export function installedFields() {
  const out = {};
  for (const [name, files] of Object.entries(SOURCES)) {
    const { version } = JSON.parse(readFileSync(`${modules}${name}/package.json`, 'utf8'));
    out[name] = { version, types: {} };
    for (const [file, types] of Object.entries(files)) {
      const text = readFileSync(`${modules}${name}/${file}`, 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
      for (const type of types) out[name].types[type] = namesOf(text, type);
    }
  }
  return out;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.stdout.write(JSON.stringify(installedFields(), null, 1) + '\n');
}
