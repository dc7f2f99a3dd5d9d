"""The words of Voltfold: OCPI objects, events, records, their Avro schemas, and the topics they live in."""
