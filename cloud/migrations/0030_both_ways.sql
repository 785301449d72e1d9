-- +goose Up
-- Whose version stands when both sides changed a row without knowing of each
-- other, and whose a master row is.
ALTER TABLE holdfast.synced_table
    ADD COLUMN policy text NOT NULL DEFAULT 'edge' CHECK (policy IN ('edge', 'cloud', 'columns')),
    ADD COLUMN cloud_columns text[] NOT NULL DEFAULT '{}',
    ADD COLUMN tenant_column text NOT NULL DEFAULT '',
    ADD CHECK ((policy = 'columns') = (cloud_columns <> '{}'));

-- What the sender of a stream had seen of the receiver's own; the receiver of
-- the way up does not use it.
ALTER TABLE holdfast.position
    ADD COLUMN seen_epoch bigint NOT NULL DEFAULT 0,
    ADD COLUMN seen_seq bigint NOT NULL DEFAULT 0;

-- How far each facility has the way down on its disk, as it last said.
CREATE TABLE holdfast.down_position (
    facility    text PRIMARY KEY REFERENCES holdfast.facility (id) ON DELETE CASCADE,
    epoch       bigint NOT NULL,
    seq         bigint NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    -- heard is false until the facility has acknowledged something of it.
    heard       boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);

-- Tables whose rows are being sent down to a facility, by key ranges: a new
-- facility, a new table, a box that was replaced or was away for too long.
CREATE TABLE holdfast.down_load (
    facility    text NOT NULL REFERENCES holdfast.facility (id) ON DELETE CASCADE,
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    reason      text NOT NULL,
    load_after  jsonb,                   -- key of the last row sent, as text values
    rows_sent   bigint NOT NULL DEFAULT 0,
    load_no     bigint NOT NULL DEFAULT 0,
    asked_at    timestamptz NOT NULL DEFAULT now(),
    done_at     timestamptz,
    PRIMARY KEY (facility, schema_name, table_name),
    FOREIGN KEY (schema_name, table_name) REFERENCES holdfast.synced_table ON DELETE CASCADE
);

-- Both sides changed a row without knowing of each other. Written by the edge
-- when it decides, and synced up as an event like any other.
CREATE TABLE holdfast.conflict (
    id          uuid PRIMARY KEY,
    facility_id text NOT NULL,
    at          timestamptz NOT NULL,    -- when it was decided, by the box's clock
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    key         jsonb NOT NULL,          -- {column: value as text}
    kind        text NOT NULL,           -- insert_exists, update_differs, update_deleted, delete_updated
    policy      text NOT NULL,
    decision    text NOT NULL,           -- edge, cloud or merged
    edge_row    jsonb,                   -- {column: value as text}; NULL: there was no such row
    cloud_row   jsonb,                   -- the same; columns that were not sent are missing
    fields      text[] NOT NULL,         -- columns whose values differ
    edge_seq    text NOT NULL,           -- epoch:seq of the edge's change
    cloud_seq   text NOT NULL,           -- epoch:seq of the cloud's change
    edge_at     timestamptz,             -- when each side committed, by its own clock
    cloud_at    timestamptz,
    edge_by     text NOT NULL DEFAULT '', -- who, where the application says so
    cloud_by    text NOT NULL DEFAULT ''
);
CREATE INDEX conflict_by_time ON holdfast.conflict (at DESC, id);
CREATE INDEX conflict_by_facility ON holdfast.conflict (facility_id, at DESC, id);

-- What people did about a conflict. It is the region's own.
CREATE TABLE holdfast.conflict_review (
    conflict    uuid PRIMARY KEY,
    action      text NOT NULL CHECK (action IN ('acknowledged', 'restored')),
    by          text NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    note        text NOT NULL DEFAULT ''
);

