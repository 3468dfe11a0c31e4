ALTER TABLE conversations DROP CONSTRAINT conversations_owner;
ALTER TABLE commitments DROP CONSTRAINT commitments_owner;
ALTER TABLE entities DROP CONSTRAINT entities_owner;
ALTER TABLE documents DROP CONSTRAINT documents_owner;
DROP TABLE users;
