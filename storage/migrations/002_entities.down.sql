DROP TABLE entity_resolutions;
DROP TABLE document_entities;
DROP TABLE relationships;
DROP TABLE entity_aliases;
DROP TABLE entities;
