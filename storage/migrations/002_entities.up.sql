-- The graph: vendors, people and whatever else documents speak of, under which names, and how they relate.
CREATE TABLE entities (
    id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    owner_id         uuid,
    type             text NOT NULL,
    name             text NOT NULL,
    normalized_name  text NOT NULL,
    attributes       jsonb NOT NULL DEFAULT '{}',
    merged_into      uuid REFERENCES entities ON DELETE SET NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CHECK (merged_into <> id)
);
CREATE UNIQUE INDEX entities_owner_type_name ON entities (owner_id, type, normalized_name)
    NULLS NOT DISTINCT WHERE merged_into IS NULL;

CREATE TABLE entity_aliases (
    entity_id         uuid NOT NULL REFERENCES entities ON DELETE CASCADE,
    alias             text NOT NULL,
    normalized_alias  text NOT NULL,
    PRIMARY KEY (entity_id, normalized_alias)
);

CREATE TABLE relationships (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    from_entity  uuid NOT NULL REFERENCES entities ON DELETE CASCADE,
    to_entity    uuid NOT NULL REFERENCES entities ON DELETE CASCADE,
    type         text NOT NULL,
    attributes   jsonb NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (from_entity, to_entity, type)
);

CREATE TABLE document_entities (
    document_id  uuid NOT NULL REFERENCES documents ON DELETE CASCADE,
    entity_id    uuid NOT NULL REFERENCES entities ON DELETE CASCADE,
    role         text NOT NULL,
    score        real CHECK (score BETWEEN 0 AND 1),
    method       text,
    PRIMARY KEY (document_id, entity_id, role)
);

CREATE TABLE entity_resolutions (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    input           jsonb NOT NULL,
    entity_id       uuid REFERENCES entities ON DELETE SET NULL,
    score           real,
    method          text NOT NULL,
    prompt_version  text,
    created_at      timestamptz NOT NULL DEFAULT now()
);
