DROP TABLE document_extractions;
DROP TABLE documents;
