-- Chat history.
CREATE TABLE conversations (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id    uuid,
    title       text,
    provider    text,
    model       text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE messages (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    conversation_id  uuid NOT NULL REFERENCES conversations ON DELETE CASCADE,
    role             text NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
    content          text NOT NULL,
    tokens_in        bigint,
    tokens_out       bigint,
    provider         text,
    model            text,
    cost_nano_usd    bigint,
    request_id       text,
    created_at       timestamptz NOT NULL DEFAULT now()
);
