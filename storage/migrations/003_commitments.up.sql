-- What is to be done or paid, from documents or by hand.
CREATE TABLE commitments (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id          uuid,
    document_id       uuid REFERENCES documents ON DELETE SET NULL,
    entity_id         uuid REFERENCES entities ON DELETE SET NULL,
    title             text NOT NULL,
    amount            numeric(20, 4),
    currency          text CHECK (currency ~ '^[A-Z]{3}$'),
    due_date          date,
    status            text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'done', 'cancelled')),
    priority_score    real,
    priority_factors  jsonb,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);
