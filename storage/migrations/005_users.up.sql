-- People (and services) that may ask. id is the gateway's, user_id the name they are known by.
CREATE TABLE users (
    id             uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id        text NOT NULL UNIQUE CHECK (length(user_id) BETWEEN 1 AND 64),
    email          text CHECK (length(email) <= 320),
    password_hash  text,                  -- NULL: no password, keys only
    role           text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'admin')),
    disabled       boolean NOT NULL DEFAULT false,
    failed_logins  integer NOT NULL DEFAULT 0 CHECK (failed_logins >= 0),
    locked_until   timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);

-- Documents have files, which must go first: their owner is not deleted under them.
ALTER TABLE documents ADD CONSTRAINT documents_owner FOREIGN KEY (owner_id) REFERENCES users;
ALTER TABLE entities ADD CONSTRAINT entities_owner
    FOREIGN KEY (owner_id) REFERENCES users ON DELETE CASCADE;
ALTER TABLE commitments ADD CONSTRAINT commitments_owner
    FOREIGN KEY (owner_id) REFERENCES users ON DELETE CASCADE;
ALTER TABLE conversations ADD CONSTRAINT conversations_owner
    FOREIGN KEY (owner_id) REFERENCES users ON DELETE CASCADE;
