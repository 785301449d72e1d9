-- +goose Up
ALTER TABLE holdfast.synced_table
    ADD COLUMN policy text NOT NULL DEFAULT 'edge',
    ADD COLUMN cloud_columns text[] NOT NULL DEFAULT '{}',
    ADD COLUMN tenant_column text NOT NULL DEFAULT '';

-- How far the region's changes have been applied here, and how much of this
-- box's own stream the region had seen when it made them. Written in the same
-- transaction as the rows.
CREATE TABLE holdfast.position (
    facility    text PRIMARY KEY,
    epoch       bigint NOT NULL,
    seq         bigint NOT NULL,
    source_lsn  pg_lsn NOT NULL DEFAULT '0/0',
    source_commit_at timestamptz,
    applied_at  timestamptz NOT NULL DEFAULT now(),
    seen_epoch  bigint NOT NULL DEFAULT 0,
    seen_seq    bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE holdfast.stream_event (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    facility    text NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    kind        text NOT NULL,
    epoch       bigint NOT NULL DEFAULT 0,
    seq         bigint NOT NULL DEFAULT 0,
    detail      text NOT NULL
);

-- Both sides changed a row without knowing of each other: what was decided, and
-- the version that did not stand. Synced up as an event like any other.
CREATE TABLE holdfast.conflict (
    id          uuid PRIMARY KEY,
    facility_id text NOT NULL,
    at          timestamptz NOT NULL,
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    key         jsonb NOT NULL,          -- {column: value as text}
    kind        text NOT NULL,
    policy      text NOT NULL,
    decision    text NOT NULL,           -- edge, cloud or merged
    edge_row    jsonb,
    cloud_row   jsonb,
    fields      text[] NOT NULL,
    edge_seq    text NOT NULL,
    cloud_seq   text NOT NULL,
    edge_at     timestamptz,
    cloud_at    timestamptz,
    edge_by     text NOT NULL DEFAULT '',
    cloud_by    text NOT NULL DEFAULT ''
);

-- +goose Down
DROP TABLE holdfast.conflict, holdfast.stream_event, holdfast.position;
ALTER TABLE holdfast.synced_table DROP COLUMN policy, DROP COLUMN cloud_columns, DROP COLUMN tenant_column;
