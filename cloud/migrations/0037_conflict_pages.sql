-- +goose Up
-- What people did about a conflict before its present review: it is in the
-- audit log, and each conflict's page shows it.
CREATE INDEX audit_by_conflict ON holdfast.audit ((detail->>'conflict'), id) WHERE detail ? 'conflict';

-- +goose Down
DROP INDEX holdfast.audit_by_conflict;
