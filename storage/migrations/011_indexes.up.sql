-- The indexes of INDEX_RECOMMENDATIONS.md that no key or constraint brings along.
CREATE INDEX documents_owner_created ON documents (owner_id, created_at DESC) WHERE deleted_at IS NULL;
CREATE INDEX documents_owner_status ON documents (owner_id, status) WHERE deleted_at IS NULL;
CREATE INDEX entities_normalized_name ON entities (normalized_name) WHERE merged_into IS NULL;
CREATE INDEX entities_merged_into ON entities (merged_into) WHERE merged_into IS NOT NULL;
CREATE INDEX entity_aliases_normalized ON entity_aliases (normalized_alias);
CREATE INDEX relationships_to ON relationships (to_entity);
CREATE INDEX document_entities_entity ON document_entities (entity_id);
CREATE INDEX entity_resolutions_entity ON entity_resolutions (entity_id) WHERE entity_id IS NOT NULL;
CREATE INDEX commitments_owner_due ON commitments (owner_id, due_date) WHERE status = 'open';
CREATE INDEX commitments_owner_priority ON commitments (owner_id, priority_score DESC)
    WHERE status = 'open';
CREATE INDEX commitments_document ON commitments (document_id) WHERE document_id IS NOT NULL;
CREATE INDEX commitments_entity ON commitments (entity_id) WHERE entity_id IS NOT NULL;
CREATE INDEX conversations_owner_updated ON conversations (owner_id, updated_at DESC);
CREATE INDEX messages_conversation ON messages (conversation_id, created_at);
CREATE INDEX knowledge_sources_owner ON knowledge_sources (owner_id, created_at DESC);
CREATE INDEX knowledge_chunks_tsv ON knowledge_chunks USING gin (tsv);
CREATE INDEX jobs_waiting ON jobs (created_at) WHERE status IN ('queued', 'running');
CREATE INDEX jobs_owner ON jobs (owner_id, created_at DESC);
CREATE INDEX memories_owner ON memories (owner_id, conversation_id, created_at DESC);
CREATE INDEX memories_conversation ON memories (conversation_id) WHERE conversation_id IS NOT NULL;
CREATE INDEX memories_expiry ON memories (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX backup_runs_started ON backup_runs (started_at DESC);
