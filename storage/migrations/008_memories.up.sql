-- The durable part of the companion's memory.
CREATE TABLE memories (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id         uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    conversation_id  uuid REFERENCES conversations ON DELETE CASCADE,
    kind             text NOT NULL DEFAULT 'note',
    content          text NOT NULL,
    embedding        real[],
    expires_at       timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now()
);
