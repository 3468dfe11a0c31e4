DROP TABLE jobs;
DROP TABLE knowledge_chunks;
DROP TABLE knowledge_sources;
