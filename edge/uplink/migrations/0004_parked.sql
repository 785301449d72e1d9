-- +goose Up
-- Changes from the region that this database refused. They wait, with what
-- comes later of the same row, and are tried again; the rest flows.
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
    ended_at    timestamptz,
    -- What the change is decided by when it is tried again.
    seen_epoch  bigint NOT NULL DEFAULT 0, -- how much of this box's own stream the region had seen when it made it
    seen_seq    bigint NOT NULL DEFAULT 0,
    made_by     text NOT NULL DEFAULT '',
    of_range    boolean NOT NULL DEFAULT false -- a row of a key range: what the region has, and not what it changed
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

-- +goose Down
DROP TABLE holdfast.parked_table, holdfast.parked;
