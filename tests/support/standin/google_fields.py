"""Request shapes of the Google (Gemini Developer API) dialect.

Names and enumerations are those of the npm package `@google/genai` 2.32.0: dist/genai.d.ts, minus what
its converters to this API (the ...ToMldev functions) refuse as being only for the enterprise platform.
snake_case spellings are accepted as well, as by the vendor. The schema of `parameters` and
`responseSchema` is a closed list of keywords; `parametersJsonSchema` and `responseJsonSchema` are
JSON schema and open.
tests/sdk/fields.json holds the names, and test_standin_strict.py compares.
"""

from .fields import Any, Arr, Bool, Either, Int, Map, Num, Obj, Spec, Str, check

INT64 = Either(Int(), Str(pattern=r"-?\d+"))


def obj(fields):
    return Obj(fields, camel=True)


class SchemaRef(Spec):
    """The schema description itself, for its recursion."""

    json_type = "object"

    def check(self, value, path):
        check(SCHEMA, value, path)


TYPES = ["TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"]
SCHEMA = obj({
    "anyOf": Arr(SchemaRef()), "default": Any(), "description": Str(), "enum": Arr(Str()),
    "example": Any(), "format": Str(), "items": SchemaRef(), "maxItems": INT64, "maxLength": INT64,
    "maxProperties": INT64, "maximum": Num(), "minItems": INT64, "minLength": INT64,
    "minProperties": INT64, "minimum": Num(), "nullable": Bool(), "pattern": Str(),
    "properties": Map(SchemaRef()), "propertyOrdering": Arr(Str()), "required": Arr(Str()),
    "title": Str(), "type": Str(enum=TYPES + [t.lower() for t in TYPES]),
})

BLOB = obj({"data": Str(), "displayName": Str(), "mimeType": Str()})
FILE = obj({"displayName": Str(), "fileUri": Str(), "mimeType": Str()})
PROCESSING = Str(enum=["MEDIA_PROCESSING_UNSPECIFIED", "STATIC", "AGENTIC"])
FUNCTION_CALL = obj({"args": Map(), "id": Str(), "name": Str()})
FUNCTION_RESPONSE = obj({
    "id": Str(), "name": Str(), "response": Map(),
    "parts": Arr(obj({"fileData": FILE, "inlineData": BLOB, "mediaProcessing": PROCESSING})),
    "scheduling": Str(enum=["SCHEDULING_UNSPECIFIED", "SILENT", "WHEN_IDLE", "INTERRUPT"]),
    "willContinue": Bool(),
})
PART = obj({
    "mediaResolution": obj({"level": Str(), "numTokens": Int()}),
    "toolCall": Map(), "toolResponse": Map(), "audioTranscription": Map(),
    "codeExecutionResult": obj({"outcome": Str(), "output": Str(), "id": Str()}),
    "executableCode": obj({"code": Str(), "language": Str(), "id": Str()}),
    "fileData": FILE, "functionCall": FUNCTION_CALL, "functionResponse": FUNCTION_RESPONSE,
    "inlineData": BLOB, "text": Str(), "thought": Bool(), "thoughtSignature": Str(),
    "videoMetadata": obj({"endOffset": Str(), "fps": Num(), "startOffset": Str()}),
    "partMetadata": Map(), "mediaProcessing": PROCESSING,
    "speechMetadata": obj({"speaker": Str(), "style": Str()}),
})
#: exactly one of these makes a part
PART_DATA = ("text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode",
             "codeExecutionResult", "toolCall", "toolResponse", "audioTranscription")
CONTENT = obj({"parts": Arr(PART), "role": Str()})

FUNCTION_DECLARATION = obj({
    "behavior": Str(enum=["UNSPECIFIED", "BLOCKING", "NON_BLOCKING"]), "description": Str(),
    "name": Str(), "parameters": SCHEMA, "parametersJsonSchema": Any(), "response": SCHEMA,
    "responseJsonSchema": Any(),
})
TOOL = obj({
    "functionDeclarations": Arr(FUNCTION_DECLARATION), "googleSearch": Map(),
    "googleSearchRetrieval": Map(), "codeExecution": Map(), "computerUse": Map(), "urlContext": Map(),
    "fileSearch": Map(), "googleMaps": Map(), "mcpServers": Arr(Map()),
})
TOOL_CONFIG = obj({
    "functionCallingConfig": obj({
        "allowedFunctionNames": Arr(Str()),
        "mode": Str(enum=["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"]),
    }),
    "retrievalConfig": obj({"languageCode": Str(), "latLng": Map()}),
    "includeServerSideToolInvocations": Bool(),
})
LEVELS = ["THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH"]
THINKING_CONFIG = obj({
    "includeThoughts": Bool(), "thinkingBudget": Int(),
    "thinkingLevel": Str(enum=LEVELS + [level.lower() for level in LEVELS]),
})
GENERATION_CONFIG = obj({
    "temperature": Num(), "topP": Num(), "topK": Num(), "candidateCount": Int(),
    "maxOutputTokens": Int(), "stopSequences": Arr(Str()), "responseLogprobs": Bool(),
    "logprobs": Int(), "presencePenalty": Num(), "frequencyPenalty": Num(),
    "seed": Int(-(2**31), 2**31 - 1), "responseMimeType": Str(), "responseSchema": SCHEMA,
    "responseJsonSchema": Any(), "responseFormat": Arr(Map()), "responseModalities": Arr(Str(
        enum=["MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO", "VIDEO"])),
    "mediaResolution": Str(), "speechConfig": Map(), "thinkingConfig": THINKING_CONFIG,
    "audioTranscriptionConfig": Map(), "imageConfig": Map(), "enableEnhancedCivicAnswers": Bool(),
    "enableAffectiveDialog": Bool(), "translationConfig": Map(),
})
CATEGORIES = ["HARM_CATEGORY_" + c for c in (
    "UNSPECIFIED", "HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT",
    "CIVIC_INTEGRITY", "JAILBREAK", "IMAGE_HATE", "IMAGE_DANGEROUS_CONTENT", "IMAGE_HARASSMENT",
    "IMAGE_SEXUALLY_EXPLICIT")]
THRESHOLDS = ["HARM_BLOCK_THRESHOLD_UNSPECIFIED", "BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE",
              "BLOCK_ONLY_HIGH", "BLOCK_NONE", "OFF"]
GENERATE_FIELDS = {
    "contents": Arr(CONTENT), "model": Str(), "systemInstruction": CONTENT,
    "generationConfig": GENERATION_CONFIG, "tools": Arr(TOOL), "toolConfig": TOOL_CONFIG,
    "safetySettings": Arr(obj({"category": Str(enum=CATEGORIES), "threshold": Str(enum=THRESHOLDS)})),
    "cachedContent": Str(), "labels": Map(Str()), "serviceTier": Str(), "store": Bool(),
    "continuationToken": Str(),
}
GENERATE = obj(GENERATE_FIELDS)
COUNT = obj({"contents": Arr(CONTENT), "generateContentRequest": GENERATE})
EMBED = obj({"model": Str(), "content": CONTENT, "taskType": Str(enum=[
    "TASK_TYPE_UNSPECIFIED", "RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "SEMANTIC_SIMILARITY",
    "CLASSIFICATION", "CLUSTERING", "QUESTION_ANSWERING", "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY"]), "title": Str(), "outputDimensionality": Int(1)})
BATCH_EMBED = obj({"requests": Arr(EMBED, hi=100)})
