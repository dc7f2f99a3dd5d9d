-- Whom a token was sent to by name: events say so since the second version of their schema.
ALTER TABLE token_event_versions
    ADD COLUMN IF NOT EXISTS receiver Nullable(String) COMMENT 'CC*PID; null: whoever it concerns';