-- Changes that could not be applied. The key's later changes wait behind it,
-- in the order of id, and so do the rows that refer to it; everything else flows.
CREATE TABLE holdfast.parked (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    facility    text NOT NULL,
    direction   text NOT NULL CHECK (direction IN ('up', 'down')),
    epoch       bigint NOT NULL,
    seq         bigint NOT NULL,
    schema_name text NOT NULL,           -- of the sender's table
    table_name  text NOT NULL,
    key         jsonb NOT NULL,          -- {column: value as text}
    key_hash    bytea NOT NULL,          -- of table and key, to find what waits behind it
    op          text NOT NULL CHECK (op IN ('insert', 'update', 'delete')),
    row         jsonb,                   -- {column: value as text}; columns that were not sent are missing
    old_key     jsonb,                   -- of an update that changed the key
    old_key_hash bytea,
    provides    bytea[] NOT NULL DEFAULT '{}', -- what rows that refer to this one wait for
    waits_for   bytea[] NOT NULL DEFAULT '{}', -- what rows that were parked before provide
    columns     jsonb NOT NULL,          -- [{name, type, key}] as the sender has them
    bytes       integer NOT NULL,        -- of the values
    commit_at   timestamptz,
    reason      text NOT NULL,           -- unique, check, not_null, exclusion, type, missing_table, missing_column, privilege, foreign, behind, parent, other
    code        text NOT NULL DEFAULT '', -- SQLSTATE
    constraint_name text NOT NULL DEFAULT '',
    message     text NOT NULL,
    remedy      text NOT NULL DEFAULT '',
    parked_at   timestamptz NOT NULL DEFAULT now(),
    attempts    integer NOT NULL DEFAULT 0,
    tried_at    timestamptz,
    edited_by   text NOT NULL DEFAULT '',
    state       text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'applied', 'discarded', 'replaced')), -- replaced: by a newer image of the table's rows
    ended_by    text NOT NULL DEFAULT '', -- who discarded it
    ended_at    timestamptz
);
CREATE INDEX parked_waiting ON holdfast.parked (facility, direction, id) WHERE state = 'waiting';
CREATE INDEX parked_by_time ON holdfast.parked (parked_at DESC, id);

-- Tables of which more changes could not be applied than are kept: further
-- ones are passed over, and the facility sends the table again when the cause
-- is gone.
CREATE TABLE holdfast.parked_table (
    facility    text NOT NULL,
    direction   text NOT NULL CHECK (direction IN ('up', 'down')),
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    reason      text NOT NULL,
    message     text NOT NULL,
    remedy      text NOT NULL DEFAULT '',
    since       timestamptz NOT NULL DEFAULT now(),
    passed_over bigint NOT NULL DEFAULT 0,   -- changes
    columns     jsonb NOT NULL,              -- [{name, type, key}] as the sender has them
    asked_at    timestamptz,                 -- when the facility was asked to send it again
    PRIMARY KEY (facility, direction, schema_name, table_name)
);

-- The last comparison of each table at each facility.
CREATE TABLE holdfast.verified (
    facility    text NOT NULL REFERENCES holdfast.facility (id) ON DELETE CASCADE,
    schema_name text NOT NULL,
    table_name  text NOT NULL,
    pass_no     bigint NOT NULL DEFAULT 0,     -- counts the passes over the table
    began_at    timestamptz,                   -- of the pass that is under way
    rows_done   bigint NOT NULL DEFAULT 0,
    walk_after  jsonb,                         -- key up to which it has come, as text values
    found       jsonb NOT NULL DEFAULT '[]',   -- [{kind, key}] of the rows that it found to differ, the first of them
    found_count bigint NOT NULL DEFAULT 0,
    equal_at    timestamptz,                   -- when a whole pass last found no difference
    equal_seq   text NOT NULL DEFAULT '',      -- epoch:seq of the way up at its end
    equal_rows  bigint NOT NULL DEFAULT 0,
    differing   bigint NOT NULL DEFAULT 0,     -- rows that differed in the last whole pass
    differences jsonb NOT NULL DEFAULT '[]',   -- the first of them, as found
    repaired    bigint NOT NULL DEFAULT 0,     -- of these, mended since
    problem     text NOT NULL DEFAULT '',      -- why the table cannot be compared
    remedy      text NOT NULL DEFAULT '',
    ended_at    timestamptz,
    PRIMARY KEY (facility, schema_name, table_name),
    FOREIGN KEY (schema_name, table_name) REFERENCES holdfast.synced_table ON DELETE CASCADE
);

INSERT INTO holdfast.synced_table (schema_name, table_name, class, facility_column, region_schema, added_by)
    VALUES ('holdfast', 'conflict', 'event', 'facility_id', '{schema}', 'holdfast');
SELECT nextval('holdfast.synced_table_version');

-- +goose Down
DELETE FROM holdfast.synced_table WHERE schema_name = 'holdfast';
DROP TABLE holdfast.verified, holdfast.parked_table, holdfast.parked, holdfast.conflict_review, holdfast.conflict, holdfast.down_load, holdfast.down_position;
ALTER TABLE holdfast.position DROP COLUMN seen_epoch, DROP COLUMN seen_seq;
ALTER TABLE holdfast.synced_table DROP COLUMN policy, DROP COLUMN cloud_columns, DROP COLUMN tenant_column;
